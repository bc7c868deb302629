//! A machine on the software CPU with a guest of 37 bytes: it counts, echoes what it is sent, and
//! switches off when that is a `q`.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

#[path = "soft/hostile.rs"]
mod hostile;
#[path = "soft/snapshots.rs"]
mod snapshots;

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    time::Duration,
};

use base::Deadline;
use hv::{GuestMemory, Model, Shape};
use vm::{Announce, Builder, Cargo, Console, End, Machine, snapshot::Snapshot};

/// Where it counts.
const COUNTER: u64 = 0x20_0000;

/// 32-bit code, at 1 MiB.
const GUEST: [u8; 37] = [
    0xff, 0x05, 0x00, 0x00, 0x20, 0x00, // inc dword [COUNTER]
    0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd
    0xec, // in al, dx
    0xa8, 0x01, // test al, 1
    0x74, 0xf1, // jz the beginning
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xec, // in al, dx
    0xee, // out dx, al
    0x3c, b'q', // cmp al, 'q'
    0x75, 0xe7, // jnz the beginning
    0x66, 0xba, 0x04, 0x06, // mov dx, 0x604
    0x66, 0xb8, 0x00, 0x34, // mov ax, 0x3400
    0x66, 0xef, // out dx, ax
    0xeb, 0xfe, // jmp here
];

/// An ELF file with a PVH entry.
fn kernel() -> Vec<u8> {
    let mut file = vec![0; 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let at = 0x10_0000u64;
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 2, 0]);
    let header = |kind: u32, offset: u64, at: u64, bytes: u64| {
        let mut header = [kind.to_le_bytes(), [0; 4]].concat();
        header.extend([offset, at, at, bytes, bytes, 0].map(u64::to_le_bytes).concat());
        header
    };
    put(64, &header(1, 0x100, at, 37));
    put(120, &header(4, 0xc0, 0, 20));
    put(0xc0, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(0xcc, b"Xen\0");
    put(0xd0, &0x10_0000u32.to_le_bytes());
    put(0x100, &GUEST);
    file
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// The terminal's side of a console.
struct Terminal {
    keyboard: std::io::PipeWriter,
    screen: std::io::PipeReader,
}

impl Terminal {
    fn new() -> (Terminal, Console) {
        let (input, keyboard) = std::io::pipe().unwrap();
        let (screen, output) = std::io::pipe().unwrap();
        let console =
            Console { input: Some(OwnedFd::from(input)), output: Some(OwnedFd::from(output)) };
        (Terminal { keyboard, screen }, console)
    }
}

fn boot() -> (Machine, Terminal) {
    let memory = GuestMemory::new(8 << 20).unwrap();
    let shape = Shape { vcpus: 2, model: Model::V2 };
    let mut builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi).unwrap();
    let (terminal, console) = Terminal::new();
    builder.console(console);
    let cargo =
        Cargo { kernel: kernel().into(), initrds: Vec::new(), command_line: "x".to_owned() };
    (builder.boot(&cargo).unwrap(), terminal)
}

fn count(machine: &Machine) -> u32 {
    machine.memory().load(COUNTER).unwrap()
}

fn wait_for(machine: &Machine, more_than: u32) {
    while count(machine) <= more_than {
        std::thread::yield_now();
    }
}

#[test]
fn a_guest_talks_and_switches_off() {
    let (machine, mut terminal) = boot();
    machine.resume();
    terminal.keyboard.write_all(b"hello, q").unwrap();
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    drop(machine);
    let mut said = String::new();
    terminal.screen.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello, q");
}

#[test]
fn a_guest_goes_on_where_it_was_saved_as_often_as_one_likes() {
    let (machine, _terminal) = boot();
    machine.resume();
    wait_for(&machine, 100);
    machine.pause(soon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    machine.snapshot(dir.path()).unwrap();
    let counted = count(&machine);
    machine.resume();
    wait_for(&machine, counted + 10);
    drop(machine);

    for _ in 0..2 {
        let saved = Snapshot::open(dir.path()).unwrap();
        let memory = saved.memory().unwrap();
        let shape = saved.manifest.shape.clone();
        let mut builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi).unwrap();
        let (mut terminal, console) = Terminal::new();
        builder.console(console);
        let machine = builder.restore(saved.manifest).unwrap();
        assert_eq!(count(&machine), counted, "what the others did since is their own");
        machine.resume();
        wait_for(&machine, counted + 10);
        terminal.keyboard.write_all(b"q").unwrap();
        assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
    }
}

#[test]
fn a_machine_that_is_dropped_gives_everything_back() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = (open(), threads());
    for _ in 0..3 {
        let (machine, _terminal) = boot();
        machine.resume();
        wait_for(&machine, 1);
    }
    assert_eq!((open(), threads()), before);
}
