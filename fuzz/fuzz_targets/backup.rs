//! Any bytes as a backup, as they are and under a right hash: nothing panics, and what is found
//! good is good again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{Store, fuzzing};

fuzz_target!(|data: &[u8]| {
    let builder = Store::builder();
    let _ = builder.verify_backup(data, |_| ());
    let sealed = fuzzing::seal_backup(data);
    if let Ok(summary) = builder.verify_backup(&sealed[..], |_| ()) {
        assert_eq!(summary.bytes, sealed.len() as u64);
        let again = builder.verify_backup(&sealed[..], |_| ());
        assert_eq!(again.ok(), Some(summary));
    }
});
