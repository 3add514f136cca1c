//! What git tells a hook: a line for each ref; and the options of a push.
#![no_main]

use libfuzzer_sys::fuzz_target;
use receiver::deploy::hook;
use receiver::support::text::printable;

fuzz_target!(|input: &[u8]| {
    if let Ok(updates) = hook::updates(input) {
        assert!(updates.iter().all(|update| printable(&update.name) == update.name));
    }
    let options: Vec<String> =
        input.split(|byte| *byte == 0).map(|option| String::from_utf8_lossy(option).into_owned()).collect();
    let _ = hook::asked(|name| match name {
        "GIT_PUSH_OPTION_COUNT" => Some(options.len().to_string()),
        name => options.get(name.strip_prefix("GIT_PUSH_OPTION_")?.parse::<usize>().ok()?).cloned(),
    });
});
