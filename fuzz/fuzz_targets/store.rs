//! Any bytes as steps of a walk: the store in memory does as its model does.

#![no_main]

use libfuzzer_sys::fuzz_target;

use portcullis_testkit::model;

/// Longer walks find nothing that shorter ones do not, and take their time.
const LONGEST: usize = 60 * 10;

fuzz_target!(|data: &[u8]| {
    let data = data.get(..LONGEST).unwrap_or(data);
    model::run(&model::Step::decode(data), None);
});
