//! Snapshots that somebody has made up.

use proptest::prelude::*;

#[test]
fn a_description_that_nobody_changed_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let restored = |bytes: &[u8]| vm::fuzzing::snapshot(&softcpu::Soft, dir.path(), bytes);
    assert!(restored(&[]));
    let text = std::fs::read(dir.path().join("machine.json")).unwrap();
    assert!(restored(&text));
    // The first field of the outermost object is the machine, which becomes nothing.
    assert!(!restored(&[0, 0, 0, 0, 0, 0][..2]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_description_hurts(script in prop::collection::vec(any::<u8>(), 6..48)) {
        let dir = tempfile::tempdir().unwrap();
        vm::fuzzing::snapshot(&softcpu::Soft, dir.path(), &script);
    }
}
