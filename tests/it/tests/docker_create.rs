//! What the stock docker client asks of containers: every kind of flag, what `inspect` then shows
//! and what is so inside, lists with filters, updates, `top`, and attaching by hand.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use it::{Instance, wait_until};

fn start() -> Option<Instance> {
    testkit::need::tool("docker")?;
    Instance::start()
}

/// One request over the engine's socket: the connection, to be read from after its head.
fn ask(instance: &Instance, request: &str, body: &str) -> UnixStream {
    let path = instance.docker_host();
    let mut socket = UnixStream::connect(path.trim_start_matches("unix://")).expect("it listens");
    let length = body.len();
    write!(socket, "{request}\r\nHost: docker\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("it reads");
    socket
}

/// Status and body of an answer after which the connection is closed.
fn answer(instance: &Instance, request: &str, body: &str) -> (String, String) {
    let request =
        format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json");
    let mut text = String::new();
    ask(instance, &request, body).read_to_string(&mut text).expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    (status, body.to_owned())
}

/// The head of an answer, and no byte more.
fn head(socket: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("it answers");
        head.extend(byte);
    }
    String::from_utf8(head).expect("it is text")
}

#[test]
fn flags_of_the_stock_client_are_so_inside_and_are_shown() {
    let Some(instance) = start() else { return };
    let host = instance.path("host");
    fs::create_dir(&host).expect("a directory");
    let bind = format!("{}:/bound:ro", host.display());
    let flags = [
        "run",
        "-d",
        "--init",
        "--name",
        "web",
        "--network",
        "none",
        "-h",
        "inside",
        "-u",
        "7:8",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "-l",
        "tier=front",
        "-v",
        &bind,
        "-v",
        "data:/data",
        "--mount",
        "type=tmpfs,dst=/m,tmpfs-size=1m",
        "--tmpfs",
        "/t:size=2m",
        "-m",
        "64m",
        "--memory-swappiness",
        "-1",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--ulimit",
        "nofile=100:200",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "chown",
        "--security-opt",
        "no-new-privileges",
        "--sysctl",
        "kernel.msgmax=4096",
        "--add-host",
        "db:10.1.2.3",
        "--group-add",
        "9",
        "--read-only",
        "--shm-size",
        "8m",
        "--stop-signal",
        "INT",
        "--stop-timeout",
        "3",
        "--restart",
        "on-failure:2",
        "--log-opt",
        "max-size=1m",
        "--health-cmd",
        "true",
        "--health-interval",
        "2s",
        "--device",
        "/dev/null:/dev/mine:rw",
        "--oom-score-adj",
        "10",
        "--dns",
        "9.9.9.9",
        "demo",
        "sleep",
        "infinity",
    ];
    instance.docker_ok(&flags);
    let shown = |template: &str| instance.docker_ok(&["inspect", "-f", template, "web"]);
    for (template, want) in [
        ("{{.Config.Hostname}} {{.Config.User}} {{.Config.WorkingDir}}", "inside 7:8 /tmp"),
        ("{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", "67108864 500000000"),
        ("{{.HostConfig.PidsLimit}} {{.HostConfig.ShmSize}}", "50 8388608"),
        (
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            "on-failure 2",
        ),
        ("{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}", "[CAP_CHOWN] [ALL]"),
        ("{{.Config.StopSignal}} {{.Config.StopTimeout}}", "SIGINT 3"),
        ("{{.Config.Healthcheck.Interval}} {{.HostConfig.OomScoreAdj}}", "2s 10"),
        ("{{index .Config.Labels \"tier\"}} {{.HostConfig.ExtraHosts}}", "front [db:10.1.2.3]"),
        ("{{(index .HostConfig.Devices 0).PathInContainer}}", "/dev/mine"),
        (
            "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}",
            "bind:/bound:false volume:/data:true tmpfs:/m:true tmpfs:/t:true",
        ),
    ] {
        let got = shown(template);
        let (mut got, mut want): (Vec<_>, Vec<_>) =
            (got.split_whitespace().collect(), want.split_whitespace().collect());
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "{template}");
    }
    let inside = |script: &str| instance.docker_ok(&["exec", "web", "sh", "-c", script]);
    assert_eq!(inside("hostname; id; pwd; echo $A"), "inside\nuid=7 gid=8 groups=9\n/tmp\nb");
    let limits = inside("cat /proc/self/limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "200"]);
    assert_eq!(inside("cat /proc/sys/kernel/msgmax"), "4096");
    assert!(inside("cat /proc/self/status").contains("NoNewPrivs:\t1"));
    assert!(inside("cat /etc/hosts").contains("10.1.2.3\tdb"));
    let mounts = inside("cat /proc/mounts");
    for (path, size) in [("/m", "1024k"), ("/t", "2048k"), ("/dev/shm", "8192k")] {
        let line = mounts.lines().find(|line| line.contains(&format!(" {path} tmpfs ")));
        assert!(
            line.is_some_and(|line| line.contains(&format!("size={size}"))),
            "{path}: {mounts}"
        );
    }
    assert_ne!(instance.docker(&["exec", "web", "sh", "-c", "echo x > /bound/x"]).code, 0);
    instance.docker_ok(&["rm", "-f", "web"]);
    instance.docker_ok(&["volume", "rm", "data"]);
    instance.remove_all();
}

#[test]
fn what_cannot_be_is_refused_in_words_that_name_it() {
    let Some(instance) = start() else { return };
    for (flags, want) in [
        (&["--name", "_bad"][..], "Invalid container name (_bad)"),
        (&["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (&["--link", "a:b"], "HostConfig.Links is not supported"),
        (&["--storage-opt", "size=1g"], "HostConfig.StorageOpt is not supported"),
        (&["--gpus", "all"], "HostConfig.DeviceRequests is not supported"),
        (&["--runtime", "kata"], "unknown or invalid runtime name: kata"),
        (&["--network", "nosuch"], "network nosuch not found"),
        (&["--restart", "always", "--rm"], "and --rm"),
        (&["--log-driver", "fluentd"], "fluentd"),
    ] {
        let ran = instance.docker(&[&["create"][..], flags, &["demo"]].concat());
        assert_ne!(ran.code, 0, "{flags:?}");
        assert!(ran.err.contains(want), "{flags:?}: {}", ran.err);
    }
    for (body, want) in [
        (r#"{"Image":"demo","Colour":"red"}"#, "unknown field in the request: Colour"),
        (r#"{"Image":"demo","HostConfig":{"Memory":"1g"}}"#, "HostConfig.Memory: invalid type"),
        ("{", "invalid JSON"),
        ("", "Config cannot be empty"),
    ] {
        let (status, said) = answer(&instance, "POST /v1.43/containers/create", body);
        assert_eq!(status, "400", "{body}: {said}");
        assert!(said.contains(want), "{body}: {said}");
    }
    assert_eq!(instance.docker_ok(&["ps", "-aq"]), "", "nothing half-made is left");
    instance.remove_all();
}

#[test]
fn lists_are_filtered_limited_and_sized() {
    let Some(instance) = start() else { return };
    let run = |args: &[&str]| {
        instance.docker_ok(&[&["run", "--network", "none"], args].concat());
    };
    run(&["-d", "--init", "--name", "one", "-l", "a=1", "demo", "sleep", "infinity"]);
    run(&["-d", "--init", "--name", "two", "-l", "a=2", "-v", "/v", "demo", "sleep", "infinity"]);
    assert_eq!(instance.docker(&["run", "--name", "three", "demo", "sh", "-c", "exit 3"]).code, 3);
    let names = |args: &[&str]| {
        let said = instance.docker_ok(&[&["ps", "--format", "{{.Names}}"], args].concat());
        said.lines().collect::<Vec<_>>().join(" ")
    };
    for (args, want) in [
        (&[][..], "two one"),
        (&["-a"], "three two one"),
        (&["-n", "1"], "three"),
        (&["-f", "status=exited"], "three"),
        (&["-a", "-f", "exited=3"], "three"),
        (&["-f", "label=a"], "two one"),
        (&["-f", "label=a=1"], "one"),
        (&["-f", "name=^/two$"], "two"),
        (&["-a", "-f", "since=one"], "three two"),
        (&["-a", "-f", "before=two"], "one"),
        (&["-f", "volume=/v"], "two"),
        (&["-a", "-f", "network=bridge"], "three"),
        (&["-f", "ancestor=demo", "-f", "name=one"], "one"),
        (&["-f", "health=none", "-f", "isolation=container", "-f", "is-task=false"], "two one"),
    ] {
        assert_eq!(names(args), want, "{args:?}");
    }
    let bad = instance.docker(&["ps", "-f", "colour=red"]);
    assert!(bad.err.contains("invalid filter 'colour'"), "{bad:?}");
    assert!(instance.docker_ok(&["ps", "-s"]).contains("virtual"));
    instance.remove_all();
}

#[test]
fn limits_change_and_processes_are_shown() {
    let Some(instance) = start() else { return };
    let flags = ["run", "-d", "--init", "--network", "none", "--name", "web"];
    instance.docker_ok(&[&flags[..], &["demo", "sleep", "infinity"]].concat());
    instance.docker_ok(&["update", "-m", "64m", "--memory-swap", "-1", "--pids-limit", "9", "web"]);
    instance.docker_ok(&["update", "--restart", "always", "web"]);
    let template =
        "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(instance.docker_ok(&["inspect", "-f", template, "web"]), "67108864 9 always");
    let top = instance.docker_ok(&["top", "web"]);
    assert!(top.starts_with("UID") && top.contains("sleep infinity"), "{top}");
    let bad = instance.docker(&["top", "web", "-o", "ppid=PID"]);
    assert!(bad.err.contains("is not allowed"), "{bad:?}");
    let (status, said) =
        answer(&instance, "POST /containers/web/update", r#"{"Ulimits":[{"Name":"core"}]}"#);
    assert_eq!(status, "501", "{said}");
    instance.remove_all();
}

#[test]
fn past_and_present_output_are_attached_to_stream_by_stream() {
    let Some(instance) = start() else { return };
    let body = r#"{"Image":"demo","OpenStdin":true,"StdinOnce":true,
        "Cmd":["sh","-c","echo one; nosuch; cat; nosuch2"],"HostConfig":{"NetworkMode":"none"}}"#;
    let (status, said) = answer(&instance, "POST /containers/create?name=web", body);
    assert_eq!(status, "201", "{said}");
    instance.docker_ok(&["start", "web"]);
    wait_until("both lines are there", || {
        let ran = instance.docker(&["logs", "web"]);
        ran.out == "one\n" && ran.err.ends_with('\n')
    });
    let upgrade = "HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp";
    let attach = |query: &str| {
        let request = format!("POST /containers/web/attach?{query} {upgrade}");
        let mut socket = ask(&instance, &request, "");
        let head = head(&mut socket);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        socket
    };
    let mut past = Vec::new();
    attach("logs=1&stdout=1&stderr=1").read_to_end(&mut past).expect("it ends");
    let out = b"\x01\0\0\0\0\0\0\x04one\n";
    assert!(past.starts_with(out), "{past:?}");
    let told =
        String::from_utf8_lossy(past.strip_prefix(out).expect("it was checked")).into_owned();
    assert!(told.starts_with("\x02\0") && told.contains("nosuch"), "{told:?}");
    let mut errors = attach("stream=1&stderr=1");
    let mut both = attach("logs=1&stream=1&stdin=1&stdout=1");
    both.write_all(b"more\n").expect("it is read");
    both.shutdown(std::net::Shutdown::Write).expect("it can");
    let mut lines = Vec::new();
    both.read_to_end(&mut lines).expect("its input ends, and so does it");
    assert_eq!(lines, b"\x01\0\0\0\0\0\0\x04one\n\x01\0\0\0\0\0\0\x05more\n");
    let mut told = String::new();
    errors.read_to_string(&mut told).expect("it ends");
    assert!(told.starts_with("\x02\0") && told.contains("nosuch2"), "{told:?}");
    assert!(told.matches("nosuch").count() == 1 && !told.contains("more"), "{told:?}");
    instance.remove_all();
}

#[test]
fn a_websocket_is_attached_both_ways() {
    let Some(instance) = start() else { return };
    let flags = ["run", "-d", "-i", "--network", "none", "--name", "web"];
    instance.docker_ok(&[&flags[..], &["demo", "cat"]].concat());
    let request = "GET /containers/web/attach/ws?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n\
                   Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut socket = ask(&instance, request, "");
    let head = head(&mut socket);
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // "hi\n", masked with zeros; then a ping; then good-bye.
    socket.write_all(&[0x82, 0x83, 0, 0, 0, 0, b'h', b'i', b'\n']).expect("it is read");
    let mut message = [0; 5];
    socket.read_exact(&mut message).expect("cat says it back");
    assert_eq!(&message, b"\x82\x03hi\n");
    socket.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'?']).expect("it is read");
    let mut pong = [0; 3];
    socket.read_exact(&mut pong).expect("it answers");
    assert_eq!(&pong, b"\x8a\x01?");
    socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).expect("it is read");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).expect("it ends");
    assert_eq!(rest, b"\x88\x02\x03\xe8");
    assert_eq!(instance.docker_ok(&["inspect", "-f", "{{.State.Status}}", "web"]), "running");
    let (status, _) = answer(&instance, "GET /containers/web/attach/ws?stream=1", "");
    assert_eq!(status, "400");
    instance.remove_all();
}
