//! Any bytes as steps: the in-memory store and its model have the same results.

#![no_main]

use libfuzzer_sys::fuzz_target;

use portcullis_testkit::model;

/// The maximum input: longer sequences of steps find nothing more and are slow.
const MAX_BYTES: usize = 60 * 10;

fuzz_target!(|data: &[u8]| {
    let data = data.get(..MAX_BYTES).unwrap_or(data);
    model::run(&model::Step::decode(data), None);
});
