//! Devices and images under any bytes, for the fuzz targets.
//!
//! The bytes are a script of what a guest does: it writes to its memory, where the rings are, to
//! the registers and the configuration, it sends chains, and it rings. Nothing may panic, and the
//! line is always as the interrupt status says.

use std::{fs::File, io::Write as _, os::unix::net::UnixStream, sync::Arc};

use hv::GuestMemory;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{
    Device, Mmio,
    balloon::Balloon,
    blk::{self, Blk, Image, Qcow2, Raw},
    console::Console,
    rng::Rng,
    testing::{Buffer, Rig, Ring, Wire},
};

/// Bytes of memory of each queue.
const REGION: u64 = 0x2000;

/// All of the memory: seven queues.
const MEMORY: u64 = 0x1_0000;

/// Most steps of a script.
const STEPS: usize = 64;

/// What is left of a script; it goes on with zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(self.0.len().min(most));
        self.0 = rest;
        first
    }
}

/// Runs a script against a device, whose driver has set it up with all features and queues of 16
/// entries; queue `n` has the memory from `0x2000 * n` on.
pub fn device<D: Device>(device: D, script: &[u8]) {
    let memory = GuestMemory::new(MEMORY).expect("there are 64 KiB");
    drive(device, memory, script);
}

fn drive<D: Device>(device: D, memory: GuestMemory, script: &[u8]) {
    let (features, sizes) = (device.features(), device.queue_sizes().to_vec());
    let ring =
        |(n, size): (u64, &u16)| Ring::new(&memory, REGION * n, REGION * (n + 1), (*size).min(16));
    let rings = (0..7).zip(&sizes).map(ring).collect();
    let wire = Arc::new(Wire::default());
    let mmio = Arc::new(Mmio::new(device, memory.clone(), wire.clone()));
    let mut rig = Rig { mmio, memory, wire, rings };
    rig.negotiate(features | 1 << 28 | 1 << 29 | 1 << 32);
    let mut script = Script(script);
    for _ in 0..STEPS {
        if script.0.is_empty() {
            break;
        }
        step(&mut rig, &mut script);
        assert_eq!(rig.get(0x60) != 0, rig.wire.is_raised(), "the line is as the status says");
    }
    let saved = serde_json::to_value(rig.mmio.save().expect("its disk is memory"))
        .expect("what is saved is plain data");
    serde_json::from_value::<crate::mmio::Saved>(saved).expect("what was saved can be read");
}

fn step<D: Device>(rig: &mut Rig<D>, script: &mut Script<'_>) {
    let queue =
        |script: &mut Script<'_>, rig: &Rig<D>| usize::from(script.byte()) % rig.rings.len().max(1);
    match script.byte() % 8 {
        0 => {
            let at = u64::from(script.word());
            let bytes = usize::from(script.byte() % 64);
            // What would go beyond the memory's end does not go.
            let _ = rig.memory.write(at, script.bytes(bytes));
        }
        1 => {
            let index = queue(script, rig);
            let head = script.word();
            rig.rings[index].offer(head);
        }
        2 | 3 => {
            let index = queue(script, rig);
            let room = usize::from(script.word() % 2048);
            let bytes = usize::from(script.byte());
            let readable = script.bytes(bytes);
            rig.rings[index].send(&[Buffer::Read(readable), Buffer::Write(room)]);
            let _ = rig.mmio.process(u16::try_from(index).unwrap_or(0));
        }
        4 => {
            let at = 4 * u64::from(script.byte() % 64);
            let value = u32::from(script.word()) | u32::from(script.word()) << 16;
            rig.set(at, value);
        }
        5 => {
            let index = queue(script, rig);
            let _ = rig.mmio.process(u16::try_from(index).unwrap_or(0));
        }
        6 => {
            let _ = rig.mmio.ready(u32::from(script.byte() % 4));
        }
        _ => {
            let at = u64::from(script.byte());
            let bytes = usize::from(script.byte() % 9);
            let _ = rig.mmio.write(0x100 + at, script.bytes(bytes));
            let mut back = [0; 8];
            rig.mmio.read(0x100 + at, &mut back[..bytes.min(8)]);
        }
    }
}

fn scratch(bytes: &[u8]) -> File {
    let file = memfd_create("fuzzed", MemfdFlags::CLOEXEC).expect("there is memory for a file");
    let mut file = File::from(file);
    file.write_all(bytes).expect("there is memory for a file");
    file
}

/// The disk.
pub fn blk(script: &[u8]) {
    let image = Image::Raw(Raw::new(scratch(&[7; 64 << 10])).expect("it is a file"));
    let disk = Blk::new(image, &blk::Options::default()).expect("the host has timers");
    device(disk, script);
}

/// The console; its first byte says how much is there to be read.
pub fn console(script: &[u8]) {
    let (mut ours, theirs) = UnixStream::pair().expect("the host has sockets");
    let (first, script) = script.split_first().unwrap_or((&0, &[]));
    ours.write_all(&vec![b'x'; usize::from(*first) * 16]).expect("a socket takes some bytes");
    let input = theirs.try_clone().expect("the host has descriptors");
    let console = Console::new(Some(input.into()), Some(theirs.into()));
    device(console.expect("sockets need not block"), script);
}

/// The entropy device.
pub fn rng(script: &[u8]) {
    device(Rng, script);
}

/// The balloon, in the memory in which its rings are.
pub fn balloon(script: &[u8]) {
    let memory = GuestMemory::new(MEMORY).expect("there are 64 KiB");
    drive(Balloon::new(memory.clone()), memory, script);
}

/// How large a qcow2 image is made, so that a script of the fuzzer's takes milliseconds.
const IMAGE_BYTES_MAX: usize = 1 << 20;

/// A qcow2 image: all that can be read is read, and what is written is read again.
pub fn qcow2(bytes: &[u8]) {
    let file = scratch(bytes.get(..IMAGE_BYTES_MAX).unwrap_or(bytes));
    let Ok(header) = blk::qcow2::read_header(&file) else { return };
    for write in [false, true] {
        let backing = header
            .backing
            .as_ref()
            .map(|_| Image::Raw(Raw::new(scratch(&[9; 3000])).expect("it is a file")));
        let file = file.try_clone().expect("the host has descriptors");
        let Ok(image) = Qcow2::open(file, write, backing) else { continue };
        if image.bytes() == 0 {
            continue;
        }
        let disk = Blk::new(Image::Qcow2(Box::new(image)), &blk::Options::default());
        let features = if write { 0 } else { 1 << 5 };
        let mut rig = Rig::new(disk.expect("the host has timers"), features);
        use_disk(&mut rig, write);
    }
}

fn use_disk(rig: &mut Rig<Blk>, write: bool) {
    let mut ask = |kind: u32, sector: u64, buffer: Buffer<'_>| {
        let mut header = [kind.to_le_bytes(), [0; 4]].concat();
        header.extend(sector.to_le_bytes());
        let used = rig.request(0, &[Buffer::Read(&header), buffer, Buffer::Write(1)]);
        used.expect("a disk answers").bytes
    };
    for sector in (0..64).step_by(3).chain([1000, 1 << 20, 1 << 40]) {
        ask(0, sector, Buffer::Write(512));
    }
    if !write {
        return;
    }
    for sector in (0..40).step_by(3).chain([2000]) {
        let mut done = ask(1, sector, Buffer::Read(&[0x5a; 512]));
        let mut read = ask(0, sector, Buffer::Write(512));
        if (done.pop(), read.pop()) == (Some(0), Some(0)) {
            assert!(read == [0x5a; 512], "what was written is there");
        }
    }
    let mut range = 8u64.to_le_bytes().to_vec();
    range.extend([30, 0, 0, 0, 0, 0, 0, 0]);
    ask(11, 0, Buffer::Read(&range));
    ask(13, 0, Buffer::Read(&range));
    ask(4, 0, Buffer::Read(&[]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps as a guest out of its mind takes them, mostly of descriptors that lead somewhere.
    fn script() -> impl Strategy<Value = Vec<u8>> {
        let descriptor = (0u16..5, 0u16..16, 0u64..MEMORY, 0u32..9000, 0u16..8, 0u16..17).prop_map(
            |(queue, index, guest, bytes, flags, next)| {
                let at = queue * 0x2000 + index * 16;
                let mut step = vec![0, 0, 0, 16];
                step[1..3].copy_from_slice(&at.to_le_bytes());
                step.extend(guest.to_le_bytes());
                step.extend(bytes.to_le_bytes());
                step.extend(flags.to_le_bytes());
                step.extend(next.to_le_bytes());
                step
            },
        );
        let offer = (0u8..5, 0u8..17).prop_map(|(queue, head)| vec![1, queue, head, 0, 5, queue]);
        let any = proptest::collection::vec(any::<u8>(), 1..40);
        let step = prop_oneof![4 => descriptor, 3 => offer, 2 => any];
        proptest::collection::vec(step, 0..40).prop_map(|steps| steps.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn devices_stand_any_script(script in script()) {
            for run in [blk, console, rng, balloon] {
                run(&script);
            }
        }
    }
}
