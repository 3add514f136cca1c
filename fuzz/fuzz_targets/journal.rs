//! The journal: junk in it is counted, and hides nothing of what is sound.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use receiver::app::journal::History;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(history) = History::parse(bytes, Path::new("/srv/app/receiver/journal.jsonl")) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!(history.entries().len() <= lines);
        let _ = (history.pinned(), history.locked(), history.last_deploy());
    }
});
