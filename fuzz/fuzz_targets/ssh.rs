//! What comes over ssh: whatever it is, it is read as something that is on the list, or refused with a sentence.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use receiver::server::wish::{self, Wish};
use receiver::support::text::printable;

fuzz_target!(|command: &[u8]| {
    match wish::read(command, Path::new("/srv")) {
        Ok(Wish::Git { app, .. } | Wish::Mercurial { app }) => {
            assert!(app.parent().is_none() && !app.as_str().contains(['/', '.']));
        }
        Ok(Wish::Command(words)) => {
            assert!(words.iter().all(|word| printable(word) == *word) && !words.is_empty());
        }
        Ok(Wish::Shell) => {}
        Err(error) => assert_eq!(printable(&error.to_string()), error.to_string()),
    }
});
