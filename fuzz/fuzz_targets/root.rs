//! What is asked of the root service.
#![no_main]

use libfuzzer_sys::fuzz_target;
use receiver::root::Request;
use receiver::server::wire;

fuzz_target!(|text: &[u8]| {
    match wire::read::<Request>(text) {
        Ok(Request::MakeBranch { app, branch }) => {
            assert!(!app.as_str().contains(['/', '.']) && !branch.as_str().contains(".."));
        }
        Ok(Request::EndBranch { app, .. } | Request::SweepBranches { app }) => {
            assert!(!app.as_str().contains(['/', '.']));
        }
        Ok(Request::GiveShared { path, .. }) => assert!(path.as_path().is_relative()),
        _ => {}
    }
});
