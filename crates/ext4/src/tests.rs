//! What others say of what is written.

use std::process::Command;

use proptest::prelude::*;
use testkit::need;

use super::*;

const WHO: Identity = Identity { uuid: *b"wythe-test-uuid!", hash_seed: [7; 16] };

fn made(bytes: u64) -> tempfile::NamedTempFile {
    let disk = tempfile::NamedTempFile::new().unwrap();
    format(bytes, &WHO).unwrap().write_to(disk.as_file()).unwrap();
    disk
}

/// What `e2fsck` says of a disk; `None` if it is content.
fn complaint(disk: &std::path::Path) -> Option<String> {
    let said = Command::new("e2fsck").args(["-f", "-n"]).arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    (!said.status.success()).then_some(text)
}

#[test]
fn e2fsck_has_nothing_to_say_at_any_size() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let group = groups::GROUP_BLOCKS * BLOCK;
    let odd = [BYTES_MIN, BYTES_MIN + 1, group - BLOCK, group, group + BLOCK, group + 600 * BLOCK];
    for bytes in odd.into_iter().chain([3 * group, 10 << 30, 300 << 30]) {
        let disk = made(bytes);
        assert_eq!(complaint(disk.path()), None, "{bytes} bytes");
        let taken = std::os::unix::fs::MetadataExt::blocks(&disk.as_file().metadata().unwrap());
        // Descriptors and their copies grow with the disk, nothing else does.
        assert!(taken * 512 <= (1 << 20) + bytes / 50_000, "{bytes} bytes take {taken} sectors");
    }
}

#[test]
fn a_size_that_cannot_be_is_refused() {
    for bytes in [0, BYTES_MIN - 1, BYTES_MAX + 1, u64::MAX] {
        assert_eq!(format(bytes, &WHO), Err(SizeError(bytes)));
    }
}

#[test]
fn linux_mounts_it_and_keeps_what_is_written() {
    if !need::root() || need::tool("e2fsck").is_none() || need::tool("mount").is_none() {
        return;
    }
    let disk = made(200 << 20);
    let at = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: nothing stays mounted, whatever happens.
    let script = "mount -o loop \"$0\" \"$1\" && mkdir \"$1/upper\" && \
                  head -c 50000000 /dev/zero > \"$1/upper/file\" && \
                  for n in $(seq 300); do : > \"$1/upper/$n\"; done && \
                  setfattr -n trusted.x -v y \"$1/upper\" 2>/dev/null; \
                  ls \"$1/upper\" | wc -l && umount \"$1\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script]).arg(disk.path()).arg(at.path());
    let ran = unshare.output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "301");
    assert_eq!(complaint(disk.path()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_do_not_overlap_and_lie_on_the_disk(bytes in BYTES_MIN..=1 << 36) {
        let image = format(bytes, &WHO).unwrap();
        let mut pieces: Vec<_> =
            image.pieces.iter().map(|(at, bytes)| (*at, at + bytes.len() as u64)).collect();
        pieces.sort_unstable();
        prop_assert!(pieces.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        prop_assert!(pieces.iter().all(|(_, end)| *end <= bytes));
    }
}
