//! What is asked over the socket of receiver's own account.
#![no_main]

use libfuzzer_sys::fuzz_target;
use receiver::server::wire::{self, Ask, Done, Pass};

fuzz_target!(|text: &[u8]| {
    if let Ok(ask) = wire::read::<Ask>(text) {
        assert!(ask.key.is_none_or(|key| key.as_str().len() <= 32 && !key.as_str().contains(['/', ' '])));
    }
    let _ = (wire::read::<Pass>(text), wire::read::<Done>(text));
});
