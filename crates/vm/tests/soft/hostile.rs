//! Snapshots that somebody has made up.

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_description_hurts(script in prop::collection::vec(any::<u8>(), 6..48)) {
        let dir = tempfile::tempdir().unwrap();
        vm::fuzzing::snapshot(&softcpu::Soft, dir.path(), &script);
    }
}
