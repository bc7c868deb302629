//! Images that are made, written, cut off, damaged, and compared with what QEMU makes of them.

mod audit;
mod damaged;
mod grow;
mod model;
mod packed;
mod qemu;

use std::{fs::File, os::unix::fs::FileExt as _};

use super::*;
use crate::{
    blk::{Blk, Options, Raw, SECTOR, chain},
    testing::{Buffer, Rig},
};

/// A disk of a rig that is read and written by sectors.
pub(super) struct Disk {
    rig: Rig<Blk>,
}

impl Disk {
    fn new(image: Image) -> Disk {
        let disk = Blk::new(image, &Options::default()).unwrap();
        let offered = crate::Device::features(&disk);
        Disk { rig: Rig::new(disk, offered & (1 << 9 | 1 << 13 | 1 << 14)) }
    }

    fn ask(&mut self, kind: u32, sector: u64, buffer: Buffer<'_>) -> (u8, Vec<u8>) {
        let mut header = [kind.to_le_bytes(), [0; 4]].concat();
        header.extend(sector.to_le_bytes());
        let buffers = [Buffer::Read(&header), buffer, Buffer::Write(1)];
        let mut bytes = self.rig.request(0, &buffers).unwrap().bytes;
        (bytes.pop().unwrap(), bytes)
    }

    fn try_read(&mut self, sector: u64, sectors: usize) -> Option<Vec<u8>> {
        let (status, bytes) = self.ask(0, sector, Buffer::Write(sectors * 512));
        (status == 0).then_some(bytes)
    }

    fn read(&mut self, sector: u64, sectors: usize) -> Vec<u8> {
        let mut all = Vec::new();
        // A rig has no room for more at once.
        for done in (0..sectors).step_by(512) {
            let read = self.try_read(sector + done as u64, (sectors - done).min(512));
            all.extend(read.unwrap_or_else(|| panic!("{:?}", self.error())));
        }
        all
    }

    fn error(&mut self) -> Option<io::Error> {
        self.rig.with(|disk, _| disk.take_error())
    }

    fn try_write(&mut self, sector: u64, bytes: &[u8]) -> bool {
        self.ask(1, sector, Buffer::Read(bytes)).0 == 0
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) {
        assert!(self.try_write(sector, bytes), "{:?}", self.error());
    }

    fn flush(&mut self) {
        assert_eq!(self.ask(4, 0, Buffer::Read(&[])).0, 0, "{:?}", self.error());
    }

    /// 11 discards, 13 writes zeros, with the flag 1 as holes.
    fn clear(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) {
        let mut range = sector.to_le_bytes().to_vec();
        range.extend(sectors.to_le_bytes());
        range.extend(flags.to_le_bytes());
        assert_eq!(self.ask(kind, 0, Buffer::Read(&range)).0, 0, "{:?}", self.error());
    }
}

/// A file in memory, so that syncing it costs nothing.
fn scratch() -> File {
    let file = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC);
    file.unwrap().into()
}

fn open(file: &File, write: bool, backing: Option<Image>) -> Result<Qcow2, OpenError> {
    Qcow2::open(file.try_clone().unwrap(), write, backing)
}

fn disk(file: &File, backing: Option<Image>) -> Disk {
    Disk::new(Image::Qcow2(Box::new(open(file, true, backing).unwrap())))
}

fn raw(bytes: &[u8]) -> Image {
    let file = scratch();
    file.write_all_at(bytes, 0).unwrap();
    Image::Raw(Raw::new(file).unwrap())
}

fn backing() -> Option<Backing> {
    Some(Backing { name: "base".into(), format: Some("raw".into()) })
}

/// An image with small clusters, so that little data needs many tables.
fn small(sectors: u64, version: u32, backing: Option<Backing>) -> File {
    let file = scratch();
    create::create_as(&file, sectors * SECTOR, backing, version, 9).unwrap();
    file
}

#[test]
fn a_new_image_is_empty_and_keeps_what_is_written() {
    let file = scratch();
    create(&file, 10 << 20, None).unwrap();
    let mut image = disk(&file, None);
    assert_eq!(image.read(20_479, 1), [0; 512]);
    image.write(100, &[7; 1024]);
    image.write(20_479, &[8; 512]);
    assert_eq!(image.read(99, 4), [[0; 512], [7; 512], [7; 512], [0; 512]].concat());
    drop(image);
    audit::clean(&file);
    let mut image = disk(&file, None);
    assert_eq!(image.read(99, 4), [[0; 512], [7; 512], [7; 512], [0; 512]].concat());
    assert_eq!(image.read(20_479, 1), [8; 512]);
    assert!(file.metadata().unwrap().len() < 1 << 20, "only what was written is there");
}

#[test]
fn a_header_is_read_as_it_was_written() {
    for (version, backing) in [(2, None), (3, None), (3, backing()), (2, backing())] {
        let file = scratch();
        create::create_as(&file, 123 << 20, backing.clone(), version, 16).unwrap();
        let header = read_header(&file).unwrap();
        assert_eq!((header.version, header.bytes), (version, 123 << 20));
        assert_eq!((header.backing, header.unwritable), (backing, None));
    }
    let file = scratch();
    for bytes in [0, 511, (512 << 40) + 512, u64::MAX] {
        assert!(matches!(create(&file, bytes, None), Err(CreateError::Size { .. })));
    }
    create(&file, 512 << 40, None).unwrap();
    audit::clean(&file);
    let name = "x".repeat(1024);
    let refused = create(&file, 512, Some(Backing { name, format: None }));
    assert!(matches!(refused, Err(CreateError::Name)));
}

#[test]
fn what_was_not_written_comes_from_the_backing_image() {
    for version in [2, 3] {
        let file = small(64, version, backing());
        // One sector and a half of the last piece are missing behind its end.
        let base: Vec<u8> = (0..40 * 512 - 700).map(|n| (n / 512) as u8 + 1).collect();
        let mut image = disk(&file, Some(raw(&base)));
        image.write(3, &[0xee; 512]);
        image.clear(13, 5, 2, 1);
        image.clear(11, 10, 1, 0);
        image.clear(13, 62, 2, 0);
        drop(image);
        audit::clean(&file);
        let mut want = base.clone();
        want.resize(64 * 512, 0);
        want[3 * 512..4 * 512].fill(0xee);
        want[5 * 512..7 * 512].fill(0);
        if version == 3 {
            // Version 2 has no way to forget what is behind.
            want[10 * 512..11 * 512].fill(0);
        }
        assert_eq!(disk(&file, Some(raw(&base))).read(0, 64), want, "version {version}");
    }
}

#[test]
fn clusters_that_are_forgotten_are_used_again() {
    let file = small(2048, 3, None);
    let mut image = disk(&file, None);
    let mut longest = 0;
    for round in 0..20u8 {
        image.write(0, &[round; 256 * 512]);
        image.flush();
        image.clear(11, 0, 256, 0);
        image.flush();
        let bytes = file.metadata().unwrap().len();
        if round == 1 {
            longest = bytes;
        }
        assert!(round < 2 || bytes <= longest, "{bytes} after {longest}");
    }
    assert_eq!(image.read(0, 256), [0; 256 * 512]);
    drop(image);
    audit::clean(&file);
}

#[test]
fn the_table_of_counts_moves_when_it_is_full() {
    // One cluster of 64 entries, each for 256 clusters of 512 bytes: 8 MiB.
    let file = small(20 * 2048, 3, None);
    let mut image = disk(&file, None);
    for chunk in 0..68u64 {
        image.write(chunk * 512, &[chunk as u8; 512 * 512]);
        if chunk % 7 == 0 {
            image.flush();
            audit::whole(&file);
        }
    }
    drop(image);
    audit::clean(&file);
    assert!(read_header(&file).unwrap().refcount_clusters > 1);
    let mut image = disk(&file, None);
    for chunk in 0..68u64 {
        assert_eq!(image.read(chunk * 512, 512), vec![chunk as u8; 512 * 512]);
    }
}

#[test]
fn a_disk_that_is_saved_is_whole_in_its_file() {
    let file = small(64, 3, None);
    let mut image = disk(&file, None);
    image.write(5, &[3; 512]);
    let saved = image.rig.mmio.save().unwrap();
    let left = scratch();
    left.write_all_at(&bytes_of(&file), 0).unwrap();
    let other = disk(&left, None);
    other.rig.mmio.restore(saved).unwrap();
    assert_eq!(disk(&left, None).read(5, 1), [3; 512]);
}

#[test]
fn an_image_that_is_read_only_is_not_touched() {
    let file = small(64, 3, None);
    disk(&file, None).write(0, &[1; 512]);
    let before = bytes_of(&file);
    let mut image = Disk::new(Image::Qcow2(Box::new(open(&file, false, None).unwrap())));
    assert_eq!(image.read(0, 1), [1; 512]);
    assert!(!image.try_write(0, &[2; 512]));
    image.flush();
    drop(image);
    assert_eq!(bytes_of(&file), before);
}

pub(super) fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn chains_are_followed_as_far_as_is_allowed() {
    use chain::{Backings, ChainError, DEPTH_MAX, Format};
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let make = |name: &str, behind: &str, format: Option<&str>| {
        let file = File::create_new(path(name)).unwrap();
        let backing = Backing { name: behind.into(), format: format.map(str::to_owned) };
        create(&file, 1 << 20, Some(backing)).unwrap();
    };
    std::fs::write(path("base"), [5; 4096]).unwrap();
    make("one", "base", Some("raw"));
    make("two", "one", Some("qcow2"));
    let layers = chain::open(&path("two"), Format::Qcow2, true, Backings::Beside).unwrap();
    assert_eq!(layers.len(), 3);
    let mut two = Disk::new(chain::image(layers, true).unwrap());
    two.write(0, &[6; 512]);
    assert_eq!(two.read(0, 9), [[6; 512].as_slice(), &[5; 7 * 512], &[0; 512]].concat());
    drop(two);
    assert_eq!(std::fs::read(path("base")).unwrap(), [5; 4096]);

    let open = |name: &str, backings| chain::open(&path(name), Format::Qcow2, false, backings);
    assert!(matches!(open("two", Backings::Refused), Err(ChainError::Refused { .. })));
    make("away", "../base", Some("raw"));
    assert!(matches!(open("away", Backings::Beside), Err(ChainError::Refused { .. })));
    make("absolute", path("base").to_str().unwrap(), Some("raw"));
    assert!(matches!(open("absolute", Backings::Beside), Err(ChainError::Refused { .. })));
    assert_eq!(open("absolute", Backings::Anywhere).unwrap().len(), 2);
    make("guess", "base", None);
    assert!(matches!(open("guess", Backings::Beside), Err(ChainError::NoFormat { .. })));
    make("strange", "base", Some("vmdk"));
    assert!(matches!(open("strange", Backings::Beside), Err(ChainError::Format { .. })));
    make("circle", "circle", Some("qcow2"));
    let circle = open("circle", Backings::Beside).unwrap_err();
    assert!(circle.to_string().contains(&DEPTH_MAX.to_string()), "{circle}");
    make("nothing", "missing", Some("raw"));
    assert!(matches!(open("nothing", Backings::Beside), Err(ChainError::Open { .. })));
    // A raw disk in which a guest has written the header of an image is a raw disk all the same.
    let layers = chain::open(&path("two"), Format::Raw, false, Backings::Anywhere).unwrap();
    let mut two = Disk::new(chain::image(layers, false).unwrap());
    assert_eq!(two.read(0, 1)[..4], *b"QFI\xfb");
}
