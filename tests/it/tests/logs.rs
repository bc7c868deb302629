//! Log drivers and `logs`: json-file, local, none, syslog; rotation, times, following.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use it::{Instance, wait_until};

/// A file of numbered lines, and how it is mounted.
fn numbered(instance: &Instance, count: u32) -> (Vec<String>, String) {
    let lines: Vec<String> = (0..count).map(|number| format!("line {number}")).collect();
    let path = instance.path("lines");
    std::fs::write(&path, lines.join("\n") + "\n").expect("the directory is ours");
    (lines, format!("{}:/lines:ro", path.display()))
}

/// Runs a script in a container of this name to its end.
fn run(instance: &Instance, name: &str, flags: &[&str], script: &str) {
    let all =
        [&["run", "-d", "--name", name, "--network", "none"], flags, &["demo", "sh", "-c", script]];
    instance.ok(&all.concat());
    instance.ok(&["wait", name]);
}

#[test]
fn json_file_is_what_docker_writes() {
    let Some(instance) = Instance::start() else { return };
    let flags = [
        "--log-driver",
        "json-file",
        "--log-opt",
        "tag={{.Name}}",
        "--log-opt",
        "labels=tier",
        "--label",
        "tier=front",
    ];
    run(&instance, "web", &flags, "echo one; echo two");
    let path = instance.inspect("web", "{{.LogPath}}");
    let id = instance.inspect("web", "{{.Id}}");
    assert!(path.ends_with(&format!("/{id}-json.log")), "{path}");
    let text = std::fs::read_to_string(&path).expect("it is a file");
    let first = text.lines().next().expect("there is a line");
    let front = "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"web\",\"tier\":\"front\"},\"time\":\"20";
    assert!(first.starts_with(front) && first.ends_with("Z\"}"), "{first}");
    assert_eq!(instance.ok(&["logs", "web"]), "one\ntwo");
    assert_eq!(instance.ok(&["logs", "-n", "1", "--details", "web"]), "tag=web,tier=front two");
    assert_eq!(instance.inspect("web", "{{.HostConfig.LogConfig.Type}}"), "json-file");
}

#[test]
fn rotation_times_and_restarts_are_read_through() {
    let Some(instance) = Instance::start() else { return };
    let (want, mount) = numbered(&instance, 60);
    for driver in ["local", "json-file"] {
        let flags =
            ["--log-driver", driver, "--log-opt", "max-size=2k", "--log-opt", "max-file=100"];
        run(&instance, driver, &[&flags[..], &["-v", &mount]].concat(), "cat /lines");
        assert_eq!(instance.ok(&["logs", driver]).lines().collect::<Vec<_>>(), want, "{driver}");
        assert_eq!(instance.ok(&["logs", "--tail", "2", driver]), "line 58\nline 59");
        let stamped = instance.ok(&["logs", "-t", "--tail", "1", driver]);
        let (last, _) = stamped.split_once(' ').expect("a time and a line");
        assert!(instance.ok(&["logs", "--since", last, driver]).ends_with("line 59"));
        assert_eq!(instance.ok(&["logs", "--until", "1h", driver]), "", "nothing is so old");
        // A second run goes on in the same log.
        instance.ok(&["start", driver]);
        instance.ok(&["wait", driver]);
        assert_eq!(instance.ok(&["logs", driver]).lines().count(), 120, "{driver}");
    }
}

#[test]
fn fifty_followers_of_one_container_miss_no_line() {
    let Some(instance) = Instance::start() else { return };
    let (lines, mount) = numbered(&instance, 1000);
    let script = "cat /lines; sleep 1; cat /lines";
    let flags = ["-d", "--name", "web", "--network", "none", "-v", &mount];
    let opts =
        ["--log-driver", "json-file", "--log-opt", "max-size=4k", "--log-opt", "max-file=100"];
    instance.ok(&[&["run"], &flags[..], &opts[..], &["demo", "sh", "-c", script]].concat());
    let follow = || {
        let mut command = instance.command(&["logs", "-f", "web"]);
        command.stdout(Stdio::piped()).spawn().expect("the program runs")
    };
    let followers: Vec<_> = (0..50).map(|_| follow()).collect();
    let want: Vec<String> = [lines.clone(), lines].concat();
    for follower in followers {
        let output = follower.wait_with_output().expect("it ends with the container");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
    }
}

#[test]
fn following_goes_on_over_a_restart() {
    let Some(instance) = Instance::start() else { return };
    let flags = ["run", "-d", "--name", "web", "--network", "none"];
    instance.ok(&[&flags[..], &["demo", "sh", "-c", "echo begun; exec sleep 1000"]].concat());
    let mut command = instance.command(&["logs", "-f", "web"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "begun");
    instance.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(lines.next().expect("a line").expect("text"), "begun");
    instance.ok(&["kill", "web"]);
    assert!(lines.next().is_none(), "it ends with the container");
    follower.wait().expect("it ends");
}

#[test]
fn syslog_gets_lines_and_a_silent_server_holds_nobody_up() {
    let Some(instance) = Instance::start() else { return };
    let path = instance.path("syslog");
    let server = UnixDatagram::bind(&path).expect("a socket");
    server.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let address = format!("syslog-address=unixgram://{}", path.display());
    let opts = [
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "syslog-facility=local3",
        "--log-opt",
        "tag={{.Name}}",
    ];
    run(&instance, "web", &opts, "echo hello; echo there");
    for want in ["hello", "there"] {
        let mut bytes = [0; 500];
        let count = server.recv(&mut bytes).expect("a message");
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(text.starts_with("<158>") && text.contains(" web["), "{text}");
        assert!(text.ends_with(&format!("]: {want}")), "{text}");
    }
    // Nobody reads any more: the container ends all the same.
    let (_, mount) = numbered(&instance, 5000);
    run(&instance, "noisy", &[&opts[..], &["-v", &mount]].concat(), "cat /lines");
    let refused = instance.run(&["logs", "web"]);
    let said = "configured logging driver does not support reading";
    assert!(refused.code == 1 && refused.err.contains(said), "{refused:?}");
    let gone = format!("syslog-address=unixgram://{}.gone", path.display());
    let flags = ["run", "--rm", "--network", "none", "--log-driver", "syslog", "--log-opt", &gone];
    let refused = instance.run(&[&flags[..], &["demo", "true"]].concat());
    assert!(refused.code == 125 && refused.err.contains("syslog"), "{refused:?}");
}

#[test]
fn syslog_gets_lines_over_udp_and_tcp() {
    let Some(instance) = Instance::start() else { return };
    let (udp, tcp) = instance.on_network(|| {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        (udp, TcpListener::bind("127.0.0.1:0").expect("a socket"))
    });
    let options = |address: &str| {
        let of = |option: &str| ["--log-opt".to_owned(), option.to_owned()];
        let mut all = vec!["--log-driver".to_owned(), "syslog".to_owned()];
        all.extend(of(&format!("syslog-address={address}")));
        all.extend(of("syslog-format=rfc5424"));
        all.extend(of("tag={{.Name}}"));
        all
    };
    let check = |text: &str, name: &str, want: &str| {
        // <PRI>VERSION TIME HOST APP PROCID MSGID DATA MSG (RFC 5424, section 6); severity 6 of
        // facility daemon.
        let words: Vec<_> = text.trim_end().splitn(8, ' ').collect();
        assert_eq!((words[0], words[3]), ("<30>1", name), "{text}");
        assert_eq!(words.last(), Some(&want), "{text}");
    };
    let address = udp.local_addr().expect("an address");
    let flags = options(&format!("udp://{address}"));
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    run(&instance, "by-udp", &flags, "echo hello; echo there");
    udp.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    for want in ["hello", "there"] {
        let mut bytes = [0; 500];
        let count = udp.recv(&mut bytes).expect("a message");
        check(&String::from_utf8_lossy(&bytes[..count]), "by-udp", want);
    }

    let address = tcp.local_addr().expect("an address");
    let flags = options(&format!("tcp://{address}"));
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    run(&instance, "by-tcp", &flags, "echo hello; echo there");
    let (stream, _) = tcp.accept().expect("it has connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut lines = BufReader::new(stream).lines();
    for want in ["hello", "there"] {
        check(&lines.next().expect("a message").expect("text"), "by-tcp", want);
    }
}

#[test]
fn rotated_files_of_json_file_are_compressed_and_read() {
    let Some(instance) = Instance::start() else { return };
    let (lines, mount) = numbered(&instance, 20_000);
    let opts = ["--log-driver", "json-file", "--log-opt", "max-size=200k", "--log-opt"];
    let opts = [&opts[..], &["max-file=50", "--log-opt", "compress=true", "-v", &mount]].concat();
    run(&instance, "web", &opts, "cat /lines");
    assert!(instance.ok(&["logs", "web"]) == lines.join("\n"), "every line is there, once");
    let path = instance.inspect("web", "{{.LogPath}}");
    wait_until("the last one that was rotated is compressed", || {
        let plain = fs::metadata(format!("{path}.1")).is_ok();
        !plain && fs::metadata(format!("{path}.1.gz")).is_ok()
    });
    assert!(instance.ok(&["logs", "web"]) == lines.join("\n"), "they are read through");
    assert_eq!(instance.ok(&["logs", "--tail", "9000", "web"]).lines().count(), 9000);
    let list = Command::new("gzip").args(["-dc", &format!("{path}.2.gz")]).output();
    if let Ok(unpacked) = list {
        assert!(unpacked.status.success() && unpacked.stdout.starts_with(b"{\"log\""));
    }
}

#[test]
fn options_are_refused_by_name_and_none_keeps_nothing() {
    let Some(instance) = Instance::start() else { return };
    run(&instance, "quiet", &["--log-driver", "none"], "echo unheard");
    let refused = instance.run(&["logs", "quiet"]);
    assert!(refused.err.contains("does not support reading"), "{refused:?}");
    for (flags, said) in [
        (&["--log-driver", "fluentd"][..], "fluentd is not built yet"),
        (&["--log-opt", "bogus=1"], "unknown log opt"),
        (&["--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://x:1"], "TLS"),
    ] {
        let refused = instance.run(&[&["run", "--rm"], flags, &["demo", "true"]].concat());
        assert!(refused.code == 125 && refused.err.contains(said), "{refused:?}");
    }
}

#[test]
fn input_is_closed_when_the_client_leaves_without_a_word() {
    let Some(instance) = Instance::start() else { return };
    let args = ["run", "-i", "--name", "web", "--network", "none", "demo", "cat"];
    let mut command = instance.command(&args);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    wait_until("it runs", || instance.ok(&["ps", "-q"]).len() == 12);
    // Let it attach its input, of which there is none.
    thread::sleep(Duration::from_millis(100));
    client.kill().expect("it is our child");
    client.wait().expect("it is our child");
    assert_eq!(instance.ok(&["wait", "web"]), "0");
}
