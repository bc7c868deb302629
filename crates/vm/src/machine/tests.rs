//! Machines over a backend that follows a script.

mod fake;

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hv::Model;
use serde_json::Value;
use virtio::{
    Line as _, QueueError,
    device::{Kind, Queues, RestoreError, Source, Wake},
};

use self::{
    fake::{Fake, Seen, Step},
    lines::Share,
};
use super::*;
use crate::{
    boot, layout,
    snapshot::{Disk, Files, Format, Identity, Save, Snapshot, SnapshotError},
};

const MIB: u64 = 1 << 20;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A kernel that the fake never looks at.
fn cargo() -> Cargo {
    let mut kernel = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(24, &MIB.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 1, 0]);
    put(64, &[1]);
    put(64 + 24, &MIB.to_le_bytes());
    put(64 + 32, &8u64.to_le_bytes());
    put(64 + 40, &8u64.to_le_bytes());
    Cargo {
        kernel: boot::Source::from(kernel),
        initrds: Vec::new(),
        command_line: "console=ttyS0".to_owned(),
    }
}

fn builder(scripts: Vec<Vec<Step>>) -> (Builder, Arc<Seen>) {
    let shape = Shape { vcpus: u8::try_from(scripts.len()).unwrap(), model: Model::V2 };
    let fake = Fake::new(scripts);
    let memory = GuestMemory::new(4 * MIB).unwrap();
    let builder = Builder::new(&fake, memory, shape, Announce::Acpi).unwrap();
    (builder, fake.seen)
}

/// How a machine of these processors ends.
fn end(scripts: Vec<Vec<Step>>) -> Option<End> {
    let machine = builder(scripts).0.boot(&cargo()).unwrap();
    machine.resume();
    machine.wait(soon())
}

#[test]
fn every_end_is_told_as_what_it_is() {
    let out = |port, data: &[u8]| vec![vec![Step::Out(port, data.to_vec())]];
    assert_eq!(end(out(0x604, &[0, 0x34])), Some(End::PoweredOff));
    assert_eq!(end(out(0x64, &[0xfe])), Some(End::Reset));
    assert_eq!(end(out(0xcf9, &[6])), Some(End::Reset));
    assert_eq!(end(out(0x505, &[1])), Some(End::Panicked));
    assert_eq!(end(vec![vec![Step::TripleFault]]), Some(End::TripleFault));
    assert_eq!(end(vec![vec![Step::Stop]]), Some(End::Stuck));
    let why = "processor 0: broken".to_owned();
    assert_eq!(end(vec![vec![Step::Fail]]), Some(End::Failed { why }));
}

#[test]
fn a_thread_that_panics_ends_the_machine() {
    let Some(End::Failed { why }) = end(vec![vec![Step::Panic]]) else { panic!("it ended well") };
    assert!(why.contains("panicked"), "{why}");
}

#[test]
fn a_machine_is_stuck_when_no_processor_moves() {
    // Two stop, one was never started.
    assert_eq!(end(vec![vec![Step::Stop], vec![Step::Stop], vec![]]), Some(End::Stuck));
    // One is parked, the other goes on and switches off.
    let parked = Arc::new(AtomicBool::new(false));
    let first = vec![Step::Wait(parked.clone()), Step::Out(0x604, vec![0, 0x34])];
    let second = vec![Step::Signal(parked), Step::Stop];
    assert_eq!(end(vec![first, second]), Some(End::PoweredOff));
}

#[test]
fn a_machine_that_is_dropped_leaves_no_thread() {
    let (builder, seen) = builder(vec![vec![], vec![]]);
    let machine = builder.boot(&cargo()).unwrap();
    machine.resume();
    drop(machine);
    // All that knew of it are gone with their threads.
    assert_eq!(Arc::strong_count(&seen), 1);
}

#[test]
fn nothing_runs_before_it_is_resumed_and_while_it_is_paused() {
    let go = Arc::new(AtomicBool::new(false));
    let script = vec![Step::Wait(go.clone()), Step::Out(0x604, vec![0, 0x34])];
    let (builder, seen) = builder(vec![script, vec![]]);
    let machine = builder.boot(&cargo()).unwrap();
    assert_eq!(*seen.runs.lock().unwrap(), 0);
    machine.resume();
    for _ in 0..50 {
        machine.pause(soon()).unwrap();
        machine.pause(soon()).unwrap();
        assert!(machine.manifest().is_ok());
        let runs = *seen.runs.lock().unwrap();
        std::thread::yield_now();
        assert_eq!(*seen.runs.lock().unwrap(), runs);
        machine.resume();
    }
    assert!(matches!(machine.manifest(), Err(SaveError::NotPaused)));
    go.store(true, Ordering::SeqCst);
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    assert_eq!(machine.pause(soon()), Err(PauseError::Ended(End::PoweredOff)));
}

#[test]
fn the_console_carries_both_ways() {
    let (mut theirs, output) = std::io::pipe().unwrap();
    let (input, mut ours) = std::io::pipe().unwrap();
    let mut script = vec![Step::Out(0x3fc, vec![0x0b]), Step::Out(0x3f9, vec![1])];
    script.extend(b"what?\n".iter().map(|byte| Step::Out(0x3f8, vec![*byte])));
    for byte in b"nothing\n" {
        script.extend([Step::In(0x3fd, 0x61), Step::In(0x3f8, *byte)]);
    }
    script.extend(b"bye".iter().map(|byte| Step::Out(0x3f8, vec![*byte])));
    script.push(Step::Out(0x604, vec![0, 0x34]));
    let (mut builder, seen) = builder(vec![script]);
    builder.console(Console {
        input: Some(OwnedFd::from(input)),
        output: Some(OwnedFd::from(output)),
    });
    let machine = builder.boot(&cargo()).unwrap();
    machine.resume();
    let mut question = [0; 6];
    theirs.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"what?\n");
    ours.write_all(b"nothing\n").unwrap();
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    let mut rest = [0; 8];
    let count = theirs.read(&mut rest).unwrap();
    assert_eq!(&rest[..count], b"bye", "the last words are written before the end is told");
    let lines = seen.lines.lock().unwrap();
    assert_eq!(lines[..2], [(4, true), (4, false)], "each byte that came in raised the line");
}

#[test]
fn a_guest_that_writes_faster_than_anybody_reads_waits() {
    let (mut theirs, output) = std::io::pipe().unwrap();
    let mut script = Vec::new();
    // More than the pipe and the wire hold together.
    for _ in 0..6000 {
        script.push(Step::In(0x3fd, 0x60));
        script.extend((0..16).map(|_| Step::Out(0x3f8, vec![b'x'])));
    }
    script.push(Step::Out(0x604, vec![0, 0x34]));
    let (mut builder, _) = builder(vec![script]);
    builder.console(Console { input: None, output: Some(OwnedFd::from(output)) });
    let machine = builder.boot(&cargo()).unwrap();
    machine.resume();
    assert_eq!(machine.wait(Deadline::after(Duration::from_millis(300))), None);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).map(|_| all.len())
    });
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    drop(machine);
    assert_eq!(reader.join().unwrap().unwrap(), 96_000);
}

#[test]
fn a_console_that_nobody_reads_keeps_nobody_waiting_for_ever() {
    let (theirs, output) = std::io::pipe().unwrap();
    rustix::io::write(&output, &vec![0; 65_536]).unwrap();
    let script = vec![Step::Out(0x3f8, vec![b'x']), Step::Out(0x604, vec![0, 0x34])];
    let (mut builder, _) = builder(vec![script]);
    builder.console(Console { input: None, output: Some(OwnedFd::from(output)) });
    let machine = builder.boot(&cargo()).unwrap();
    machine.resume();
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    drop(theirs);
}

#[test]
fn the_power_button_is_heard() {
    let script = vec![
        Step::Out(0x602, vec![0, 1]),
        Step::In(0x601, 1),
        Step::Out(0x601, vec![1]),
        Step::Out(0x604, vec![0, 0x34]),
    ];
    let (builder, seen) = builder(vec![script]);
    let machine = builder.boot(&cargo()).unwrap();
    machine.press_power_button();
    machine.resume();
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    assert_eq!(*seen.lines.lock().unwrap(), [(9, true), (9, false)]);
}

/// A device that counts what happens to it.
#[derive(Debug)]
struct Counter {
    bell: OwnedFd,
    count: Arc<StdMutex<Vec<&'static str>>>,
    value: u64,
}

impl Device for Counter {
    fn kind(&self) -> Kind {
        Kind::Entropy
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[8]
    }

    fn read_config(&self, _: u64, to: &mut [u8]) {
        to.fill(0x5a);
    }

    fn write_config(&mut self, _: u64, _: &[u8]) {}

    fn activate(&mut self, _: u64) {
        self.count.lock().unwrap().push("activate");
    }

    fn process(&mut self, _: u16, _: &mut Queues) -> Result<(), QueueError> {
        self.count.lock().unwrap().push("process");
        Ok(())
    }

    fn sources(&self) -> Vec<Source<'_>> {
        use std::os::fd::AsFd as _;
        vec![Source { token: 7, fd: self.bell.as_fd(), wake: Wake::Level }]
    }

    fn ready(&mut self, token: u32, queues: &mut Queues) -> Result<(), QueueError> {
        assert_eq!(token, 7);
        lines::silence(&self.bell);
        self.count.lock().unwrap().push("ready");
        queues.config_changed();
        Ok(())
    }

    fn reset(&mut self) {}

    fn save(&self) -> Value {
        virtio::device::save(1, &self.value)
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        self.value = virtio::device::restore("counter", 1, saved)?;
        Ok(())
    }
}

/// What a driver does up to the point where it rings.
fn driver(base: u64) -> Vec<Step> {
    let store = |offset: u64, value: u32| Step::Store(base + offset, value);
    vec![
        Step::Load(base, 0x7472_6976),
        Step::Load(base + 8, 4),
        store(0x70, 0),
        store(0x70, 1),
        store(0x70, 3),
        // VIRTIO_F_VERSION_1, bit 32.
        store(0x24, 1),
        store(0x20, 1),
        store(0x24, 0),
        store(0x20, 0),
        store(0x70, 11),
        Step::Load(base + 0x70, 11),
        store(0x30, 0),
        store(0x38, 8),
        store(0x80, 0x10_0000),
        store(0x90, 0x10_1000),
        store(0xa0, 0x10_2000),
        store(0x44, 1),
        store(0x70, 15),
        Step::Load(base + 0x100, 0x5a5a_5a5a),
        store(0x50, 0),
    ]
}

#[test]
fn a_device_is_rung_interrupts_and_goes_on_in_another_machine() {
    let count = Arc::new(StdMutex::new(Vec::new()));
    let counter = |value| Counter { bell: lines::bell().unwrap(), count: count.clone(), value };
    let mut script = driver(layout::VIRTIO);
    // The driver waits until the configuration changes.
    script.push(Step::Load(layout::VIRTIO + 0x60, 2));
    let (mut builder, seen) = builder(vec![script]);
    let device = builder.attach(counter(42)).unwrap();
    let machine = builder.boot(&cargo()).unwrap();
    machine.resume();
    while !count.lock().unwrap().contains(&"process") {
        std::thread::yield_now();
    }
    let ring = |counter: &mut Counter, _: &mut Queues| {
        lines::ring(&counter.bell);
        Ok(())
    };
    let _ = device.with(ring).unwrap();
    while seen.lines.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    // Its queue has a turn when it becomes active, and one when the driver rings.
    let happened = count.lock().unwrap().clone();
    assert_eq!(happened[..2], ["activate", "process"]);
    assert!(happened.contains(&"ready"), "{happened:?}");
    assert_eq!(*seen.lines.lock().unwrap(), [(16, true)]);

    machine.memory().store(0x20_0000, 77u8).unwrap();
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    machine.snapshot(dir.path()).unwrap();
    drop(machine);
    count.lock().unwrap().clear();

    let saved = Snapshot::open(dir.path()).unwrap();
    let served = Arc::new(AtomicBool::new(false));
    let script = vec![
        Step::Load(layout::VIRTIO + 0x60, 2),
        Step::Store(layout::VIRTIO + 0x64, 2),
        Step::Load(layout::VIRTIO + 0x60, 0),
        Step::Wait(served.clone()),
        Step::Out(0x604, vec![0, 0x34]),
    ];
    let fake = Fake::new(vec![script]);
    let shape = saved.manifest.shape.clone();
    let memory = saved.memory().unwrap();
    let mut builder = Builder::new(&fake, memory, shape, Announce::Acpi).unwrap();
    let device = builder.attach(counter(0)).unwrap();
    let machine = builder.restore(saved.manifest).unwrap();
    assert_eq!(machine.memory().load::<u8>(0x20_0000), Ok(77));
    machine.resume();
    // Its queue has a turn though nobody rings.
    while *count.lock().unwrap() != ["activate", "process"] {
        std::thread::yield_now();
    }
    served.store(true, Ordering::SeqCst);
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    assert_eq!(device.with(|counter, _| Ok(counter.value)).unwrap().0, 42);
    assert_eq!(*fake.seen.lines.lock().unwrap(), [(16, true), (16, false)]);
}

#[test]
fn a_copy_has_a_generation_of_its_own_and_is_told() {
    let (listener, seen) = builder(vec![vec![Step::Out(0x60d, vec![1])]]);
    let machine = listener.boot(&cargo()).unwrap();
    machine.resume();
    while *seen.runs.lock().unwrap() < 2 {
        std::thread::yield_now();
    }
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    machine.snapshot(dir.path()).unwrap();
    let generation = |machine: &Machine| machine.memory().load::<u64>(layout::GENERATION).unwrap();
    let restore = |copy: bool| {
        let saved = Snapshot::open(dir.path()).unwrap();
        let fake = Fake::new(vec![vec![]]);
        let shape = saved.manifest.shape.clone();
        let memory = saved.memory().unwrap();
        let mut builder = Builder::new(&fake, memory, shape, Announce::Acpi).unwrap();
        if copy {
            builder.copy();
        }
        let machine = builder.restore(saved.manifest).unwrap();
        let lines = fake.seen.lines.lock().unwrap().clone();
        (generation(&machine), lines)
    };
    let own = generation(&machine);
    assert_ne!(own, 0, "it has one from the beginning");
    assert_eq!(restore(false), (own, vec![]));
    let (one, other) = (restore(true), restore(true));
    assert!(one.0 != own && other.0 != own && one.0 != other.0);
    assert_eq!(one.1, [(layout::PM_LINE, true)]);
}

#[test]
fn another_machine_does_not_take_over() {
    let machine = builder(vec![vec![]]).0.boot(&cargo()).unwrap();
    machine.pause(soon()).unwrap();
    let saved = machine.manifest().unwrap();
    let said = |scripts| builder(scripts).0.restore(saved.clone()).unwrap_err().to_string();
    assert!(said(vec![vec![], vec![]]).contains("vcpus: 2"), "{}", said(vec![vec![], vec![]]));
    let mut more = builder(vec![vec![]]).0;
    let count = Arc::default();
    more.attach(Counter { bell: lines::bell().unwrap(), count, value: 0 }).unwrap();
    let said = more.restore(saved).unwrap_err().to_string();
    assert!(said.contains("0 devices, and this one 1"), "{said}");
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let machine = builder(vec![vec![]]).0.boot(&cargo()).unwrap();
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    machine.snapshot(dir.path()).unwrap();
    let path = dir.path().join("machine.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"version\":2,"));
    for other in ["1", "3, \"machine\": 7"] {
        let other = format!("{{\"version\":{other},");
        std::fs::write(&path, text.replacen("{\"version\":2,", &other, 1)).unwrap();
        let said = Snapshot::open(dir.path()).unwrap_err().to_string();
        let number = &other[11..12];
        assert_eq!(said, format!("the snapshot has version {number}, and this is version 2"));
    }
    std::fs::write(&path, "{}").unwrap();
    assert!(Snapshot::open(dir.path()).is_err());
}

#[test]
fn a_snapshot_is_written_and_read_by_who_can_open_nothing() {
    let machine = builder(vec![vec![]]).0.boot(&cargo()).unwrap();
    machine.memory().store(0x20_0000, 77u8).unwrap();
    machine.pause(soon()).unwrap();
    let (dir, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    machine.save_to(&Files::create(dir.path()).unwrap(), None).unwrap();
    assert!(Snapshot::open(dir.path()).is_err(), "it is none before it is published");
    Files::publish(dir.path()).unwrap();
    let open = |dir: &std::path::Path| Files::open(std::fs::File::open(dir).unwrap()).unwrap();
    let read = Snapshot::read(open(dir.path()), vec![]).unwrap();
    assert_eq!(read.memory().unwrap().load::<u8>(0x20_0000), Ok(77));
    let by_path = Snapshot::open(dir.path()).unwrap().manifest;
    assert_eq!(
        serde_json::to_value(&read.manifest).unwrap(),
        serde_json::to_value(&by_path).unwrap()
    );

    // What goes back to another one has that handed over too; it is not followed there.
    machine.memory().store(0x20_1000, 78u8).unwrap();
    let nowhere = std::path::Path::new("/nowhere");
    machine.save_to(&Files::create(later.path()).unwrap(), Some(nowhere)).unwrap();
    Files::publish(later.path()).unwrap();
    let (one, other) = (dir.path(), later.path());
    let refused = |older: &[&std::path::Path]| {
        let older = older.iter().map(|dir| open(dir)).collect();
        Snapshot::read(open(other), older).unwrap_err().to_string()
    };
    for wrong in [&[][..], &[other]] {
        assert_eq!(refused(wrong), "the snapshot goes back to /nowhere");
    }
    assert!(refused(&[one, one]).starts_with("other snapshots were handed over"));
    let memory = Snapshot::read(open(other), vec![open(one)]).unwrap().memory().unwrap();
    let found = [0x20_0000, 0x20_1000].map(|at| memory.load::<u8>(at));
    assert_eq!(found, [Ok(77), Ok(78)]);
}

#[test]
fn a_machine_that_was_never_saved_has_nothing_to_go_back_to() {
    let machine = builder(vec![]).0.boot(&cargo()).unwrap();
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = Files::create(dir.path()).unwrap();
    let refused = machine.save_to(&files, Some(dir.path())).unwrap_err();
    assert!(matches!(refused, SnapshotError::NoParent), "{refused}");
}

/// A machine that was saved is read by every later version, or refused by its number.
#[test]
fn the_format_is_the_golden_one() {
    let mut builder = builder(vec![vec![]]).0;
    let count = Arc::default();
    builder.attach(Counter { bell: lines::bell().unwrap(), count, value: 42 }).unwrap();
    let machine = builder.boot(&cargo()).unwrap();
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    machine.snapshot(&dir.path().join("whole")).unwrap();
    machine.memory().store(0x20_3000, 1u8).unwrap();
    let identity = Identity::Digest("sha256:00".to_owned());
    let disk = Disk { serial: "root".to_owned(), format: Format::Raw, identity };
    let identity = Identity::File { bytes: 512, modified: (1_700_000_000, 7) };
    let other = Disk { serial: String::new(), format: Format::Qcow2, identity };
    let whole = dir.path().join("whole");
    let save = Save { parent: Some(&whole), disks: vec![disk, other] };
    machine.save(&dir.path().join("later"), &save).unwrap();
    let text = std::fs::read_to_string(dir.path().join("later/machine.json")).unwrap();
    let mut written: Value = serde_json::from_str(&text).unwrap();
    for id in ["/machine/id", "/parent/id"] {
        let id = written.pointer_mut(id).unwrap();
        assert_eq!(id.as_str().unwrap().len(), 32);
        *id = Value::from("0123456789abcdef0123456789abcdef");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/machine-2.json");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, format!("{}\n", serde_json::to_string(&written).unwrap())).unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(written, golden, "run UPDATE_EXPECT=1 cargo nextest run -p vm golden");
    let read = Snapshot::open(&dir.path().join("later")).unwrap().manifest;
    let mut read = serde_json::to_value(read).unwrap();
    read["id"] = golden["machine"]["id"].clone();
    assert_eq!(read, golden["machine"]);
}

#[test]
fn memory_that_was_never_touched_takes_no_room_in_a_snapshot() {
    use std::os::unix::fs::MetadataExt as _;
    let machine = builder(vec![vec![]]).0.boot(&cargo()).unwrap();
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    machine.snapshot(dir.path()).unwrap();
    let file = std::fs::metadata(dir.path().join("memory")).unwrap();
    assert_eq!(file.len(), 4 * MIB);
    assert!(file.blocks() * 512 < MIB / 4, "{} blocks", file.blocks());
}

#[test]
fn a_shared_line_rises_for_each_device_and_falls_with_the_last() {
    let (builder, seen) = builder(vec![vec![]]);
    let share = || Share { lines: builder.lines.clone(), line: 5 };
    let (one, other) = (share(), share());
    one.set(true);
    other.set(true);
    one.set(false);
    other.set(false);
    let lines = [(5, true), (5, false), (5, true), (5, false)];
    assert_eq!(*seen.lines.lock().unwrap(), lines);
}
