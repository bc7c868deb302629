//! What QEMU's own program says of our images, and what we read of its.

use std::{path::Path, process::Command};

use testkit::need;

use super::*;

fn qemu_img(arguments: &[&str], dir: &Path) -> Option<String> {
    let program = need::tool("qemu-img")?;
    let output = Command::new(program).args(arguments).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Bytes that neither repeat within a cluster nor compress away entirely.
fn pattern(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| u64::from(next() % 1000).to_le_bytes()).collect()
}

fn open_path(dir: &Path, name: &str) -> Disk {
    use chain::{Backings, Format};
    let layers = chain::open(&dir.join(name), Format::Qcow2, true, Backings::Beside).unwrap();
    Disk::new(chain::image(layers, true).unwrap())
}

#[test]
fn qemu_reads_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let base = pattern(3 << 20, 5);
    std::fs::write(dir.join("base"), &base).unwrap();
    create(&File::create_new(dir.join("ours")).unwrap(), 5 << 20, backing()).unwrap();
    let mut image = open_path(dir, "ours");
    let data = pattern(300 * 512, 9);
    image.write(1000, &data);
    image.write(10_000, &data[..51_200]);
    image.clear(13, 3000, 500, 1);
    image.clear(11, 10_050, 10, 0);
    image.clear(11, 0, 128, 0);
    let want = image.read(0, 5 * 2048);
    drop(image);
    let Some(said) = qemu_img(&["check", "--output=json", "ours"], dir) else { return };
    assert!(!said.contains("leaks") && !said.contains("corruptions"), "{said}");
    qemu_img(&["convert", "-O", "raw", "ours", "raw"], dir);
    assert!(std::fs::read(dir.join("raw")).unwrap() == want);
    let info = qemu_img(&["info", "--output=json", "ours"], dir).unwrap();
    assert!(info.contains(r#""backing-filename-format": "raw""#), "{info}");
}

#[test]
fn qemu_reads_what_was_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut packing = Packing::new(File::create_new(dir.join("ours")).unwrap());
    let data = pattern(300_000, 9);
    let mut want = vec![0; 700 << 20];
    for at in [0, 5_000_000, (700 << 20) - data.len()] {
        packing.write_at(&data, at as u64).unwrap();
        want[at..at + data.len()].copy_from_slice(&data);
    }
    packing.finish(want.len() as u64).unwrap();
    let Some(said) = qemu_img(&["check", "--output=json", "ours"], dir) else { return };
    assert!(!said.contains("leaks") && !said.contains("corruptions"), "{said}");
    qemu_img(&["convert", "-O", "raw", "ours", "raw"], dir);
    assert!(std::fs::read(dir.join("raw")).unwrap() == want);
}

#[test]
fn we_read_and_write_what_qemu_makes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let plain = pattern(4 << 20, 3);
    std::fs::write(dir.join("plain"), &plain).unwrap();
    let kinds: [&[&str]; 9] = [
        &["-o", "compat=0.10"],
        &["-o", "compat=1.1"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "refcount_bits=1"],
        &["-o", "refcount_bits=64,cluster_size=4k"],
        &["-o", "lazy_refcounts=on"],
        &["-c"],
        &["-c", "-o", "compression_type=zstd,cluster_size=16k"],
    ];
    for kind in kinds {
        let _ = std::fs::remove_file(dir.join("theirs"));
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        arguments.extend(kind);
        arguments.extend(["plain", "theirs"]);
        if qemu_img(&arguments, dir).is_none() {
            return;
        }
        let mut image = open_path(dir, "theirs");
        let mut want = plain.clone();
        assert!(image.read(0, 4 * 2048) == plain, "{kind:?}");
        for sector in [0u64, 77, 127, 128, 4000, 8191] {
            image.write(sector, &[sector as u8; 512]);
            let at = usize::try_from(sector * 512).unwrap();
            want[at..at + 512].fill(sector as u8);
        }
        image.clear(13, 5000, 1000, 1);
        want[5000 * 512..6000 * 512].fill(0);
        drop(image);
        let said = qemu_img(&["check", "--output=json", "theirs"], dir).unwrap();
        assert!(!said.contains("leaks") && !said.contains("corruptions"), "{kind:?} {said}");
        qemu_img(&["convert", "-O", "raw", "theirs", "raw"], dir);
        assert!(std::fs::read(dir.join("raw")).unwrap() == want, "{kind:?}");
    }
}

#[test]
fn an_image_with_snapshots_is_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if qemu_img(&["create", "-f", "qcow2", "kept", "1M"], dir).is_none() {
        return;
    }
    open_path(dir, "kept").write(3, &[5; 512]);
    qemu_img(&["snapshot", "-c", "first", "kept"], dir);
    let file = File::options().read(true).write(true).open(dir.join("kept")).unwrap();
    assert!(matches!(open(&file, true, None), Err(OpenError::Unwritable(_))));
    let mut image = Disk::new(Image::Qcow2(Box::new(open(&file, false, None).unwrap())));
    assert_eq!(image.read(3, 1), [5; 512]);
}
