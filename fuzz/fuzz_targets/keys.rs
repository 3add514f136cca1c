//! The file of keys, and the lines of `authorized_keys` that are made of it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use receiver::server::keys::{Keys, line};

fuzz_target!(|text: &str| {
    let Ok(keys) = Keys::parse(text, Path::new("/srv/.receiver/keys.toml")) else { return };
    for key in keys.all() {
        let line = line(key, Path::new("/usr/bin/receiver"), Path::new("/srv")).unwrap();
        assert!(line.starts_with("restrict,pty,command=\"/usr/bin/receiver --root /srv shell "));
        assert!(!line.contains('\n') && line.matches('"').count() == 2);
    }
});
