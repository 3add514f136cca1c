//! Both `receiver.toml`: the repository's up to a zero byte, the server's after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use receiver::app::settings::Settings;
use receiver::support::text::printable;

fuzz_target!(|bytes: &[u8]| {
    let mut files = bytes.splitn(2, |byte| *byte == 0);
    let (repository, server) = (files.next(), files.next());
    match Settings::load(repository, server, "the server's receiver.toml") {
        Ok(settings) => drop(settings.explain()),
        Err(error) => {
            let text = error.render();
            assert!(text.lines().all(|line| printable(line) == line), "{text:?}");
        }
    }
});
