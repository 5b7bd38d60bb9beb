//! Random walks: the store and its model take the same steps and never part.

use portcullis_testkit::model::{Step, run};
use proptest::{collection::vec, prelude::*};

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(any::<[u8; 10]>(), 1..=longest).prop_map(|bytes| Step::decode(bytes.as_flattened()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_store_in_memory_does_as_the_model_does(steps in steps(60)) {
        run(&steps, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_disk_does_as_the_model_does_over_reopenings(steps in steps(25)) {
        let dir = tempfile::tempdir().unwrap();
        run(&steps, Some(&dir.path().join("keys")));
    }
}
