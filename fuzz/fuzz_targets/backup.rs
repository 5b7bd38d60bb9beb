//! Any bytes as a backup, as they are and under a right hash: nothing panics, and what is found
//! good is good again.

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
