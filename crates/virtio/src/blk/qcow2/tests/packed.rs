//! Images that were written once.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::blk::qcow2::Packing;

/// What was written to which place of a disk of so many bytes, read back by our own reader.
fn check(bytes: u64, writes: &[(u64, Vec<u8>)]) -> File {
    let mut packing = Packing::new(scratch());
    let mut want = vec![0; usize::try_from(bytes).unwrap()];
    for (at, data) in writes {
        packing.write_at(data, *at).unwrap();
        want[usize::try_from(*at).unwrap()..][..data.len()].copy_from_slice(data);
    }
    let file = packing.finish(bytes).unwrap();
    audit::clean(&file);
    let image = Qcow2::open(file.try_clone().unwrap(), true, None).unwrap();
    assert_eq!(image.bytes(), bytes);
    let mut disk = Disk::new(Image::Qcow2(Box::new(image)));
    assert!(disk.read(0, want.len() / 512) == want);
    file
}

#[test]
fn clusters_that_nobody_wrote_are_not_in_the_file() {
    let file = check(16 << 20, &[]);
    assert!(file.metadata().unwrap().len() <= 5 << 16);
    let file = check(16 << 20, &[(10 << 20, vec![7; 10]), (512, vec![3; 513])]);
    // Header, two clusters, their table, the first table, counts and the table of those.
    assert_eq!(file.metadata().unwrap().len(), 7 << 16);
}

#[test]
fn what_cannot_be_is_refused() {
    let write = |at| {
        let mut packing = Packing::new(scratch());
        packing.write_at(&[1], at).map(|()| packing)
    };
    assert!(write(1 << 50).is_err() && write(u64::MAX).is_err());
    for bytes in [0, 513, 1 << 16, 1 << 60] {
        let finished = write(1 << 16).unwrap().finish(bytes);
        assert!(matches!(finished, Err(CreateError::Size { .. })), "{bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_was_written_is_read(
        writes in vec((0..3_000_000u64, vec(any::<u8>(), 1..200_000)), 0..8),
    ) {
        check(4 << 20, &writes);
    }
}
