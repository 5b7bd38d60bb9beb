//! Property tests: the store and a naive model execute the same random steps with the same results.

use portcullis_testkit::model::{Step, run};
use proptest::{collection::vec, prelude::*};

fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(any::<[u8; 10]>(), 1..=max).prop_map(|bytes| Step::decode(bytes.as_flattened()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_store_equals_the_model(steps in steps(60)) {
        run(&steps, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn store_on_disk_equals_the_model_over_reopens(steps in steps(25)) {
        let dir = tempfile::tempdir().unwrap();
        run(&steps, Some(&dir.path().join("keys")));
    }
}
