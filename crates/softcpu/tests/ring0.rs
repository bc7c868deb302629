//! Exceptions, privilege and interrupts, as QEMU's software processor does them.
//!
//! A guest tries one thing after the other and writes down what its handlers find: see `ring0/`.
//! What QEMU said is kept in `ring0/expected.txt`, so that the comparison needs no QEMU; where it
//! is installed, it is asked again. `SOFTCPU_RECORD` names a file to which its answer is written.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "ring0/cases.rs"]
mod cases;
#[path = "ring0/image.rs"]
mod image;

use std::{env, fmt::Write as _, fs, process::Command, thread, time::Duration};

use cases::{CASES, REFEREE_ERRS};
use hv::{
    Exit, GuestMemory, Hypervisor as _, Model, Shape,
    state::{Activity, Segment},
};
use image::{BASE, END_PORT, PORT, WORDS};
use softcpu::Soft;
use testkit::need;

/// Bytes of guest memory.
const MEMORY: u64 = 16 << 20;

/// Most exits of our guest: every byte that it writes is one.
const EXITS_MAX: usize = 100_000;

/// A guest that takes longer is stuck: it needs a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The flag of faults that are to be resumed, which QEMU does not push.
const RESUME: u64 = 1 << 16;

#[test]
fn what_handlers_find_is_what_was_recorded() {
    let expected = include_str!("ring0/expected.txt");
    let ours = told(&ours());
    if let Ok(path) = env::var("SOFTCPU_RECORD") {
        fs::write(format!("{path}.ours"), &ours).unwrap();
    }
    assert_same(&ours, expected);
}

#[test]
fn qemu_finds_the_same_again() {
    let Some(qemu) = need::tool("qemu-system-x86_64") else { return };
    let theirs = told(&theirs(&qemu));
    if let Ok(path) = env::var("SOFTCPU_RECORD") {
        fs::write(path, &theirs).unwrap();
    }
    let expected = include_str!("ring0/expected.txt");
    assert_same(&without_errors(&theirs), &without_errors(expected));
}

/// Without the cases in which the referee is wrong.
fn without_errors(text: &str) -> String {
    let errs = |line: &str| {
        REFEREE_ERRS
            .iter()
            .any(|(what, _)| line.split_once(": vector").is_some_and(|(name, _)| name == *what))
    };
    text.lines().filter(|line| !errs(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_referees_error_is_one_of_the_cases() {
    for (what, why) in REFEREE_ERRS {
        assert!(CASES.iter().any(|case| case.what == *what), "{what}: {why}");
    }
}

fn assert_same(found: &str, expected: &str) {
    let mut text = String::new();
    for (a, b) in found.lines().zip(expected.lines()) {
        if a != b {
            let _ = writeln!(text, "found    {a}\nexpected {b}");
        }
    }
    let (found, expected) = (found.lines().count(), expected.lines().count());
    assert!(text.is_empty() && found == expected, "{found} of {expected} lines\n{text}");
}

fn guest() -> (Vec<u8>, u64) {
    let (mut bytes, entry) = image::build(CASES);
    image::entry_points(&mut bytes);
    (bytes, entry)
}

/// What our processor writes to the port.
fn ours() -> Vec<u8> {
    let (bytes, entry) = guest();
    let memory = GuestMemory::new(MEMORY).unwrap();
    memory.write(BASE, &bytes).unwrap();
    let vm = Soft.create(memory, &Shape { vcpus: 1, model: Model::V2 }).unwrap();
    let mut vcpu = vm.vcpu(0).unwrap();
    let mut state = vcpu.state().unwrap();
    let data = Segment { selector: 0x18, base: 0, limit: u32::MAX, access: 0xc093 };
    state.segments = [data; 6];
    state.segments[1] = Segment { selector: 0x10, access: 0xc09b, ..data };
    state.cr0 = 0x11;
    state.rip = entry;
    state.activity = Activity::Running;
    vcpu.set_state(&state).unwrap();
    let kick = vcpu.kick();
    thread::spawn(move || {
        thread::sleep(PATIENCE);
        kick.kick();
    });
    let mut written = Vec::new();
    for _ in 0..EXITS_MAX {
        match vcpu.run().unwrap() {
            Exit::PortWrite { port, data } if u32::from(port) == PORT => written.extend(data),
            Exit::PortWrite { port, .. } if u32::from(port) == END_PORT => return written,
            Exit::PortWrite { .. } => {}
            Exit::PortRead { data, .. } => data.fill(0xff),
            exit @ (Exit::MmioRead { .. }
            | Exit::MmioWrite { .. }
            | Exit::Kicked
            | Exit::Stuck
            | Exit::TripleFault) => panic!("{exit:?} after\n{}", told(&written)),
        }
    }
    panic!("no end after\n{}", told(&written));
}

/// What QEMU's writes to it.
fn theirs(qemu: &std::path::Path) -> Vec<u8> {
    let dir = env::temp_dir().join(format!("softcpu-ring0-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (kernel, output) = (dir.join("kernel"), dir.join("output"));
    fs::write(&kernel, guest().0).unwrap();
    let debug = format!("file:{}", output.display());
    let limit = PATIENCE.as_secs().to_string();
    let done = Command::new("timeout")
        .arg(limit)
        .arg(qemu)
        .args(["-accel", "tcg", "-machine", "pc", "-m", "16", "-display", "none", "-no-reboot"])
        .args(["-cpu", "qemu64,vendor=GenuineIntel,+sse4.2,+popcnt", "-nodefaults"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .arg("-debugcon")
        .arg(debug)
        .arg("-kernel")
        .arg(&kernel)
        .output()
        .unwrap();
    let written = fs::read(&output).unwrap_or_default();
    fs::remove_dir_all(&dir).unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code().is_some_and(|code| code & 1 == 1), "{error}{}", told(&written));
    written
}

/// Records as lines.
fn told(written: &[u8]) -> String {
    let mut text = String::new();
    for record in written.chunks(8 * WORDS.len()) {
        let words: Vec<u64> =
            record.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let number = usize::try_from(words[0]).unwrap_or(usize::MAX);
        let what = CASES.get(number).map_or("?", |case| case.what);
        let _ = write!(text, "{what}:");
        for (name, word) in WORDS.iter().zip(&words).skip(1) {
            let word = match *name {
                // Counted from where the test begins.
                "rip" => word.wrapping_sub(image::address(number.min(CASES.len()))),
                "rflags" => word & !RESUME,
                // A reserved bit counts in an entry that is present, which QEMU 7 does not say: Intel
                // SDM volume 3, 4.7.
                "code" if words.get(1) == Some(&14) && word & 8 != 0 => word | 1,
                _ => *word,
            };
            let _ = write!(text, " {name}={word:x}");
        }
        text.push('\n');
    }
    text
}
