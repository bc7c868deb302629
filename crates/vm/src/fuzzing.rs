//! Snapshots that somebody has made up, for the fuzz targets.

use std::{fs, io::Write as _, path::Path, sync::OnceLock, time::Duration};

use base::Deadline;
use hv::{GuestMemory, Hypervisor, Model, Shape};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Map, Value};
use virtio::{
    balloon::Balloon,
    blk::{self, Blk, Image, Raw},
    console, fs as shared,
    rng::Rng,
    vsock::{self, Vsock},
};

use crate::{
    Announce, Builder, Cargo, End, Machine,
    layout::{VIRTIO, VIRTIO_BYTES},
    snapshot::Snapshot,
};

/// Memory of the machine.
const MEMORY: u64 = 4 << 20;

/// Most changes of a description.
const CHANGES: usize = 8;

/// How long a machine that was restored runs.
const RUN: Duration = Duration::from_millis(1);

/// How long its threads may take to come to a stop.
const STOP: Duration = Duration::from_secs(20);

/// What stands in the place of what was there.
const STRANGE: [u64; 8] = [0, 1, 0xff, 0xffff, 0xffff_ffff, 1 << 63, u64::MAX - 1, u64::MAX];

/// Restores a machine with one of each device from a description, and lets it run for a moment.
/// Bytes that begin as a description are one; others say how a good one is changed. Gives whether a
/// machine came of it. The directory is the caller's, for nothing else.
///
/// # Panics
/// If a thread of the machine does, or if there are no files and threads to be had.
pub fn snapshot(hypervisor: &dyn Hypervisor, dir: &Path, bytes: &[u8]) -> bool {
    static GOOD: OnceLock<Value> = OnceLock::new();
    let good = GOOD.get_or_init(|| good(hypervisor, dir));
    let text = match bytes.first() {
        Some(b'{') => bytes.to_vec(),
        _ => changed(good, bytes).to_string().into_bytes(),
    };
    fs::write(dir.join("machine.json"), text).expect("there is room for a file");
    let file = fs::File::create(dir.join("memory")).expect("there is room for a file");
    file.set_len(MEMORY).expect("there is room for zeros");
    let restored = restore(hypervisor, dir);
    if let Some(machine) = &restored {
        run(machine, dir);
    }
    restored.is_some()
}

fn restore(hypervisor: &dyn Hypervisor, dir: &Path) -> Option<Machine> {
    let saved = Snapshot::open(dir).ok()?;
    let (memory, shape) = (saved.memory().ok()?, saved.manifest.shape.clone());
    let builder = Builder::new(hypervisor, memory.clone(), shape, Announce::Acpi).ok()?;
    let mut builder = with_devices(builder, &memory, dir);
    builder.disks(saved.manifest.disks.clone());
    builder.restore(saved.manifest).ok()
}

/// Runs it, and saves it again; only a panic is wrong.
fn run(machine: &Machine, dir: &Path) {
    machine.resume();
    let end = machine.wait(Deadline::after(RUN));
    let end = match machine.pause(Deadline::after(STOP)) {
        Ok(()) => end,
        Err(_) => machine.wait(Deadline::after(STOP)),
    };
    if let Some(End::Failed { why }) = end {
        assert!(!why.contains("panicked"), "{why}");
    }
    // What has ended is not saved.
    let _ = machine.snapshot(&dir.join("again"));
}

/// One of each device.
fn with_devices(mut builder: Builder, memory: &GuestMemory, dir: &Path) -> Builder {
    let file = memfd_create("fuzzed", MemfdFlags::CLOEXEC).expect("there is memory for a file");
    let mut file = fs::File::from(file);
    file.write_all(&[7; 64 << 10]).expect("there is memory for a file");
    let image = Image::Raw(Raw::new(file).expect("it is a file"));
    let disk = Blk::new(image, &blk::Options::default()).expect("the host has timers");
    let config = vsock::Config { cid: vsock::GUEST_CID_MIN, listener: None, path: None };
    let export = shared::Export {
        root: fs::File::open(dir).expect("the directory is there").into(),
        only: None,
        read_only: true,
        valid: Duration::ZERO,
        limits: shared::Limits { inodes: 50, descriptors: 10, handles: 10 },
        watch: false,
    };
    let server = shared::Server::new(export).expect("a directory can be exported");
    let attached = [
        builder.attach(disk).map(|_| ()),
        builder
            .attach(virtio::net::fuzzing::unplugged().expect("the host has sockets"))
            .map(|_| ()),
        builder.attach(Vsock::new(config).expect("the host has descriptors")).map(|_| ()),
        builder.attach(console::Console::new(None, None).expect("it has no streams")).map(|_| ()),
        builder.attach(Rng).map(|_| ()),
        builder.attach(Balloon::new(memory.clone())).map(|_| ()),
        builder.attach(shared::Fs::new("x", Box::new(server)).expect("a short name")).map(|_| ()),
    ];
    attached.into_iter().for_each(|attached| attached.expect("there is room for a few"));
    builder
}

/// The description of a machine whose drivers have set up all queues of all devices.
fn good(hypervisor: &dyn Hypervisor, dir: &Path) -> Value {
    let memory = GuestMemory::new(MEMORY).expect("there is memory");
    let shape = Shape { vcpus: 1, model: Model::V2 };
    let builder = Builder::new(hypervisor, memory.clone(), shape, Announce::Acpi);
    let builder = with_devices(builder.expect("a small machine can be made"), &memory, dir);
    let machine = builder.boot(&Cargo {
        kernel: kernel().into(),
        initrds: Vec::new(),
        command_line: String::new(),
    });
    let machine = machine.expect("a small kernel can be loaded");
    machine.set_up_devices();
    machine.pause(Deadline::after(STOP)).expect("it has not begun");
    let to = dir.join("good");
    machine.snapshot(&to).expect("there is room for a file");
    let text = fs::read(to.join("machine.json")).expect("it was just written");
    serde_json::from_slice(&text).expect("a description is JSON")
}

/// An ELF file of one instruction: `jmp` to itself.
fn kernel() -> Vec<u8> {
    let mut file = vec![0; 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let at = 0x10_0000u64.to_le_bytes();
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(24, &at);
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 1, 0]);
    put(64, &[1]);
    put(72, &0x100u64.to_le_bytes());
    put(88, &at);
    put(96, &2u64.to_le_bytes());
    put(104, &2u64.to_le_bytes());
    put(0x100, &[0xeb, 0xfe]);
    file
}

impl Machine {
    /// Does what the drivers of all devices do.
    fn set_up_devices(&self) {
        for n in 0..7 {
            let set = |register: u64, value: u32| {
                self.store(VIRTIO + n * VIRTIO_BYTES + register, value);
            };
            for (register, value) in
                [(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 0), (0x70, 11)]
            {
                set(register, value);
            }
            for queue in 0..8 {
                let at = 0x20_0000 + (u32::try_from(n).unwrap_or(0) * 8 + queue) * 0x1000;
                for (register, value) in [
                    (0x30, queue),
                    (0x38, 16),
                    (0x80, at),
                    (0x90, at + 0x400),
                    (0xa0, at + 0x800),
                    (0x44, 1),
                ] {
                    set(register, value);
                }
            }
            set(0x70, 15);
        }
    }
}

/// A description with other values in places that the bytes name: five bytes lead the way into it,
/// one says what is put there.
fn changed(good: &Value, bytes: &[u8]) -> Value {
    let mut value = good.clone();
    for change in bytes.chunks(6).take(CHANGES) {
        let (what, way) = change.split_last().unwrap_or((&0, &[]));
        change_at(&mut value, way, *what);
    }
    value
}

fn change_at(value: &mut Value, way: &[u8], what: u8) {
    let step = way.split_first();
    match (value, step) {
        (Value::Object(fields), Some((first, way))) if !fields.is_empty() => {
            let at = usize::from(*first) % fields.len();
            if let Some(inner) = fields.values_mut().nth(at) {
                change_at(inner, way, what);
            }
        }
        (Value::Array(values), Some((first, way))) if !values.is_empty() => {
            let at = usize::from(*first) % values.len();
            change_at(&mut values[at], way, what);
        }
        (value, _) => put(value, what),
    }
}

fn put(value: &mut Value, what: u8) {
    let strange = STRANGE[usize::from(what) % STRANGE.len()];
    let new = match (what / 8 % 8, &*value) {
        (0, _) => Value::Null,
        (1, Value::Array(values)) => {
            Value::Array(values.iter().chain(values).take(10_000).cloned().collect())
        }
        (2, Value::Array(_)) => Value::Array(Vec::new()),
        (3, Value::Bool(was)) => Value::Bool(!was),
        (4, _) => Value::String(strange.to_string()),
        (5, _) => Value::Object(Map::new()),
        (_, Value::Number(was)) if what >= 128 => {
            let was = was.as_u64().unwrap_or(0);
            Value::from(was ^ 1 << (what % 64))
        }
        (_, _) => Value::from(strange),
    };
    *value = new;
}
