//! Images that grow.

use super::*;

#[test]
fn an_image_grows_and_keeps_what_it_has() {
    // 64 entries fit in a table of 512 bytes, each for 32 KiB: from 4 MiB on it has to move.
    for (version, steps) in [(2, [3, 4, 9]), (3, [2, 5, 300])] {
        let file = small(2048, version, None);
        let mut image = disk(&file, None);
        image.write(2000, &[7; 10 * 512]);
        drop(image);
        for mebibytes in steps {
            grow(&file, mebibytes << 20).unwrap();
            audit::clean(&file);
            let mut image = disk(&file, None);
            assert_eq!(image.read(2000, 10), [7; 10 * 512]);
            let last = (mebibytes << 11) - 1;
            assert_eq!(image.read(last, 1), [0; 512]);
            image.write(last, &[8; 512]);
            drop(image);
            audit::clean(&file);
            assert_eq!(disk(&file, None).read(last, 1), [8; 512]);
        }
    }
}

#[test]
fn what_stood_behind_the_table_is_no_table() {
    let file = small(2048, 3, None);
    let header = read_header(&file).unwrap();
    // Entries beyond the 32 of 1 MiB are nobody's, whatever they say.
    file.write_all_at(&(1u64 << 63 | 512).to_be_bytes(), header.l1_at + 40 * 8).unwrap();
    grow(&file, 2 << 20).unwrap();
    assert_eq!(disk(&file, None).read(40 * 64, 1), [0; 512]);
}

#[test]
fn an_image_that_cannot_grow_stays_as_it_is() {
    let file = small(2048, 3, None);
    let before = bytes_of(&file);
    for bytes in [0, 512, 1 << 62, (1 << 20) + 1] {
        assert!(matches!(grow(&file, bytes), Err(GrowError::Size { .. })), "{bytes}");
    }
    assert!(bytes_of(&file) == before);
    assert!(matches!(grow(&small(2048, 3, backing()), 2 << 20), Err(GrowError::Backing)));
    assert!(grow(&scratch(), 2 << 20).is_err());
}

#[test]
fn qemu_finds_nothing_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.path().join("image"))
        .unwrap();
    create(&file, 1 << 30, None).unwrap();
    // More than one cluster of the first table covers: 4 TiB.
    for bytes in [3 << 30, 9 << 40] {
        grow(&file, bytes).unwrap();
        let Some(program) = testkit::need::tool("qemu-img") else { return };
        let mut check = std::process::Command::new(program);
        check.args(["check", "--output=json", "image"]).current_dir(&dir);
        let out = check.output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && !said.contains("leaks"), "{out:?}");
    }
}
