//! Machines that are kept by name, from the command line: a guest of some hundred bytes on the
//! software processor.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use it::{Fault, Grants, Instance, Traced, User, wait_until, with_fault};

/// 32-bit code at 1 MiB: it counts in memory, and does what it is told by letters at its serial
/// port.
#[rustfmt::skip]
const GUEST: &[u8] = &[
    // 0: the power button?
    0x66, 0xba, 0x01, 0x06,             // mov dx, 0x601
    0xec,                               // in al, dx
    0xa8, 0x01,                         // test al, 1
    0x75, 0x38,                         // jnz off (65)
    // 9: a letter?
    0x66, 0xba, 0xfd, 0x03,             // mov dx, 0x3fd
    0xec,                               // in al, dx
    0xa8, 0x01,                         // test al, 1
    0x74, 0xee,                         // jz the beginning (0)
    // 18
    0x66, 0xba, 0xf8, 0x03,             // mov dx, 0x3f8
    0xec,                               // in al, dx
    0x3c, b'n',                         // cmp al, 'n'
    0x74, 0x35,                         // je next (80)
    0x3c, b'q',                         // cmp al, 'q'
    0x74, 0x22,                         // je off (65)
    0x3c, b'p',                         // cmp al, 'p'
    0x74, 0x3c,                         // je panic (95)
    0x3c, b't',                         // cmp al, 't'
    0x74, 0x43,                         // je fault (106)
    0x3c, b'r',                         // cmp al, 'r'
    0x74, 0x4a,                         // je reset (117)
    0x3c, b'h',                         // cmp al, 'h'
    0x74, 0x50,                         // je stuck (127)
    // 47
    0x3c, b'f',                         // cmp al, 'f'
    0x74, 0x59,                         // je fill (140)
    // 51: anything else comes back
    0xee,                               // out dx, al
    0xeb, 0xca,                         // jmp the beginning (0)
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
    // 65: off
    0x66, 0xba, 0x04, 0x06,             // mov dx, 0x604
    0x66, 0xb8, 0x00, 0x34,             // mov ax, 0x3400
    0x66, 0xef,                         // out dx, ax
    0xeb, 0xfe,                         // jmp here
    0x90, 0x90, 0x90,
    // 80: next: counts, and says the count as a letter and a new line
    0xff, 0x05, 0x00, 0x00, 0x20, 0x00, // inc dword [0x200000]
    0xa0, 0x00, 0x00, 0x20, 0x00,       // mov al, [0x200000]
    0x04, b'@',                         // add al, '@'
    0xeb, 0x24,                         // jmp say (131)
    // 95: panic, as pvpanic has it
    0x66, 0xba, 0x05, 0x05,             // mov dx, 0x505
    0xb0, 0x01,                         // mov al, 1
    0xee,                               // out dx, al
    0xeb, 0xfe,                         // jmp here
    0x90, 0x90,
    // 106: fault: no table of interrupts, and an interrupt
    0x0f, 0x01, 0x1d, 0x00, 0x00, 0x30, 0x00, // lidt [0x300000], which is zeros
    0xcc,                               // int3
    0xeb, 0xfe,                         // jmp here
    0x90,
    // 117: reset, by the keyboard's controller
    0x66, 0xba, 0x64, 0x00,             // mov dx, 0x64
    0xb0, 0xfe,                         // mov al, 0xfe
    0xee,                               // out dx, al
    0xeb, 0xfe,                         // jmp here
    0x90,
    // 127: stuck
    0xfa,                               // cli
    0xf4,                               // hlt
    0xeb, 0xfe,                         // jmp here
    // 131: say
    0xee,                               // out dx, al
    0xb0, b'\n',                        // mov al, '\n'
    0xee,                               // out dx, al
    0xe9, 0x74, 0xff, 0xff, 0xff,       // jmp the beginning (0)
    // 140: fill: writes 3 MiB, and says so
    0xbf, 0x00, 0x00, 0x40, 0x00,       // mov edi, 0x400000
    0xb9, 0x00, 0x00, 0x0c, 0x00,       // mov ecx, 0xc0000
    0xb8, 0x5a, 0x5a, 0x5a, 0x5a,       // mov eax, 0x5a5a5a5a
    0xf3, 0xab,                         // rep stosd
    0xb0, b'F',                         // mov al, 'F'
    0xeb, 0xe2,                         // jmp say (131)
];

/// An ELF file with a PVH entry and the words that the kernel store looks for.
fn kernel_file() -> Vec<u8> {
    let mut file = vec![0; 0x300];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let bytes = GUEST.len() as u64;
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(32, &64_u64.to_le_bytes());
    put(54, &[56, 0, 2, 0]);
    let header = |kind: u32, offset: u64, at: u64, bytes: u64| {
        let mut header = [kind.to_le_bytes(), [0; 4]].concat();
        header.extend([offset, at, at, bytes, bytes, 0].map(u64::to_le_bytes).concat());
        header
    };
    put(64, &header(1, 0x100, 0x10_0000, bytes));
    put(120, &header(4, 0xc0, 0, 20));
    put(0xc0, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(0xcc, b"Xen\0");
    put(0xd0, &0x10_0000_u32.to_le_bytes());
    put(0x100, GUEST);
    file.extend(b"Linux version 6.1.9-test (x@y) #1 SMP\n\0");
    file
}

/// An instance with that kernel, which ends its machines however the test ends.
struct Host(Instance);

impl Host {
    fn new() -> Option<Host> {
        let host = Host(Instance::without_daemon()?);
        fs::write(host.0.path("kernel"), kernel_file()).unwrap();
        Some(host)
    }

    fn ok(&self, args: &[&str]) -> String {
        self.0.ok(&[&["vm"], args].concat())
    }

    fn refused(&self, args: &[&str], why: &str) {
        let ran = self.0.run(&[&["vm"], args].concat());
        assert!(ran.code != 0 && ran.err.contains(why), "{args:?}: {ran:?}");
    }

    fn create(&self, name: &str, more: &[&str]) {
        let kernel = self.0.path("kernel");
        let args = ["create", "--accel", "soft", "--memory", "8m", "--kernel"];
        let args = [&args, &[kernel.to_str().unwrap()][..], more, &[name]].concat();
        assert_eq!(self.ok(&args), name);
    }

    /// Its state in a word.
    fn state(&self, name: &str) -> String {
        self.ok(&["inspect", "--format", "{{.State}}", name])
    }

    fn process(&self, name: &str) -> rustix::process::Pid {
        let mut pid = None;
        wait_until(&format!("{name} has a process"), || {
            let said = self.ok(&["inspect", "--format", "{{.Process}}", name]);
            pid = said.parse().ok().and_then(rustix::process::Pid::from_raw);
            pid.is_some()
        });
        pid.unwrap()
    }

    fn console(&self, name: &str) -> Console {
        let mut command = self.0.command(&["vm", "console", name]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Console { child, keys, screen: BufReader::new(screen) }
    }

    fn wait_for(&self, name: &str, state: &str) {
        wait_until(&format!("{name} is {state}"), || self.state(name) == state);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path("data/machines").join(name)
    }

    /// What `inspect` says of a snapshot: what it goes back to, and its room on the disk in bytes.
    fn snapshot(&self, machine: &str, name: &str) -> (Option<String>, u64) {
        let all: serde_json::Value = serde_json::from_str(&self.ok(&["inspect", machine])).unwrap();
        let snapshots = all[0]["Snapshots"].as_array().unwrap();
        let one = snapshots.iter().find(|one| one["Name"] == name).unwrap();
        let parent = one["Parent"].as_str().map(str::to_owned);
        (parent, one["SizeBytes"].as_u64().unwrap())
    }

    /// It counts on from where it is: its next letter.
    fn counts(&self, machine: &str, letter: &str) {
        let mut console = self.console(machine);
        console.types("n");
        // Whoever comes later sees what was said before.
        let mut said = String::new();
        while !said.ends_with(&format!("{letter}\n")) {
            let line = console.line();
            assert_ne!(line, "", "{machine} has gone, and said {said}");
            said += &line;
        }
        console.leave();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let names = self.0.run(&["vm", "ls", "-q"]).out;
        for name in names.lines() {
            self.0.run(&["vm", "rm", "-f", name]);
        }
    }
}

/// A terminal at a machine's console.
struct Console {
    child: Child,
    keys: ChildStdin,
    screen: BufReader<ChildStdout>,
}

impl Console {
    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// The next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.screen.read_line(&mut line).unwrap();
        line
    }

    /// It ends by itself.
    fn ends(mut self) -> bool {
        drop(self.keys);
        self.child.wait().unwrap().success()
    }

    fn leave(mut self) {
        self.types("\x10\x11");
        assert!(self.ends());
    }
}

#[test]
fn a_machine_is_made_started_talked_to_saved_restored_and_removed() {
    let Some(host) = Host::new() else { return };
    host.create("a", &["--disk", "size=1M", "--network", "none"]);
    host.refused(&["create", "--kernel", "/nothing", "a"], "there is a machine a already");
    assert_eq!(host.state("a"), "created");
    host.refused(&["console", "a"], "machine a does not run");
    assert_eq!(host.ok(&["start", "a"]), "a");
    assert_eq!(host.state("a"), "running");
    host.refused(&["start", "a"], "machine a runs");
    host.refused(&["rm", "a"], "machine a runs");
    host.refused(&["resize", "--cpus", "2", "a"], "stop it first");

    let mut console = host.console("a");
    console.types("nnn");
    assert_eq!([console.line(), console.line(), console.line()], ["A\n", "B\n", "C\n"]);
    console.leave();
    assert_eq!(host.state("a"), "running");
    assert_eq!(host.ok(&["snapshot", "create", "a"]), "s1");
    host.refused(&["snapshot", "create", "a", "s1"], "there is a snapshot s1 already");

    // Whoever comes later sees what was said before.
    let disk = host.path("a").join("disk-0");
    fs::write(&disk, vec![7; 1 << 20]).unwrap();
    let mut console = host.console("a");
    assert_eq!([console.line(), console.line(), console.line()], ["A\n", "B\n", "C\n"]);
    console.types("n");
    assert_eq!(console.line(), "D\n");
    assert_eq!(host.ok(&["stop", "a"]), "a");
    assert!(console.ends(), "the console ends with the machine");
    assert_eq!(host.state("a"), "stopped");
    let status = host.ok(&["ls", "--format", "{{.Status}}"]);
    assert!(status.ends_with("the guest switched it off"), "{status}");

    // As often as one likes, memory and disk are as they were.
    for _ in 0..2 {
        assert_eq!(host.ok(&["restore", "a"]), "s1");
        assert!(fs::read(&disk).unwrap().iter().all(|byte| *byte == 0));
        let mut console = host.console("a");
        console.types("n");
        assert_eq!(console.line(), "D\n");
        host.refused(&["restore", "a"], "machine a runs");
        console.leave();
        host.ok(&["stop", "a"]);
    }
    assert_eq!(host.ok(&["snapshot", "ls", "-q", "a"]), "s1");
    assert_eq!(host.ok(&["snapshot", "rm", "a", "s1"]), "s1");
    host.refused(&["restore", "a"], "no such snapshot");
    host.ok(&["resize", "--cpus", "2", "--memory", "16m", "--disk", "0=3M", "a"]);
    assert_eq!(fs::metadata(&disk).unwrap().len(), 3 << 20);
    assert_eq!(host.ok(&["ls", "--format", "{{.CPUs}} {{.Memory}}"]), "2 16MiB");
    host.refused(&["resize", "--disk", "0=1M", "a"], "not shrink");
    host.refused(&["resize", "--disk", "1=1M", "a"], "has 1 disks");
    assert_eq!(host.ok(&["rm", "a"]), "a");
    assert_eq!(host.ok(&["ls", "-q"]), "");
    assert!(!host.path("a").exists());
}

#[test]
fn a_snapshot_has_what_changed_since_the_one_before() {
    let Some(host) = Host::new() else { return };
    host.create("a", &["--disk", "size=1M", "--network", "none"]);
    host.ok(&["start", "a"]);
    let disk = host.path("a").join("disk-0");
    let written = |byte: u8| fs::write(&disk, vec![byte; 1 << 20]).unwrap();
    let mut console = host.console("a");
    console.types("f");
    assert_eq!(console.line(), "F\n");
    console.leave();
    let (little, all) = ((1 << 20) + (256 << 10), 4 << 20);
    for (letter, byte, name, more, parent) in [
        ("A", 1, "s1", &[][..], None),
        ("B", 2, "s2", &[], Some("s1")),
        ("C", 3, "s3", &["--full"], None),
        ("D", 4, "s4", &[], Some("s3")),
    ] {
        host.counts("a", letter);
        written(byte);
        assert_eq!(host.ok(&[&["snapshot", "create", "a"], more].concat()), name);
        let (found, bytes) = host.snapshot("a", name);
        assert_eq!(found.as_deref(), parent, "{name}");
        assert_eq!(bytes < little, parent.is_some(), "{name}: {bytes} bytes");
        assert_eq!(bytes >= all, parent.is_none(), "{name}: {bytes} bytes");
    }
    let format = "{{.Name}} {{.Parent}}";
    let listed = host.ok(&["snapshot", "ls", "--format", format, "a"]);
    assert_eq!(listed, "s1 \ns2 s1\ns3 \ns4 s3");

    // Each is what it was then, in whatever order, by whatever process.
    host.ok(&["stop", "a"]);
    for (name, byte, letter) in [("s4", 4, "E"), ("s1", 1, "B"), ("s3", 3, "D"), ("s2", 2, "C")] {
        host.ok(&["restore", "a", name]);
        assert!(fs::read(&disk).unwrap().iter().all(|there| *there == byte), "{name}");
        host.counts("a", letter);
        host.ok(&["stop", "a"]);
    }
    // A machine that was restored goes on from there.
    host.ok(&["restore", "a", "s2"]);
    host.counts("a", "C");
    host.ok(&["snapshot", "create", "a", "s5"]);
    assert_eq!(host.snapshot("a", "s5").0.as_deref(), Some("s2"));
    host.refused(&["snapshot", "rm", "a", "s1"], "snapshot s1 is needed by s2, s5");
    // One that began again does not.
    let mut console = host.console("a");
    console.types("r");
    drop(console);
    wait_until("it has begun again", || {
        let saved = host.0.run(&["vm", "snapshot", "create", "a", "s6"]).code == 0;
        let full = saved && host.snapshot("a", "s6").0.is_none();
        full || host.0.run(&["vm", "snapshot", "rm", "a", "s6"]).code > 1
    });
    // Nor one whose last snapshot is gone.
    host.ok(&["snapshot", "rm", "a", "s6"]);
    host.ok(&["snapshot", "create", "a", "s7"]);
    assert_eq!(host.snapshot("a", "s7").0, None);
    host.ok(&["stop", "--time", "0", "a"]);
    host.ok(&["restore", "a", "s5"]);
    host.counts("a", "D");
    assert_eq!(host.ok(&["snapshot", "rm", "a", "s1", "s2", "s5"]), "s5\ns2\ns1");
    host.ok(&["snapshot", "create", "a", "s8"]);
    assert_eq!(host.snapshot("a", "s8").0, None);
}

#[test]
fn snapshots_are_made_one_over_the_other_without_end() {
    let Some(host) = Host::new() else { return };
    host.create("a", &["--network", "none"]);
    host.ok(&["start", "a"]);
    let names: Vec<String> = (1..=18).map(|n| format!("s{n}")).collect();
    for (name, letter) in names.iter().zip('A'..) {
        host.counts("a", &letter.to_string());
        assert_eq!(host.ok(&["snapshot", "create", "a"]), *name);
    }
    let parents: Vec<_> = names.iter().map(|name| host.snapshot("a", name).0).collect();
    let full: Vec<_> = (1..).zip(&parents).filter(|(_, parent)| parent.is_none()).collect();
    assert_eq!(full, [(1, &None), (17, &None)], "a chain has 16");
    host.ok(&["stop", "--time", "0", "a"]);
    for (name, letter) in [("s16", "Q"), ("s18", "S")] {
        host.ok(&["restore", "a", name]);
        host.counts("a", letter);
        host.ok(&["stop", "--time", "0", "a"]);
    }
}

/// The process that holds a machine whose keeper has this number.
fn holder(keeper: i32) -> i32 {
    let mut found = None;
    wait_until("it holds the machine", || {
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        found = children.unwrap().split_whitespace().next().map(|pid| pid.parse().unwrap());
        found.is_some()
    });
    found.unwrap()
}

/// What a file of a process in `/proc` says.
fn of_process(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// What `status` says of a process, and that each of these is what is wanted.
fn check_status(pid: i32, wanted: &[(&str, &str)]) {
    let text = of_process(pid, "status");
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let status: BTreeMap<&str, &str> = pairs.map(|(key, value)| (key, value.trim())).collect();
    for (key, value) in wanted {
        assert_eq!(status.get(key), Some(value), "{key}");
    }
}

/// Nothing of the host's is reached from a process: no file by its name, and no directory by a
/// descriptor.
fn check_walls(keeper: i32, holder: i32) {
    let mounts = of_process(holder, "mountinfo");
    assert!(mounts.lines().count() == 1 && mounts.contains(" / / ro,"), "{mounts}");
    assert_eq!(fs::read_dir(format!("/proc/{holder}/root")).unwrap().count(), 0);
    for kind in ["mnt", "net", "ipc", "uts", "cgroup"] {
        let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(namespace(holder), namespace(keeper), "{kind}");
    }
    for fd in fs::read_dir(format!("/proc/{holder}/fd")).unwrap() {
        let fd = fd.unwrap().path();
        assert!(!fs::metadata(&fd).is_ok_and(|fd| fd.is_dir()), "{:?}", fs::read_link(fd));
    }
}

const NO_CAPABILITIES: &str = "0000000000000000";

/// What every process that holds a machine has given up.
const GIVEN_UP: [(&str, &str); 7] = [
    ("CapInh", NO_CAPABILITIES),
    ("CapPrm", NO_CAPABILITIES),
    ("CapEff", NO_CAPABILITIES),
    ("CapBnd", NO_CAPABILITIES),
    ("CapAmb", NO_CAPABILITIES),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

#[test]
fn the_process_that_holds_a_machine_has_given_its_rights_up() {
    let Some(host) = Host::new() else { return };
    if !testkit::need::root() {
        return;
    }
    host.create("a", &["--disk", "size=1M"]);
    host.ok(&["start", "a"]);
    host.counts("a", "A");
    let keeper = host.process("a").as_raw_nonzero().get();
    let first = holder(keeper);
    let id = (0x7000_0000 + first).to_string();
    let own = [&*id; 4].join("\t");
    let all = [&GIVEN_UP[..], &[("Uid", &own), ("Gid", &own), ("Groups", "")]].concat();
    for thread in fs::read_dir(format!("/proc/{first}/task")).unwrap() {
        let thread = thread.unwrap().file_name();
        check_status(thread.to_str().unwrap().parse().unwrap(), &all);
    }
    check_walls(keeper, first);
    // So has the one of a machine that was restored, or began again, and both can be saved.
    host.ok(&["snapshot", "create", "a"]);
    host.ok(&["stop", "a"]);
    host.ok(&["restore", "a"]);
    host.counts("a", "B");
    let keeper = host.process("a").as_raw_nonzero().get();
    let second = holder(keeper);
    check_status(second, &GIVEN_UP);
    check_walls(keeper, second);
    host.ok(&["snapshot", "create", "a"]);
    let mut console = host.console("a");
    console.types("r");
    wait_until("another process holds it", || {
        let children = of_process(keeper, &format!("task/{keeper}/children"));
        !children.is_empty() && children.trim() != second.to_string()
    });
    wait_until("it runs", || of_process(holder(keeper), "status").contains("Seccomp:\t2"));
    check_status(holder(keeper), &GIVEN_UP);
    host.ok(&["inspect", "a"]);
    // Killed, it takes the machine with it, and the keeper says so.
    let pid = rustix::process::Pid::from_raw(holder(keeper)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    host.wait_for("a", "failed");
    let status = host.ok(&["inspect", "--format", "{{.Status}}", "a"]);
    assert!(status.ends_with("its process was killed"), "{status}");
    // It does not outlive its keeper either.
    host.ok(&["start", "a"]);
    let keeper = host.process("a");
    let there = holder(keeper.as_raw_nonzero().get());
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    wait_until("it is gone", || !Path::new(&format!("/proc/{there}")).exists());
}

#[test]
fn an_ordinary_users_machine_has_no_more() {
    let Some(user) = User::new(Grants::default()) else { return };
    let kernel = user.path("kernel");
    fs::write(&kernel, kernel_file()).unwrap();
    let create = ["vm", "create", "--accel", "soft", "--memory", "8m", "--disk", "size=1M"];
    user.ok(&[&create, &["--kernel", kernel.to_str().unwrap(), "a"][..]].concat());
    user.ok(&["vm", "start", "a"]);
    let keeper = user.ok(&["vm", "inspect", "--format", "{{.Process}}", "a"]).parse().unwrap();
    let uid = user.uid().to_string();
    let own = [&*uid; 4].join("\t");
    check_status(holder(keeper), &[&GIVEN_UP[..], &[("Uid", &own)]].concat());
    check_walls(keeper, holder(keeper));
    for name in ["s1", "s2"] {
        assert_eq!(user.ok(&["vm", "snapshot", "create", "a"]), name);
    }
    user.ok(&["vm", "stop", "a"]);
    user.ok(&["vm", "restore", "a", "s2"]);
    user.ok(&["vm", "rm", "-f", "a"]);
}

/// Goes back to s1, counts on, and saves with this fault at a step; gives what came of it.
fn save_with_fault(host: &Host, nth: u64, fault: Fault) -> Traced {
    host.ok(&["restore", "a", "s1"]);
    host.counts("a", "B");
    let keeper = host.process("a").as_raw_nonzero().get();
    let pids = [keeper, holder(keeper)];
    let command = host.0.command(&["vm", "snapshot", "create", "a", "s2"]);
    with_fault(&Instance::program(), &pids, command, nth, fault)
}

#[test]
fn a_snapshot_that_is_cut_off_leaves_its_parent_whole() {
    const TRIED: u64 = 6;
    let Some(host) = Host::new() else { return };
    host.create("a", &["--disk", "size=1M", "--network", "none"]);
    host.ok(&["start", "a"]);
    host.counts("a", "A");
    host.ok(&["snapshot", "create", "a", "s1"]);
    host.ok(&["stop", "--time", "0", "a"]);
    let whole = save_with_fault(&host, u64::MAX, Fault::Kill);
    assert!(whole.code == 0 && whole.steps > TRIED, "{whole:?}");
    assert_eq!(host.snapshot("a", "s2").0.as_deref(), Some("s1"));
    let end = || {
        host.ok(&["stop", "--time", "0", "a"]);
        host.0.run(&["vm", "snapshot", "rm", "a", "s2"]);
    };
    end();
    let steps = (1..=whole.steps).step_by(usize::try_from(whole.steps / TRIED).unwrap());
    for (nth, fault) in steps.flat_map(|nth| [(nth, Fault::Kill), (nth, Fault::Fail)]) {
        let traced = save_with_fault(&host, nth, fault);
        let what = format!("{fault:?} at {nth}: {traced:?}");
        let there = host.ok(&["snapshot", "ls", "-q", "a"]);
        // One that is said to be there is, and can be gone back to.
        let made = there == "s1\ns2";
        assert!(made || (there == "s1" && traced.code != 0), "{what}: {there}");
        if made {
            host.ok(&["stop", "--time", "0", "a"]);
            host.ok(&["restore", "a", "s2"]);
            host.counts("a", "C");
        } else if host.state("a") == "running" {
            // Who did not make it made it nobody's loss: the next one has everything.
            host.ok(&["snapshot", "create", "a", "s3"]);
            host.ok(&["stop", "--time", "0", "a"]);
            host.ok(&["restore", "a", "s3"]);
            host.counts("a", "C");
            host.ok(&["snapshot", "rm", "a", "s3"]);
        } else {
            host.ok(&["start", "a"]);
        }
        let all = fs::read_dir(host.path("a").join("snapshots")).unwrap();
        let left: Vec<_> = all.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 1 + usize::from(made), "{what}: {left:?}");
        end();
    }
}

#[test]
fn every_end_is_told_as_what_it_was() {
    let Some(host) = Host::new() else { return };
    let ends = [("q", "stopped"), ("p", "panicked"), ("t", "faulted"), ("h", "stuck")];
    for (letter, state) in ends {
        host.create(state, &["--network", "none"]);
        host.ok(&["start", state]);
        host.console(state).types(letter);
        host.wait_for(state, state);
    }
    host.create("killed", &["--network", "none"]);
    host.ok(&["start", "killed"]);
    rustix::process::kill_process(host.process("killed"), rustix::process::Signal::KILL).unwrap();
    host.wait_for("killed", "killed");
    // It is as any other that does not run.
    host.ok(&["start", "killed"]);
    let mut console = host.console("killed");
    console.types("r");
    // A board that is reset begins again, in the same process.
    let process = host.process("killed");
    wait_until("it has begun again", || {
        let ran = host.0.run(&["vm", "inspect", "--format", "{{.Process}}", "killed"]);
        ran.code == 0 && ran.out.trim() == process.as_raw_nonzero().get().to_string()
    });
    drop(console);
    let mut console = host.console("killed");
    console.types("n");
    assert_eq!(console.line(), "A\n");
    // One that does not answer to its button in time is ended.
    host.ok(&["stop", "--time", "0", "killed"]);
    let status = host.ok(&["inspect", "--format", "{{.Status}}", "killed"]);
    assert!(status.ends_with("it was stopped"), "{status}");
}

#[test]
fn disks_are_what_their_user_said_and_nothing_else() {
    let Some(host) = Host::new() else { return };
    let kernel = host.0.path("kernel");
    let create = ["create", "--network", "none", "--kernel", kernel.to_str().unwrap()];
    let refused = |disk: &str, why: &str| {
        host.refused(&[&create, &["--disk", disk, "a"][..]].concat(), why);
        assert!(!host.path("a").exists());
    };
    refused("/nothing/there", "cannot open /nothing/there");
    refused("size=0", "is no size of a disk");
    refused("size=1G,ro", "neither read-only nor");
    refused("size=1G,cache=none", "says nothing of a disk");
    host.create("one", &["--network", "none", "--disk", "size=1M"]);
    let disk = host.path("one").join("disk-0");
    let same = format!("path={}", disk.display());
    host.create("two", &["--network", "none", "--disk", &same]);
    host.ok(&["start", "one"]);
    host.refused(&["start", "two"], "is used by another machine");
    host.ok(&["stop", "one"]);
    host.ok(&["start", "two"]);
    let create = ["create", "--kernel", kernel.to_str().unwrap(), "--network=bridge", "b"];
    host.refused(&create, "--network bridge");
}

#[test]
fn twice_the_processors_of_the_host_and_more_memory_than_is_resident() {
    let Some(host) = Host::new() else { return };
    let names = ["a", "b"];
    for name in names {
        let kernel = host.0.path("kernel");
        let args = ["create", "--accel", "soft", "--network", "none", "--cpus", "4"];
        let kernel = ["--memory", "64g", "--kernel", kernel.to_str().unwrap(), name];
        host.ok(&[&args[..], &kernel].concat());
    }
    host.ok(&[&["start"], &names[..]].concat());
    let all: Vec<serde_json::Value> =
        serde_json::from_str(&host.ok(&[&["inspect"], &names[..]].concat())).unwrap();
    for one in &all {
        assert_eq!(one["MemoryBytes"], 64_u64 << 30);
        assert!(one["ResidentBytes"].as_u64().unwrap() < 1 << 30, "{one}");
    }
    let listed = host.ok(&["ls", "--format", "{{.CPUs}} {{.Memory}}"]);
    assert_eq!(listed, "4 64GiB\n4 64GiB");
    host.refused(&["resize", "--memory", "65g", "a"], "while it runs it can have");
    host.ok(&["resize", "--memory", "32g", "a"]);
    let asked = host.ok(&["inspect", "--format", "{{.BalloonAskedBytes}}", "a"]);
    assert_eq!(asked, (32_u64 << 30).to_string());
}
