//! What the process that is a machine may do on the host, and what is left when it is killed.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use it::{Instance, cgroups, instance_with_kernel, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// A process of a machine.
struct Process(u32);

impl Process {
    /// The one of this name in a container's control group.
    fn of(instance: &Instance, container: &str, name: &str) -> Process {
        let id = instance.inspect(container, "{{.Id}}");
        let lists = cgroups(&id).into_iter().map(|group| group.join("cgroup.procs"));
        let pids = lists.flat_map(|list| {
            let text = fs::read_to_string(list).unwrap();
            text.lines().map(|line| line.parse().unwrap()).collect::<Vec<u32>>()
        });
        let mut processes = pids.map(Process);
        processes.find(|process| process.read("comm").trim() == name).unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).unwrap()
    }

    /// What `status` says.
    fn status(&self) -> BTreeMap<String, String> {
        let text = self.read("status");
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    }

    /// Each of these is what is wanted.
    fn check(&self, wanted: &[(&str, &str)]) {
        let status = self.status();
        for (key, value) in wanted {
            assert_eq!(status.get(*key).map(String::as_str), Some(*value), "{key}");
        }
    }

    fn parent(&self) -> Process {
        Process(self.status()["PPid"].parse().unwrap())
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/{kind}", self.0)).unwrap()
    }

    fn kill(&self) {
        let pid = Pid::from_raw(self.0.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// A descriptor that it has of this directory, as a path.
    fn descriptor(&self, of: &Path) -> PathBuf {
        let wanted = fs::metadata(of).unwrap();
        let all = fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap();
        let mut all = all.map(|entry| entry.unwrap().path());
        let is = |path: &PathBuf| {
            let found = fs::metadata(path);
            found.is_ok_and(|it| (it.dev(), it.ino()) == (wanted.dev(), wanted.ino()))
        };
        all.find(is).unwrap()
    }

    /// Where its files are mounted.
    fn mounts(&self) -> Vec<String> {
        let text = self.read("mountinfo");
        text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
    }
}

/// What a file of a container's control group says, in whatever hierarchy has it.
fn limit(instance: &Instance, container: &str, files: &[&str]) -> String {
    let id = instance.inspect(container, "{{.Id}}");
    let paths = cgroups(&id).into_iter().flat_map(|group| files.iter().map(move |f| group.join(f)));
    let mut found = paths.filter_map(|path| fs::read_to_string(path).ok());
    found.next().unwrap().trim().to_owned()
}

#[test]
fn a_machines_process_has_given_its_rights_up() {
    let Some(instance) = instance_with_kernel() else { return };
    let data = instance.path("shared");
    fs::create_dir(&data).unwrap();
    let share = format!("{}:/shared", data.display());
    let run = ["run", "-d", "--name", "vm", "--isolation", "vm", "--cpus", "0.5", "-v", &share];
    instance.ok(&[&run[..], &["demo", "sleep", "1000"]].concat());
    let machine = Process::of(&instance, "vm", "wythe-vmm");
    let none = "0000000000000000";
    let id = (0x7000_0000 + machine.0).to_string();
    let own = [&*id; 4].join("\t");
    let all = [
        ("Uid", &*own),
        ("Gid", &own),
        ("Groups", ""),
        ("CapInh", none),
        ("CapPrm", none),
        ("CapEff", none),
        ("CapBnd", none),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ];
    machine.check(&all);
    for thread in fs::read_dir(format!("/proc/{}/task", machine.0)).unwrap() {
        Process(thread.unwrap().file_name().to_str().unwrap().parse().unwrap()).check(&all);
    }
    assert_eq!(machine.mounts(), ["/"]);
    assert!(machine.read("mountinfo").contains(" / / ro,"), "{}", machine.read("mountinfo"));
    let root = format!("/proc/{}/root", machine.0);
    assert_eq!(fs::read_dir(root).unwrap().count(), 0, "its root is empty");
    for kind in ["mnt", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(machine.namespace(kind), machine.parent().namespace(kind), "{kind}");
    }
    // What it could be made to look at: files, and no directory among them.
    for fd in fs::read_dir(format!("/proc/{}/fd", machine.0)).unwrap() {
        let fd = fs::metadata(fd.unwrap().path());
        assert!(!fd.is_ok_and(|fd| fd.is_dir()), "it has a directory open");
    }
    assert_eq!(
        limit(&instance, "vm", &["memory.limit_in_bytes", "memory.max"]),
        ((256u64 + 48 + 16 + 1) << 20).to_string()
    );
    let quota = limit(&instance, "vm", &["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("50000"));
    instance.ok(&["update", "--cpus", "0.75", "vm"]);
    let quota = limit(&instance, "vm", &["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("75000"));

    // Who serves its files has more rights, and sees only those files.
    let server = Process::of(&instance, "vm", "wythe-shares");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP.
    let some = "000000008800001b";
    server.check(&[
        ("CapInh", none),
        ("CapPrm", some),
        ("CapEff", some),
        ("CapBnd", some),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ]);
    let mut mounts = server.mounts();
    mounts.sort();
    assert_eq!(mounts, ["/", "/proc"]);
    for kind in ["mnt", "net", "ipc", "uts", "cgroup", "pid"] {
        assert_ne!(server.namespace(kind), machine.parent().namespace(kind), "{kind}");
    }
    instance.remove_all();
}

#[test]
fn files_of_volumes_belong_to_whom_the_guest_says() {
    let Some(instance) = instance_with_kernel() else { return };
    let data = instance.path("shared");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    let share = format!("{}:/shared", data.display());
    let run = ["run", "--rm", "--network", "none", "--isolation", "vm", "-v", &share];
    let write = ["--user", "1234:4321", "demo", "sh", "-c", "echo mine > /shared/file"];
    instance.ok(&[&run[..], &write].concat());
    let file = fs::metadata(data.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (1234, 4321));
    // Nobody else's files are his.
    fs::write(data.join("secret"), "root's").unwrap();
    fs::set_permissions(data.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let read = |user| {
        instance.run(&[&run[..], &["--user", user, "demo", "cat", "/shared/secret"]].concat())
    };
    assert_ne!(read("1234").code, 0);
    assert_eq!(read("0").out, "root's");

    // What is not to be written is not, whatever the machine's kernel believes.
    let share = format!("{share}:ro");
    let run = ["run", "-d", "--name", "vm", "--isolation", "vm", "-v", &share, "demo", "sleep"];
    instance.ok(&[&run[..], &["1000"]].concat());
    let server = Process::of(&instance, "vm", "wythe-shares");
    let shared = server.descriptor(&data);
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "mine\n");
    let refused = fs::write(shared.join("file"), "x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert_ne!(instance.run(&["exec", "vm", "sh", "-c", "echo x > /shared/file"]).code, 0);
    assert_eq!(instance.ok(&["exec", "vm", "cat", "/shared/file"]), "mine");
    instance.remove_all();
}

#[test]
fn nothing_is_left_of_a_machine_whose_process_is_killed() {
    let Some(instance) = instance_with_kernel() else { return };
    let run = ["run", "-d", "--network", "none", "--isolation", "vm", "--name"];
    for name in ["victim", "orphan", "neighbour"] {
        instance.ok(&[&run[..], &[name, "demo", "sleep", "1000"]].concat());
    }
    let victim = Process::of(&instance, "victim", "wythe-vmm");
    let orphan = Process::of(&instance, "orphan", "wythe-vmm");
    let server = Process::of(&instance, "orphan", "wythe-shares");
    let ids = ["victim", "orphan"].map(|name| instance.inspect(name, "{{.Id}}"));
    victim.kill();
    orphan.parent().kill();
    for name in ["victim", "orphan"] {
        wait_until("its end is noticed", || {
            instance.inspect(name, "{{.State.Status}}") == "exited"
        });
    }
    let told = instance.inspect("victim", "{{.State.Error}}");
    assert_eq!(told, "the machine's process was killed");
    for id in &ids {
        wait_until("its groups are gone", || cgroups(id).is_empty());
    }
    for Process(pid) in [victim, orphan, server] {
        let there = PathBuf::from(format!("/proc/{pid}"));
        wait_until("the process is gone", || !there.exists());
    }
    assert_eq!(instance.ok(&["exec", "neighbour", "echo", "still here"]), "still here");
    instance.ok(&["start", "victim"]);
    assert_eq!(instance.ok(&["exec", "victim", "echo", "back"]), "back");
    instance.remove_all();
    wait_until("no group is left", || ids.iter().all(|id| cgroups(id).is_empty()));
}

/// Most that a machine may take of the host beside its memory, in kB: ten MiB, without what the
/// loader writes into the program, which is 0.7 MiB of one that is built to be used.
const BESIDE_MAX: u64 = (10 << 10) - 720;

#[test]
fn beside_its_memory_a_machine_takes_little() {
    let Some(instance) = instance_with_kernel() else { return };
    let run = ["run", "-d", "--name", "vm", "--isolation", "vm", "demo", "sleep", "1000"];
    instance.ok(&run);
    // What one executes is decoded, and kept.
    for command in ["demo", "ls -laR /", "ps", "id", "cat /etc/os-release", "find / -name x"] {
        let all = ["exec", "vm", "sh", "-c", command];
        instance.run(&all);
    }
    // Both are in the container's control group, which is how they are found.
    let of = |name| Process::of(&instance, "vm", name).read("smaps");
    let (machine, shares) = (beside(&of("wythe-vmm")), beside(&of("wythe-shares")));
    let all = machine + shares;
    assert!((1 << 10..=BESIDE_MAX).contains(&all), "{machine} + {shares} kB");
    instance.remove_all();
}

/// What nobody else has, of mappings that can be written and are not the guest's memory, in kB.
fn beside(smaps: &str) -> u64 {
    let mut counts = false;
    let mut all = 0;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Private_Dirty:"), Some(kilobytes)) if counts => {
                all += kilobytes.parse::<u64>().unwrap();
            }
            // The head of a mapping: where, what is allowed, and last what is mapped.
            (Some(_), Some(allowed)) if allowed.ends_with(['p', 's']) => {
                counts = allowed.starts_with("rw") && !line.ends_with("/memory");
            }
            _ => {}
        }
    }
    all
}
