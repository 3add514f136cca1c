//! The record of a release.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use receiver::app::record::Record;

fuzz_target!(|text: &str| {
    let _ = Record::parse(text, Path::new("/srv/app/versions/0/x.toml"));
});
