//! The server behind the Docker API: crowds, clients that leave, further sockets, TCP with
//! certificates on both sides.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Command,
};

use it::{Instance, certificates, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections that do nothing, where the host lets one process have so many.
const IDLE: usize = 10_000;

fn connect(instance: &Instance) -> UnixStream {
    UnixStream::connect(instance.path("run/docker.sock")).expect("it listens")
}

/// A connection on which this was asked, and on which an answer has begun.
fn asked(instance: &Instance, request: &str) -> UnixStream {
    let mut socket = connect(instance);
    socket
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .expect("it is read");
    let mut first = [0; 12];
    socket.read_exact(&mut first).expect("it answers");
    assert_eq!(&first, b"HTTP/1.1 200", "{request}");
    socket
}

fn descriptors(instance: &Instance) -> usize {
    let pid = fs::read_to_string(instance.path("run/daemon.lock")).expect("a daemon has one");
    fs::read_dir(format!("/proc/{}/fd", pid.trim())).expect("it runs").count()
}

/// Memory that is the daemon's alone, in KiB.
fn memory(instance: &Instance) -> u64 {
    let pid = instance.daemon_pid();
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn thousands_who_do_nothing_are_in_nobodys_way() {
    let Some(instance) = Instance::start() else { return };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    // Half of what the server has room for, if that is less.
    let most = limit.maximum.map_or(IDLE, |most| usize::try_from(most).unwrap_or(IDLE));
    let idle_count = IDLE.min(most / 2);
    drop(asked(&instance, "GET /version"));
    let before = descriptors(&instance);
    let mut peaks = Vec::new();
    for _ in 0..4 {
        let mut idle: Vec<_> = (0..idle_count - 100).map(|_| connect(&instance)).collect();
        idle.extend((0..100).map(|_| {
            let mut socket = connect(&instance);
            socket.write_all(b"GET /version HT").unwrap();
            socket
        }));
        // The one who asked before may be among those counted first.
        let in_all = idle_count - 1;
        wait_until("all of them are in", || descriptors(&instance) >= before + in_all);
        drop(asked(&instance, "GET /version"));
        assert_eq!(instance.run(&["ps", "-q"]).code, 0);
        peaks.push(memory(&instance));
        drop(idle);
        wait_until("they are forgotten", || descriptors(&instance) <= before + 5);
    }
    // Crowds that come later live where the first one did, but for what the allocator's arenas
    // make of it.
    assert!(peaks[3] <= peaks[0] * 2, "{peaks:?}");
}

#[test]
fn who_comes_when_there_is_no_room_is_told_so() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    instance.start_daemon_with("ulimit -n 400; exec \"$0\" daemon");
    // Three quarters of the descriptors.
    let mut inside: Vec<_> = (0..300).map(|_| asked(&instance, "GET /_ping")).collect();
    let refused = || {
        let mut socket = connect(&instance);
        socket.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    };
    let text = refused();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("there are 300 connections already"), "{text}");
    if testkit::need::tool("docker").is_some() {
        let stock = instance.docker(&["ps"]);
        assert!(stock.code != 0 && stock.err.contains("300 connections already"), "{stock:?}");
    }
    // The other socket has room of its own.
    assert_eq!(instance.run(&["ps", "-q"]).code, 0);
    inside.truncate(200);
    wait_until("there is room again", || {
        let mut socket = connect(&instance);
        let request = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text.starts_with("HTTP/1.1 200 ")
    });
}

#[test]
fn who_leaves_in_the_middle_of_an_answer_leaves_nothing_behind() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "--network", "none", "demo", "sleep", "1000"]);
    drop(asked(&instance, "GET /version"));
    let listeners = || {
        let mut socket = connect(&instance);
        let request = "GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let info: serde_json::Value = serde_json::from_str(body).unwrap();
        info["NEventsListener"].as_u64().unwrap()
    };
    assert_eq!(listeners(), 0);
    let before = descriptors(&instance);
    let events: Vec<_> = (0..20).map(|_| asked(&instance, "GET /events")).collect();
    assert_eq!(listeners(), 20);
    let mut others: Vec<_> = (0..5).map(|_| asked(&instance, "GET /images/demo/get")).collect();
    others.extend((0..5).map(|_| asked(&instance, "GET /containers/web/export")));
    others.extend((0..5).map(|_| asked(&instance, "GET /containers/web/logs?stdout=1&follow=1")));
    others.extend((0..5).map(|_| asked(&instance, "GET /containers/web/stats")));
    drop((events, others));
    wait_until("nobody listens", || listeners() == 0);
    wait_until("all is closed", || descriptors(&instance) <= before + 5);
    instance.remove_all();
}

/// A connection that has become a process's streams.
fn hijacked(instance: &Instance, path: &str, body: &str) -> UnixStream {
    let mut socket = connect(instance);
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).expect("it is read");
    let mut first = [0; 12];
    socket.read_exact(&mut first).expect("it answers");
    assert_eq!(&first, b"HTTP/1.1 101", "{path}");
    socket
}

/// The body of an answer to a request that works.
fn answer(instance: &Instance, path: &str, body: &str) -> serde_json::Value {
    let mut socket = connect(instance);
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).expect("it is read");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.starts_with("HTTP/1.1 201"), "{text}");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn streams_of_commands_that_are_cut_in_the_middle_leave_nothing_behind() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "box", "--network", "none", "demo", "sleep", "1000"]);
    let exec = |command: &str| {
        let body = format!(
            "{{\"AttachStdin\":true,\"AttachStdout\":true,\"AttachStderr\":true,\"Cmd\":{command}}}"
        );
        let made = answer(&instance, "/v1.50/containers/box/exec", &body);
        let id = made["Id"].as_str().expect("an id").to_owned();
        let socket = hijacked(&instance, &format!("/v1.50/exec/{id}/start"), "{\"Tty\":false}");
        (id, socket)
    };
    let running = |id: &str| {
        let mut socket = connect(&instance);
        let request =
            format!("GET /v1.50/exec/{id}/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text.contains("\"Running\":true")
    };
    drop(exec("[\"true\"]"));
    let before = descriptors(&instance);
    let mut peaks = Vec::new();
    for _ in 0..3 {
        let mut ids = Vec::new();
        for round in 0..10_usize {
            // One that reads, cut while it is being written to; one that writes, cut while nobody
            // reads, in the middle of a frame; one that is cut before a word is said.
            let (reader, mut socket) = exec("[\"cat\"]");
            socket.write_all(&vec![b'x'; 1000 * round]).unwrap();
            let (writer, mut cut) = exec("[\"cat\",\"/dev/zero\"]");
            cut.read_exact(&mut vec![0; 11 + round]).unwrap();
            let (_, silent) = exec("[\"true\"]");
            drop((socket, cut, silent));
            ids.extend([reader, writer]);
        }
        // Who reads sees its input end, who writes finds nobody to read it.
        wait_until("the readers have ended", || ids.iter().step_by(2).all(|id| !running(id)));
        wait_until("all is closed", || descriptors(&instance) <= before + 5);
        peaks.push(memory(&instance));
        instance.ok(&["restart", "-t", "0", "box"]);
    }
    assert!(peaks[2] <= peaks[0] + peaks[0] / 4, "{peaks:?}");
    instance.remove_all();
}

#[test]
fn over_tcp_both_sides_prove_who_they_are() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    let dir = instance.path("certificates");
    if testkit::need::tool("docker").is_none() || !certificates(&dir) {
        return;
    }
    let file = |name: &str| dir.join(name).display().to_string();
    let further = instance.path("further.sock");
    let hosts =
        format!("--docker-host tcp://127.0.0.1:2376 --docker-host unix://{}", further.display());
    let refused = instance.run(&["daemon", "--docker-host", "tcp://127.0.0.1:2376"]);
    assert!(refused.code != 0 && refused.err.contains("--tlsverify"), "{refused:?}");
    instance.start_daemon_with(&format!(
        "exec \"$0\" daemon {hosts} --tlsverify --tlscacert {} --tlscert {} --tlskey {}",
        file("ca.pem"),
        file("server.pem"),
        file("server-key.pem")
    ));
    // The instance's own network, where its 127.0.0.1 is.
    let network = format!("--net=/proc/{}/ns/net", instance.daemon_pid());
    let docker = |host: &str, args: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args([&network, "docker", "-H", host]).args(args);
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", instance.path("config"));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let as_who = |who: &str, args: &[&str]| {
        let (ca, cert, key) =
            (file("ca.pem"), file(&format!("{who}.pem")), file(&format!("{who}-key.pem")));
        let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
        docker("tcp://127.0.0.1:2376", &[&tls, args].concat())
    };
    let ran = as_who("client", &["run", "--rm", "--network", "none", "demo", "echo", "in"]);
    assert_eq!(ran, (true, "in\n".to_owned()));
    let (known, text) = as_who("odd", &["version"]);
    assert!(!known && !text.contains("Server: Wythe"), "{text}");
    let (known, text) = docker("tcp://127.0.0.1:2376", &["version"]);
    assert!(!known && !text.contains("Server: Wythe"), "{text}");
    let (served, text) = docker(&format!("unix://{}", further.display()), &["version"]);
    assert!(served && text.contains("Server: Wythe"), "{text}");
    instance.remove_all();
}
