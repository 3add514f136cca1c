//! A public key: what is taken for one is the same when it is read again, and stands on a line of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use receiver::server::pubkey::PublicKey;
use receiver::support::text::printable;

fuzz_target!(|text: &[u8]| {
    match PublicKey::parse(text) {
        Ok(key) => {
            let words = key.words();
            assert_eq!(PublicKey::parse(words.as_bytes()).ok(), Some(key));
            assert_eq!(words.split(' ').count(), 2);
            assert!(words.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic() && byte != b'"'));
        }
        Err(error) => assert_eq!(printable(&error.to_string()), error.to_string()),
    }
});
