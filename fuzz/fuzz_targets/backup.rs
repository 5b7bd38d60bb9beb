//! Any bytes as a backup, unchanged and with a valid hash: nothing panics, and verifying a valid backup
//! again has the same result.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{Offline, fuzzing};

fuzz_target!(|data: &[u8]| {
    let offline = Offline::new();
    let _ = offline.verify_backup(data, |_| ());
    let sealed = fuzzing::seal_backup(data);
    if let Ok(summary) = offline.verify_backup(&sealed[..], |_| ()) {
        assert_eq!(summary.bytes, sealed.len() as u64);
        let again = offline.verify_backup(&sealed[..], |_| ());
        assert_eq!(again.ok(), Some(summary));
    }
});
