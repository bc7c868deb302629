//! Containers come and go, and the host is as it was: descriptor by descriptor.
//!
//! `cargo xtask churn` does it 1,000 times; without it, some.

#![expect(clippy::print_stdout, reason = "how often, and what the processes weigh")]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use it::{Instance, cgroups, wait_until};

/// How many cycles, where nobody says.
const CYCLES: u32 = 15;

/// Growth of a process over all cycles that is still none, in KiB: what an allocator keeps.
const GROWTH_KIB: u64 = 8 << 10;

/// Everything that containers take of a host, by name, with how much there is of it.
type Host = BTreeMap<String, u64>;

#[test]
fn a_thousand_containers_leave_the_host_as_it_was() {
    let Some(instance) = Instance::start() else { return };
    let cycles = std::env::var("WYTHE_CYCLES").map_or(CYCLES, |n| n.parse().expect("a number"));
    // The first ones make what is made once, and fill what is kept for the next.
    (0..8).for_each(|n| cycle(&instance, n));
    let before = settled(&instance);
    let memory = memory(&instance);
    let long = cycles > CYCLES;
    if long {
        // Threads that wait for work that blocks end after ten idle seconds.
        std::thread::sleep(std::time::Duration::from_secs(12));
    }
    let threads = threads(&instance);
    (0..cycles).for_each(|n| cycle(&instance, n));
    let mut after = settled(&instance);
    if after != before {
        // What is put away in the background may take a moment longer.
        std::thread::sleep(std::time::Duration::from_secs(2));
        after = settled(&instance);
    }
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let names = before.keys().chain(after.keys());
    let changed: Vec<_> =
        names.filter(differs).map(|name| (name, before.get(name), after.get(name))).collect();
    assert!(changed.is_empty(), "after {cycles} cycles: {changed:#?}");
    if long {
        wait_until("there are no more threads than before", || {
            let now = self::threads(&instance);
            now.iter().all(|(process, count)| threads.get(process).is_some_and(|had| count <= had))
        });
    }
    let grown = self::memory(&instance);
    println!(
        "{cycles} cycles: {memory:?} KiB before, {grown:?} after, {} things counted",
        before.len()
    );
    for (process, kib) in &grown {
        let had = memory.get(process).copied().unwrap_or_default();
        assert!(*kib < had + GROWTH_KIB, "{process} grew from {had} KiB to {kib} KiB");
    }
}

/// Creates, runs and removes one, with everything a container can have.
fn cycle(instance: &Instance, n: u32) {
    let tmpfs: &[&str] = &["--tmpfs", "/scratch"];
    let port = format!("{}:80", 20_000 + n % 100);
    let ported: &[&str] = &["-p", &port, "-v", "/v"];
    let limited: &[&str] = &["-m", "64m", "--pids-limit", "50", "--init"];
    let kind = [tmpfs, ported, limited][(n % 3) as usize];
    let create = [&["create", "--name", "one"], kind, &["demo", "sh", "-c", "echo hi; exit 3"]];
    instance.ok(&create.concat());
    let ran = instance.run(&["start", "-a", "one"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, "hi\n"), "{ran:?}");
    instance.ok(&["rm", "-v", "one"]);
    // One that is taken away while it runs.
    instance.ok(&["run", "-d", "--name", "two", "demo", "sleep", "infinity"]);
    assert_eq!(instance.ok(&["exec", "two", "echo", "ho"]), "ho");
    instance.ok(&["rm", "-f", "two"]);
}

/// The host, when nothing is under way: two looks in a row see the same.
fn settled(instance: &Instance) -> Host {
    let mut last = host(instance);
    wait_until("the host is at rest", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = host(instance);
        let same = now == last;
        last = now;
        same
    });
    last
}

fn host(instance: &Instance) -> Host {
    let mut host = Host::new();
    let mut count = |name: String| *host.entry(name).or_default() += 1;
    for pid in instance.own_processes() {
        let process = name_of(pid);
        count(format!("process {process}"));
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(link) = fs::read_link(fd.path()) else { continue };
            count(format!("{process}: {}", kind(&link)));
        }
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        mounts.lines().for_each(|line| {
            let point = line.split(' ').nth(4).unwrap_or_default();
            count(format!("{process}: mount {point}"));
        });
    }
    instance.links().into_iter().for_each(|link| count(format!("link {link}")));
    instance.rules().lines().for_each(|rule| count(format!("rule {}", without_numbers(rule))));
    let text = instance.path("").display().to_string();
    let text = text.trim_end_matches('/');
    cgroups(text.rsplit('/').next().unwrap_or(text)).iter().for_each(|group| {
        count(format!("group {}", group.display()));
    });
    for root in ["data", "run"] {
        files(&instance.path(root), &mut |path| count(format!("file {}", path.display())));
    }
    let namespaces = Command::new("lsns").args(["-n", "-o", "TYPE,COMMAND"]).output();
    let namespaces = namespaces.map(|output| output.stdout).unwrap_or_default();
    for line in String::from_utf8_lossy(&namespaces).lines().filter(|line| line.contains(text)) {
        count(format!("namespace {line}"));
    }
    host
}

/// What a process is to the instance.
fn name_of(pid: i32) -> String {
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split('\0').nth(1).unwrap_or_default().to_owned()
}

/// What a descriptor is open on, without what differs from one to the next of its kind.
fn kind(link: &Path) -> String {
    let link = link.to_string_lossy();
    match link.split_once(":[") {
        Some((kind, _)) => kind.to_owned(),
        None => link.into_owned(),
    }
}

fn without_numbers(rule: &str) -> String {
    rule.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect()
}

fn files(dir: &Path, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), found);
        }
    }
}

/// How many threads the processes that stay have.
fn threads(instance: &Instance) -> BTreeMap<String, usize> {
    let count = |pid: i32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    instance.own_processes().into_iter().map(|pid| (name_of(pid), count(pid))).collect()
}

/// Memory of the processes that stay, in KiB.
fn memory(instance: &Instance) -> BTreeMap<String, u64> {
    let resident = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:").map(str::to_owned));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        (name_of(pid), kib.unwrap_or_default())
    };
    instance.own_processes().into_iter().map(resident).collect()
}
