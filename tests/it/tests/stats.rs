//! `stats`: every counter is what the container did, and rows come and go with containers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, ChildStdout, Stdio},
};

use it::{Instance, Pty, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// One look at one container: a field of the row, and every counter.
fn look(instance: &Instance, name: &str, field: &str) -> (String, Value) {
    let format = format!("{{{{.{field}}}}}\t{{{{json .Stats}}}}");
    let text = instance.ok(&["stats", "--no-stream", "--format", &format, name]);
    let (field, counters) = text.split_once('\t').expect("the format has a tab");
    (field.to_owned(), serde_json::from_str(counters).expect("it is JSON"))
}

/// Looks until it is so.
fn until(
    instance: &Instance,
    name: &str,
    field: &str,
    so: impl Fn(&str, &Value) -> bool,
) -> (String, Value) {
    let mut last = (String::new(), Value::Null);
    wait_until(&format!("the {field} of {name} are right"), || {
        last = look(instance, name, field);
        so(&last.0, &last.1)
    });
    last
}

fn number(counters: &Value, path: &str) -> u64 {
    let value = counters.pointer(path).unwrap_or_else(|| panic!("{path} is not in {counters}"));
    value.as_u64().unwrap_or_else(|| panic!("{path} is no number in {counters}"))
}

#[test]
fn processor_time_is_a_share_of_the_hosts_and_what_a_quota_held_back_is_counted() {
    let Some(instance) = Instance::start() else { return };
    let run = ["run", "-d", "--network", "none", "--cpus", "0.2", "--name", "busy"];
    instance.ok(&[&run[..], &["demo", "stress", "--cpu", "2"]].concat());
    let (shown, counters) = until(&instance, "busy", "CPUPerc", |shown, counters| {
        shown != "0.00%"
            && number(counters, "/cpu_stats/throttling_data/throttled_periods") > 0
            && number(counters, "/cpu_stats/throttling_data/throttled_time") > 0
    });
    let grown = |path: &str| {
        let (now, before) = (format!("/cpu_stats/{path}"), format!("/precpu_stats/{path}"));
        number(&counters, &now) - number(&counters, &before)
    };
    let cpus = number(&counters, "/cpu_stats/online_cpus");
    let of_host = fs::read_to_string("/proc/stat").expect("Linux has it");
    let of_host = of_host.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    assert_eq!(usize::try_from(cpus).ok(), Some(of_host));
    #[expect(clippy::cast_precision_loss, reason = "two seconds in nanoseconds are exact")]
    let share = grown("cpu_usage/total_usage") as f64 / grown("system_cpu_usage") as f64
        * f64::from(u32::try_from(cpus).expect("it is small"))
        * 100.0;
    let told: f64 = shown.trim_end_matches('%').parse().expect("it is a number");
    assert!((told - share).abs() < 0.011, "{shown} is not {share}");
    assert!(number(&counters, "/cpu_stats/cpu_usage/usage_in_usermode") > 0);
    let data = "/cpu_stats/throttling_data";
    let periods = number(&counters, &format!("{data}/periods"));
    assert!(periods >= number(&counters, &format!("{data}/throttled_periods")));
}

#[test]
fn memory_and_processes_are_counted_beside_their_limits() {
    let Some(instance) = Instance::start() else { return };
    let run = ["run", "-d", "--network", "none", "--memory", "128m", "--pids-limit", "20"];
    instance.ok(&[&run[..], &["--name", "held", "demo", "stress", "--memory", "32m"]].concat());
    let (shown, counters) = until(&instance, "held", "MemUsage", |_, counters| {
        number(counters, "/memory_stats/usage") >= 32 * MIB
    });
    assert!(shown.ends_with("MiB / 128MiB"), "{shown}");
    assert_eq!(number(&counters, "/memory_stats/limit"), 128 * MIB);
    assert_eq!(number(&counters, "/pids_stats/limit"), 20);
    assert_eq!(number(&counters, "/pids_stats/current"), 1);
    instance.ok(&["exec", "-d", "held", "sleep", "infinity"]);
    until(&instance, "held", "PIDs", |pids, _| pids == "2");
    instance.ok(&["pause", "held"]);
    let (pids, counters) = look(&instance, "held", "PIDs");
    assert_eq!(pids, "2");
    assert!(number(&counters, "/memory_stats/usage") >= 32 * MIB);

    instance.ok(&["run", "-d", "--network", "none", "--name", "free", "demo", "sleep", "100"]);
    let (_, counters) = look(&instance, "free", "MemUsage");
    let meminfo = fs::read_to_string("/proc/meminfo").expect("Linux has it");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("is told");
    let total: u64 = total.trim().trim_end_matches(" kB").parse().expect("it is a number");
    assert_eq!(number(&counters, "/memory_stats/limit"), total * 1024);
}

#[test]
fn traffic_is_counted_as_the_container_sees_it() {
    let Some(instance) = Instance::start() else { return };
    let script = "nc -l 9000 | wc; sleep infinity";
    instance.ok(&["run", "-d", "--init", "--name", "sink", "demo", "sh", "-c", script]);
    let address = instance.inspect("sink", "{{.NetworkSettings.IPAddress}}");
    instance.on_network(|| {
        let mut socket = None;
        wait_until("the container listens", || {
            socket = TcpStream::connect(format!("{address}:9000")).ok();
            socket.is_some()
        });
        let mut socket = socket.expect("it was connected");
        socket.write_all(&vec![0; 1 << 20]).expect("somebody reads");
        socket.shutdown(Shutdown::Write).expect("it is connected");
        drop(socket.read_to_end(&mut Vec::new()));
    });
    wait_until("all has arrived", || instance.ok(&["logs", "sink"]).contains("1048576"));
    let (shown, counters) = look(&instance, "sink", "NetIO");
    let eth0 = |counter: &str| number(&counters, &format!("/networks/eth0/{counter}"));
    assert!(eth0("rx_bytes") >= MIB && eth0("rx_packets") > 0, "{counters}");
    assert!(eth0("tx_bytes") > 0 && eth0("tx_bytes") < MIB, "{counters}");
    assert!(eth0("tx_packets") > 0 && eth0("rx_errors") == 0, "{counters}");
    assert!(counters.pointer("/networks/lo").is_none(), "{counters}");
    let (received, sent) = shown.split_once(" / ").expect("it is a pair");
    assert!(received.ends_with("MB") && sent.ends_with("kB"), "{shown}");
}

/// Whether block I/O of this directory is counted by a control group of this host.
///
/// Version 1 counts for a disk only once something throttles it, since Linux 6.10: then even the
/// topmost group has no line for the disk.
fn counts_blocks(path: &Path) -> bool {
    let list = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let top = "/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive";
    let top = fs::read_to_string(top).unwrap_or_default();
    let major = fs::metadata(path).map_or(0, |data| data.dev() >> 8 & 0xfff);
    let of_disk = |line: &str| line.starts_with(&format!("{major}:")) && line.contains(" Write ");
    let counts = list.split_whitespace().any(|controller| controller == "io")
        || top.lines().any(|line| of_disk(line) && !line.ends_with(" 0"));
    // File systems of no block device have 0 for a major number.
    counts && major != 0
}

#[test]
fn what_was_written_to_the_disk_is_counted_and_cache_is_not_memory_in_use() {
    let Some(instance) = Instance::start() else { return };
    let Some(busybox) = testkit::need::tool("busybox") else { return };
    let bind = format!("{}:/busybox:ro", busybox.display());
    let write = "/busybox dd if=/dev/zero of=/file bs=64k count=256 conv=fsync; sleep infinity";
    let run = ["run", "-d", "--init", "--network", "none", "--name", "disk", "-v", &bind];
    instance.ok(&[&run[..], &["demo", "sh", "-c", write]].concat());
    wait_until("it is written", || {
        instance.run(&["logs", "disk"]).err.contains("256+0 records out")
    });

    let format = "{{.BlockIO}}\t{{.MemUsage}}\t{{json .Stats}}";
    let text = instance.ok(&["stats", "--no-stream", "--format", format, "disk"]);
    let [block, memory, counters] =
        text.splitn(3, '\t').collect::<Vec<_>>().try_into().expect("three fields");
    let counters: Value = serde_json::from_str(counters).expect("it is JSON");
    let stat = |key: &str| counters.pointer(&format!("/memory_stats/stats/{key}"));
    let cache = stat("total_inactive_file").or(stat("inactive_file")).and_then(Value::as_u64);
    let cache = cache.expect("every kernel tells of it");
    assert!(cache >= 8 * MIB, "{counters}");
    let used = number(&counters, "/memory_stats/usage") - cache;
    assert!(used < 8 * MIB && memory.starts_with(&mebibytes(used)), "{memory} is not {used}");

    if !counts_blocks(&instance.path("")) {
        return;
    }
    let sum = |list: &str| {
        let list = counters.pointer(&format!("/blkio_stats/{list}")).and_then(Value::as_array);
        let list = list.expect("it is a list").iter();
        let written = list.filter(|entry| entry["op"] == "write");
        written.filter_map(|entry| entry["value"].as_u64()).sum::<u64>()
    };
    assert!(sum("io_service_bytes_recursive") >= 16 * MIB, "{counters}");
    assert!(sum("io_serviced_recursive") > 0, "{counters}");
    assert!(block.ends_with("MB"), "{block}");
}

/// The whole number before the point; the rest depends on rounding.
fn mebibytes(bytes: u64) -> String {
    match bytes {
        0..MIB => (bytes >> 10).to_string(),
        _ => (bytes / MIB).to_string(),
    }
}

/// A client that goes on looking.
struct Stream {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Stream {
    fn start(instance: &Instance, args: &[&str]) -> Stream {
        let rows = ["stats", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}"];
        let mut command = instance.command(&[&rows[..], args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Stream { child, lines }
    }

    /// The next row; empty at the end.
    fn row(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the client runs");
        line.trim_end().to_owned()
    }

    /// Reads on until a row begins so.
    fn until(&mut self, begin: &str) -> String {
        wait_for(begin, || Some(self.row()).filter(|row| row.starts_with(begin)))
    }
}

fn wait_for(begin: &str, mut next: impl FnMut() -> Option<String>) -> String {
    let mut found = None;
    wait_until(&format!("a row begins with {begin:?}"), || {
        found = next();
        found.is_some()
    });
    found.expect("it was waited for")
}

impl Drop for Stream {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn rows_come_and_go_with_containers_and_stay_when_asked() {
    let Some(instance) = Instance::start() else { return };
    let sleep = |name: &str| {
        let run = ["run", "-d", "--network", "none", "--name", name, "demo", "sleep", "infinity"];
        instance.ok(&run);
    };
    sleep("one");
    let mut running = Stream::start(&instance, &[]);
    let mut all = Stream::start(&instance, &["-a"]);
    running.until("one ");
    sleep("two");
    running.until("two ");
    all.until("two ");
    instance.ok(&["pause", "two"]);
    // What was printed before may still be in the pipe: several looks are later than the pause.
    for _ in 0..3 {
        assert!(running.until("two ").ends_with(" 1"));
    }
    instance.ok(&["kill", "two"]);
    let mut alone = 0;
    wait_until("it is gone from the rows", || {
        alone = if running.row().starts_with("one ") { alone + 1 } else { 0 };
        alone == 3
    });
    all.until("two 0.00% 0");
    instance.ok(&["start", "two"]);
    running.until("two ");
}

#[test]
fn named_containers_are_watched_until_the_last_is_removed() {
    let Some(instance) = Instance::start() else { return };
    for name in ["one", "two", "other"] {
        let run = ["run", "-d", "--network", "none", "--name", name, "demo", "sleep", "infinity"];
        instance.ok(&run);
    }
    let mut stream = Stream::start(&instance, &["one", "two"]);
    stream.until("one ");
    instance.ok(&["rename", "one", "uno"]);
    stream.until("uno ");
    instance.ok(&["kill", "uno"]);
    stream.until("uno 0.00% 0");
    instance.ok(&["rm", "-f", "uno", "two"]);
    let mut rows = Vec::new();
    wait_until("it ends", || {
        rows.push(stream.row());
        rows.last().is_some_and(String::is_empty)
    });
    assert!(rows.iter().all(|row| !row.starts_with("other")), "{rows:?}");
    let mut code = None;
    wait_until("it ends", || {
        code = stream.child.try_wait().expect("it is our child");
        code.is_some()
    });
    assert_eq!(code.and_then(|code| code.code()), Some(0));

    let unknown = instance.run(&["stats", "--no-stream", "nobody", "other", "nothing"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""), "{unknown:?}");
    for name in ["nobody", "nothing"] {
        let why = format!("Error response from daemon: No such container: {name}");
        assert!(unknown.err.contains(&why), "{unknown:?}");
    }
}

#[test]
fn formats_are_dockers() {
    let Some(instance) = Instance::start() else { return };
    let run = ["run", "-d", "--network", "none", "--name", "web", "demo", "sleep", "infinity"];
    let id = instance.ok(&run);
    instance.ok(&["create", "--network", "none", "--name", "idle", "demo"]);
    let once = ["container", "stats", "--no-stream"];
    let table = instance.ok(&once);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let heading = "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT";
    assert!(lines[0].starts_with(heading) && lines[1].starts_with(&id[..12]), "{table}");
    let whole = instance.ok(&[&once[..], &["--no-trunc", "--format", "{{.ID}}"]].concat());
    assert_eq!(whole, id);
    let called = [&once[..], &["--format", "{{.Container}} {{.Name}}", &id[..5]]].concat();
    assert_eq!(instance.ok(&called), format!("{} web", &id[..5]));
    let all = [&once[..], &["-a", "--format", "table {{.Name}}\t{{.MemUsage}}"]].concat();
    let all = instance.ok(&all);
    assert!(all.starts_with("NAME      MEM USAGE / LIMIT\n"), "{all}");
    assert!(all.ends_with("idle      0B / 0B"), "{all}");
    let json = instance.ok(&[&once[..], &["--format", "json"]].concat());
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let keys: Vec<_> = json.as_object().expect("it is an object").keys().collect();
    let want =
        ["BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"];
    assert_eq!(keys, want);
    assert_eq!(json["PIDs"], "1");

    // At a terminal one look takes the place of the other.
    let mut terminal = Pty::start(instance.command(&["stats"]), 24, 120);
    for _ in 0..2 {
        terminal.expect("\x1b[HCONTAINER ID");
        terminal.expect("web");
        terminal.expect("\x1b[J");
    }
}
