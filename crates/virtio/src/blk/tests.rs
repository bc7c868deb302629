//! Disks as a driver uses them.

use std::os::unix::fs::FileExt as _;

use super::*;
use crate::testing::{Buffer, Rig, Used};

const ALL: u64 = F_FLUSH | F_DISCARD | F_WRITE_ZEROES | F_SEG_MAX | F_BLK_SIZE;

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    header
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut range = sector.to_le_bytes().to_vec();
    range.extend(sectors.to_le_bytes());
    range.extend(flags.to_le_bytes());
    range
}

/// A request's status, and what came.
fn ended(used: Option<Used>) -> (u8, Vec<u8>) {
    let mut bytes = used.unwrap().bytes;
    (bytes.pop().unwrap(), bytes)
}

fn read(rig: &mut Rig<Blk>, sector: u64, bytes: usize) -> (u8, Vec<u8>) {
    let buffers = [Buffer::Read(&header(0, sector)), Buffer::Write(bytes), Buffer::Write(1)];
    ended(rig.request(0, &buffers))
}

fn send(rig: &mut Rig<Blk>, kind: u32, sector: u64, data: &[u8]) -> u8 {
    let buffers = [Buffer::Read(&header(kind, sector)), Buffer::Read(data), Buffer::Write(1)];
    ended(rig.request(0, &buffers)).0
}

fn disk(sectors: u64) -> (std::fs::File, Rig<Blk>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    let image = Image::Raw(Raw::new(file.try_clone().unwrap()).unwrap());
    let options = Options { id: "a disk".into(), ..Options::default() };
    (file, Rig::new(Blk::new(image, &options).unwrap(), ALL))
}

#[test]
fn sectors_are_written_and_read() {
    let (file, mut rig) = disk(16);
    assert_eq!((rig.get(0x100), rig.get(0x104), rig.get(0x10c)), (16, 0, 254));
    assert_eq!(send(&mut rig, 1, 3, &[7; 1024]), 0);
    let mut bytes = [0; 3 * 512];
    file.read_exact_at(&mut bytes, 2 * 512).unwrap();
    assert_eq!((&bytes[..512], &bytes[512..]), ([0; 512].as_slice(), [7; 1024].as_slice()));
    assert_eq!(read(&mut rig, 4, 1024), (0, [[7; 512], [0; 512]].concat()));
    assert_eq!(send(&mut rig, 4, 0, &[]), 0);
    let counters = rig.with(|disk, _| disk.counters());
    let want = Counters { reads: 1, read_bytes: 1024, writes: 1, written_bytes: 1024, failed: 0 };
    assert_eq!(counters, want);
}

#[test]
fn data_comes_in_pieces_of_any_size() {
    let (_file, mut rig) = disk(16);
    let pattern: Vec<u8> = (0..1024u32).map(|n| (n % 251) as u8).collect();
    let head = header(1, 1);
    // The header in two buffers, and the data cut anywhere: a device makes no assumptions.
    let buffers = [
        Buffer::Read(&head[..5]),
        Buffer::Read(&head[5..]),
        Buffer::Read(&pattern[..100]),
        Buffer::Read(&pattern[100..101]),
        Buffer::Read(&pattern[101..]),
        Buffer::Write(1),
    ];
    assert_eq!(ended(rig.request(0, &buffers)), (0, vec![]));
    // The status in the same buffer as the data.
    let buffers = [Buffer::Read(&header(0, 1)), Buffer::Write(700), Buffer::Write(325)];
    assert_eq!(ended(rig.request(0, &buffers)), (0, pattern));
}

#[test]
fn nothing_is_beyond_the_end() {
    let (file, mut rig) = disk(16);
    assert_eq!(read(&mut rig, 15, 512).0, 0);
    assert_eq!(read(&mut rig, 15, 1024).0, 1);
    assert_eq!(read(&mut rig, 16, 512).0, 1);
    assert_eq!(read(&mut rig, u64::MAX, 512).0, 1);
    assert_eq!(read(&mut rig, u64::MAX / 512, 512).0, 1);
    assert_eq!(read(&mut rig, 0, 100).0, 1, "no whole sector");
    assert_eq!(send(&mut rig, 1, 16, &[1; 512]), 1);
    assert_eq!(send(&mut rig, 1, 0, &[1; 513]), 1);
    assert_eq!(send(&mut rig, 13, 0, &range(8, 9, 0)), 1);
    assert_eq!(send(&mut rig, 13, 0, &range(u64::MAX, 1, 0)), 1);
    assert_eq!(file.metadata().unwrap().len(), 16 * 512);
}

#[test]
fn zeroing_and_discarding() {
    let (file, mut rig) = disk(64);
    assert_eq!(send(&mut rig, 1, 0, &[9; 64 * 512]), 0);
    let ranges = [range(1, 1, 0), range(8, 8, 1)].concat();
    assert_eq!(send(&mut rig, 13, 0, &ranges), 0);
    let mut bytes = [0; 64 * 512];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let zero: Vec<usize> =
        (0..64).filter(|sector| bytes[sector * 512..][..512] == [0; 512]).collect();
    assert_eq!(zero, [1, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(send(&mut rig, 11, 0, &range(16, 48, 0)), 0);
    assert_eq!(read(&mut rig, 16, 48 * 512).1, [0; 48 * 512], "a hole in a file is zero");
    assert_eq!(file.metadata().unwrap().len(), 64 * 512);
    assert_eq!(send(&mut rig, 11, 0, &range(0, 1, 1)), 2, "a flag that discards do not have");
    assert_eq!(send(&mut rig, 13, 0, &range(0, 1, 4)), 2);
    assert_eq!(send(&mut rig, 13, 0, &[0; 17]), 1);
    assert_eq!(send(&mut rig, 13, 0, &range(0, 1, 0).repeat(33)), 1);
}

#[test]
fn who_it_is_and_what_nobody_knows() {
    let (_file, mut rig) = disk(1);
    let buffers = [Buffer::Read(&header(8, 0)), Buffer::Write(20), Buffer::Write(1)];
    assert_eq!(ended(rig.request(0, &buffers)), (0, b"a disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0".into()));
    for kind in [2, 3, 10, 14, 99, u32::MAX] {
        assert_eq!(send(&mut rig, kind, 0, &[]), 2, "{kind}");
    }
}

#[test]
fn a_request_without_room_for_an_answer_breaks_the_queue() {
    let (_file, mut rig) = disk(1);
    rig.rings[0].send(&[Buffer::Read(&header(0, 0))]);
    assert_eq!(rig.mmio.process(0), Err(QueueError::Missing("a status")));
    let (_file, mut rig) = disk(1);
    rig.rings[0].send(&[Buffer::Read(&[0; 15]), Buffer::Write(1)]);
    assert_eq!(rig.mmio.process(0), Err(QueueError::Missing("a header")));
    assert_eq!(rig.get(0x70), 15 | 64);
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1000).unwrap();
    file.as_file().write_all_at(&[5; 1000], 0).unwrap();
    let readable = std::fs::File::open(file.path()).unwrap();
    let image = Image::Raw(Raw::new(readable).unwrap());
    let mut rig = Rig::new(Blk::new(image, &Options::default()).unwrap(), F_READ_ONLY);
    rig.set(0x14, 0);
    assert_eq!(rig.get(0x10) as u64 & (F_READ_ONLY | F_DISCARD | F_WRITE_ZEROES), F_READ_ONLY);
    assert_eq!(rig.get(0x100), 2, "half a sector counts as one");
    assert_eq!(read(&mut rig, 0, 1024), (0, [[5; 1000].as_slice(), &[0; 24]].concat()));
    assert_eq!(send(&mut rig, 1, 0, &[1; 512]), 1);
    assert_eq!(send(&mut rig, 13, 0, &range(0, 1, 0)), 1);
    assert_eq!(send(&mut rig, 11, 0, &range(0, 1, 0)), 1);
}

#[test]
fn an_error_of_the_host_is_an_error_for_the_guest_and_known_here() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(512).unwrap();
    // Says that it can be written, and then cannot.
    let image = Raw::new(std::fs::File::open(file.path()).unwrap()).unwrap();
    let mut disk = Blk::new(Image::Raw(image), &Options::default()).unwrap();
    disk.read_only = false;
    let mut rig = Rig::new(disk, ALL);
    assert_eq!(send(&mut rig, 1, 0, &[1; 512]), 1);
    let error = rig.with(|disk, _| disk.take_error()).unwrap();
    assert_eq!(error.raw_os_error(), Some(9));
    file.as_file().set_len(0).unwrap();
    assert_eq!(read(&mut rig, 0, 512).0, 1, "a file that was cut short under it");
}

#[test]
fn limits_make_requests_wait_for_the_timer() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let image = Image::Raw(Raw::new(file).unwrap());
    let requests = Some(Rate { per_second: 50, burst: 2 });
    let options = Options { requests, ..Options::default() };
    let mut rig = Rig::new(Blk::new(image, &options).unwrap(), ALL);
    for _ in 0..4 {
        rig.rings[0].send(&[Buffer::Read(&header(0, 0)), Buffer::Write(512), Buffer::Write(1)]);
    }
    rig.process(0);
    let count = |rig: &mut Rig<Blk>| std::iter::from_fn(|| rig.rings[0].used()).count();
    let mut done = count(&mut rig);
    assert_eq!(done, 2);
    while done < 4 {
        rig.mmio.sources(|source| {
            use rustix::event::{PollFd, PollFlags, poll};
            let mut fds = [PollFd::from_borrowed_fd(source.fd, PollFlags::IN)];
            assert_eq!(poll(&mut fds, None).unwrap(), 1);
            assert_eq!((source.token, source.wake), (TIMER, Wake::Level));
        });
        let _ = rig.mmio.ready(TIMER).unwrap();
        done += count(&mut rig);
    }
}

#[test]
fn a_disk_that_grows_tells_its_driver() {
    let (file, mut rig) = disk(16);
    file.set_len(32 * 512).unwrap();
    rig.with(|disk, queues| disk.resize(queues).unwrap());
    assert_eq!((rig.get(0x60), rig.get(0xfc), rig.get(0x100)), (2, 1, 32));
    assert_eq!(read(&mut rig, 31, 512).0, 0);
}

#[test]
fn into_a_place_other_disks_are_put_while_it_is_used() {
    let file = |sectors: usize, byte: u8| {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&vec![byte; sectors * 512], 0).unwrap();
        file
    };
    let empty = || Image::Raw(Raw::new(tempfile::tempfile().unwrap()).unwrap());
    let options = Options { place: true, ..Options::default() };
    let mut rig = Rig::new(Blk::new(empty(), &options).unwrap(), ALL);
    let identity = |rig: &mut Rig<Blk>| {
        let buffers = [Buffer::Read(&header(8, 0)), Buffer::Write(20), Buffer::Write(1)];
        let (status, id) = ended(rig.request(0, &buffers));
        (status, String::from_utf8(id).unwrap().trim_end_matches('\0').to_owned())
    };
    rig.set(0x14, 0);
    assert_eq!(rig.get(0x10) as u64 & F_READ_ONLY, 0, "what comes may be written");
    assert_eq!((read(&mut rig, 0, 512).0, identity(&mut rig)), (1, (0, String::new())));

    let layer = file(4, 3);
    let image = Image::Raw(Raw::new(std::fs::File::open(layer.path()).unwrap()).unwrap());
    rig.with(|disk, queues| disk.put(image, "layer", false, queues).unwrap());
    assert_eq!((rig.get(0x60) & 2, rig.get(0x100), identity(&mut rig).1), (2, 4, "layer".into()));
    assert_eq!(read(&mut rig, 3, 512), (0, vec![3; 512]));
    for kind in [1, 11, 13] {
        let data = if kind == 1 { vec![1; 512] } else { range(0, 1, 0) };
        assert_eq!(send(&mut rig, kind, 0, &data), 1, "it is not to be written: {kind}");
    }

    let other = file(2, 5);
    let image = Image::Raw(Raw::new(other.reopen().unwrap()).unwrap());
    rig.with(|disk, queues| disk.put(image, "changes", false, queues).unwrap());
    assert_eq!(send(&mut rig, 1, 1, &[7; 512]), 0);
    assert_eq!(read(&mut rig, 2, 512).0, 1, "it is smaller than the one before");
    rig.with(|disk, queues| {
        assert!(!disk.is_vacant());
        disk.put(empty(), "", false, queues).unwrap();
        assert!(disk.is_vacant());
    });
    assert_eq!((read(&mut rig, 0, 512).0, send(&mut rig, 1, 0, &[1; 512])), (1, 1));
    assert_eq!(std::fs::read(other.path()).unwrap(), [[5; 512], [7; 512]].concat());
    assert_eq!(std::fs::read(layer.path()).unwrap(), [3; 2048]);

    // A machine that was saved with an empty one may go on with either kind in it.
    let saved = rig.mmio.save().unwrap();
    for read_only in [false, true] {
        let image = Image::Raw(Raw::new(other.reopen().unwrap()).unwrap());
        let options = Options { read_only, ..options.clone() };
        Rig::bare(Blk::new(image, &options).unwrap()).mmio.restore(saved.clone()).unwrap();
    }
}

#[test]
fn only_into_a_place_another_disk_is_put() {
    let (file, rig) = disk(16);
    let image = Image::Raw(Raw::new(file).unwrap());
    let refused = rig.with(|disk, queues| disk.put(image, "other", false, queues)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn a_saved_disk_wants_the_same_disk() {
    let (file, mut rig) = disk(16);
    read(&mut rig, 0, 512);
    let saved = rig.mmio.save().unwrap();
    let other = |sectors: u64| {
        file.set_len(sectors * SECTOR).unwrap();
        let image = Image::Raw(Raw::new(file.try_clone().unwrap()).unwrap());
        let rig = Rig::bare(Blk::new(image, &Options::default()).unwrap());
        rig.mmio.restore(saved.clone())?;
        Ok::<Counters, RestoreError>(rig.with(|disk, _| disk.counters()))
    };
    assert_eq!(
        other(17).unwrap_err().to_string(),
        "a saved device that is another: a disk of 16 sectors"
    );
    // The rings that were saved lie in another memory, of the same size.
    assert_eq!(other(16).unwrap().reads, 1);
}
