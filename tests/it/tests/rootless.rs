//! Containers of an ordinary user: his daemon, his namespaces, what his host grants and what not.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use it::{Grants, ROUTER, User, wait_until};
use rustix::process::Signal;

#[test]
fn an_ordinary_user_runs_containers() {
    let Some(user) = User::new(Grants::default()) else { return };
    let report = user.ok(&["run", "--rm", "demo"]);
    assert!(report.contains("process 1 of 1, user 0, group 0"), "{report}");
    assert!(user.path("home/.local/share/wythe/content").is_dir());

    user.ok(&["run", "-d", "--name", "web", "demo", "sh", "-c", "echo hello; sleep 600"]);
    wait_until("it has said hello", || user.ok(&["logs", "web"]) == "hello");
    assert!(user.ok(&["exec", "web", "id"]).starts_with("uid=0 gid=0"));
    assert!(user.ok(&["ps"]).contains("web"));
    assert!(user.ok(&["top", "web"]).contains("sleep 600"));
    assert_eq!(user.run(&["exec", "web", "sh", "-c", "exit 7"]).code, 7);

    user.ok(&["rm", "-f", "web"]);
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}

#[test]
fn containers_and_their_ports_outlive_the_daemon() {
    let Some(user) = User::new(Grants::default()) else { return };
    let served = ["run", "-d", "--name", "web", "-p", "18080:80", "demo"];
    let script = "mkdir /www; echo hello > /www/index.html; httpd /www";
    user.ok(&[&served[..], &["sh", "-c", script]].concat());
    wait_until("the port is served", || fetch(&user, 18080).contains("hello"));

    user.end_daemon(Signal::KILL);
    assert!(fetch(&user, 18080).contains("hello"));
    // The next command starts a daemon, which finds the container.
    assert_eq!(user.ok(&["inspect", "--format", "{{.State.Status}}", "web"]), "running");
    assert!(user.ok(&["exec", "web", "id"]).starts_with("uid=0"));
    assert!(fetch(&user, 18080).contains("hello"));
    let twice = user.run(&["run", "--rm", "-p", "18080:80", "demo", "true"]);
    assert!(twice.err.contains("port is already allocated"), "{twice:?}");

    user.ok(&["rm", "-f", "web"]);
    wait_until("the port is free", || connect(&user, 18080).is_none());
}

#[test]
fn containers_find_each_other_by_name() {
    let Some(user) = User::new(Grants::default()) else { return };
    user.ok(&["network", "create", "back"]);
    user.ok(&["run", "-d", "--name", "web", "--network", "back", "demo", "httpd"]);
    user.ok(&["run", "-d", "--name", "asks", "--network", "back", "demo", "sleep", "1000"]);
    let ask = "echo 'GET / HTTP/1.0' | nc web 80";
    wait_until("the name leads to the server", || {
        user.run(&["exec", "asks", "sh", "-c", ask]).out.contains("200 OK")
    });
    user.ok(&["rm", "-f", "web", "asks"]);
    user.ok(&["network", "rm", "back"]);
}

#[test]
fn files_are_copied_and_containers_committed() {
    let Some(user) = User::new(Grants::default()) else { return };
    user.ok(&["run", "-d", "--name", "web", "demo", "sleep", "600"]);
    let (inside, back) = (user.path("home/in"), user.path("home/out"));
    fs::write(&inside, "from the host\n").expect("we are root");
    std::os::unix::fs::chown(&inside, Some(user.uid()), Some(user.uid())).expect("we are root");
    for stopped in [false, true] {
        if stopped {
            user.ok(&["stop", "-t", "0", "web"]);
        }
        let name = if stopped { "/etc/stopped" } else { "/etc/running" };
        let (to, from) = (format!("web:{name}"), back.display().to_string());
        user.ok(&["cp", &inside.display().to_string(), &to]);
        user.ok(&["cp", &to, &from]);
        assert_eq!(fs::read_to_string(&back).expect("it was made"), "from the host\n");
        assert_eq!(fs::metadata(&back).expect("it is there").uid(), user.uid());
        assert!(user.ok(&["diff", "web"]).contains(&format!("A {name}")));
    }
    // A directory that was replaced hides what was below it, in the image that is made too.
    user.ok(&["start", "web"]);
    let script = "rm -r /home; mkdir /home; echo own > /home/own; echo more > /more; rm /bin/nc";
    user.ok(&["exec", "web", "sh", "-c", script]);
    let refused = user.run(&["commit", "web", "made:1"]);
    assert!(
        refused.code == 1 && refused.err.contains("pause"),
        "no group, no freezer: {refused:?}"
    );
    for (flags, tag) in [(&["--pause=false"][..], "made:1"), (&[], "made:2")] {
        if flags.is_empty() {
            user.ok(&["stop", "-t", "0", "web"]);
        }
        user.ok(&[&["commit"], flags, &["web", tag]].concat());
        let shown =
            |script| user.ok(&["run", "--rm", "--network", "none", tag, "sh", "-c", script]);
        assert_eq!(shown("cat /more; ls /home; cat /home/own"), "more\nown\nown", "{tag}");
        assert_eq!(shown("ls /bin/nc || echo gone"), "gone", "{tag}");
    }
    user.ok(&["rm", "-f", "web"]);
}

#[test]
fn what_the_host_does_not_grant_is_said() {
    let Some(user) = User::new(Grants::default()) else { return };
    let info = user.ok(&["info"]);
    for sentence in ["name=rootless", "limits: none can be set", "users: containers have root"] {
        assert!(info.contains(sentence), "{sentence}: {info}");
    }
    for (flags, sentence) in [
        (&["-m", "64m"][..], "granted no control group"),
        (&["--user", "1000"], "/etc/subuid"),
        (&["-p", "80:80"], "sysctl net.ipv4.ip_unprivileged_port_start=80"),
    ] {
        let ran = user.run(&[&["run", "--rm"], flags, &["demo", "true"]].concat());
        assert!(ran.code == 125 && ran.err.contains(sentence), "{flags:?}: {ran:?}");
    }
    assert_eq!(user.ok(&["ps", "-aq"]), "");
    // What needs no more than was granted works.
    for flags in [
        &["--network", "host"][..],
        &["--network", "none"],
        &["--privileged"],
        &["--pid", "host"],
        &["--ipc", "host"],
        &["--init"],
        &["--device", "/dev/null:/dev/nothing"],
    ] {
        let ran = user.run(&[&["run", "--rm"], flags, &["demo", "true"]].concat());
        assert_eq!(ran.code, 0, "{flags:?}: {ran:?}");
    }
}

/// A connection to a port of the user's host.
fn connect(user: &User, port: u16) -> Option<TcpStream> {
    user.on_network(false, move || TcpStream::connect(("127.0.0.1", port)).ok())
}

/// What an HTTP server on a port of the user's host says.
fn fetch(user: &User, port: u16) -> String {
    let Some(mut stream) = connect(user, port) else { return String::new() };
    let mut text = String::new();
    let asked = stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n");
    if asked.is_ok() {
        // An answer that breaks off is one that does not say it.
        let _ = stream.read_to_string(&mut text);
    }
    text
}

#[test]
fn granted_ids_are_used() {
    let Some(user) = User::new(Grants { ids: true, ..Grants::default() }) else { return };
    let id = user.ok(&["run", "--rm", "--user", "1000:1000", "demo", "id"]);
    assert!(id.starts_with("uid=1000 gid=1000"), "{id}");
    let script = "touch /shared/file";
    let volume = format!("{}:/shared", user.path("home").display());
    user.ok(&["run", "--rm", "-v", &volume, "demo", "sh", "-c", script]);
    let owner = std::fs::metadata(user.path("home/file")).map(|m| m.uid()).unwrap_or_default();
    assert_eq!(owner, user.uid(), "root inside is the user outside");
    assert!(!user.ok(&["info"]).contains("users: "));
}

/// Listens on an address of the user's host, or of the router beside it, and says a line to each.
fn say(user: &User, router: bool, address: (&'static str, u16), line: &'static [u8]) {
    let listener = user.on_network(router, || TcpListener::bind(address).unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever is gone again does not hear it.
            let _ = stream.write_all(line);
        }
    });
}

/// What a container hears from an address, if anything within a moment.
fn hear(user: &User, address: &str, port: &str) -> Vec<u8> {
    let mut ask = user.command(&["exec", "inside", "nc", address, port]);
    let mut asking = ask.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..60 {
        if asking.try_wait().unwrap().is_some() {
            return asking.wait_with_output().unwrap().stdout;
        }
        thread::sleep(Duration::from_millis(50));
    }
    asking.kill().unwrap();
    asking.wait().unwrap();
    Vec::new()
}

/// A container reaches the world through a router.
fn reaches_the_world(user: &User, router: &str) {
    say(user, true, (ROUTER, 7000), b"from the world\n");
    let start = ["run", "-d", "--name", "inside", "demo", "sleep", "600"];
    let status = user.command(&start).env("WYTHE_ROOTLESS_NETWORK", router).status().unwrap();
    assert!(status.success());
    wait_until("there is a way out", || !user.ok(&["info"]).contains("network: "));
    // What plays the router may drop a connection that comes while it sets itself up.
    wait_until("the world answers", || hear(user, ROUTER, "7000") == b"from the world\n");
}

#[test]
fn containers_reach_the_world_where_a_program_plays_the_router() {
    if testkit::need::tool("pasta").is_none() {
        return;
    }
    let Some(user) = User::new(Grants { tun: true, ..Grants::default() }) else { return };
    reaches_the_world(&user, "pasta");
    // What plays the router goes with the last process that needs it.
    user.ok(&["rm", "-f", "inside"]);
}

#[test]
fn containers_reach_the_world_with_nothing_installed() {
    let Some(user) = User::new(Grants { tun: true, ..Grants::default() }) else { return };
    let hidden = "for name in pasta slirp4netns; do file=$(command -v $name) || continue; \
                  mount --bind /dev/null \"$file\"; done; \
                  echo 'nameserver 127.0.0.1' > /tmp/resolv-$$; \
                  mount --bind /tmp/resolv-$$ /etc/resolv.conf; rm /tmp/resolv-$$";
    assert_eq!(user.on_host(hidden).code, 0);
    reaches_the_world(&user, "");

    // Names are asked of the host's resolver, wherever it is; nothing else of its loopback is open.
    let conf = user.ok(&["exec", "inside", "cat", "/etc/resolv.conf"]);
    assert_eq!(conf, "nameserver 10.0.2.3");
    say(&user, false, ("127.0.0.1", 53), b"a name\n");
    say(&user, false, ("127.0.0.1", 7001), b"a secret\n");
    assert_eq!(hear(&user, "10.0.2.3", "53"), b"a name\n");
    for address in ["10.0.2.2", "10.0.2.3", "127.0.0.1"] {
        assert_eq!(hear(&user, address, "7001"), b"", "{address}");
    }
    // What the host itself serves to others is the world.
    say(&user, false, ("10.99.0.1", 7002), b"from the host\n");
    assert_eq!(hear(&user, "10.99.0.1", "7002"), b"from the host\n");

    // The way out outlives the daemon as containers do, and a daemon that follows may want another.
    user.end_daemon(Signal::KILL);
    wait_until("the world still answers", || hear(&user, ROUTER, "7000") == b"from the world\n");
    user.end_daemon(Signal::KILL);
    let other = user.command(&["ps"]).env("WYTHE_ROOTLESS_NETWORK", "pasta").status();
    assert!(other.unwrap().success());
    wait_until("what is asked for is missed", || {
        user.ok(&["info"]).contains("pasta: it is not installed")
    });
    let wrong = user.run(&["daemon", "--rootless-network", "carrier-pigeon"]);
    assert!(wrong.err.contains("own, pasta, slirp4netns"), "{wrong:?}");
    user.ok(&["rm", "-f", "inside"]);
}

#[test]
fn limits_work_in_a_group_that_was_delegated() {
    let Some(group) = Delegated::new() else { return };
    let Some(user) = User::new(Grants::default()) else { return };
    group.give(user.uid());
    let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.0.display());
    let run = |args: &[&str]| {
        let inner = user.command(args);
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.stdin(Stdio::null()).output().unwrap()
    };
    let made = run(&["run", "-d", "--name", "inside", "demo", "sleep", "600"]);
    assert!(made.status.success(), "{made:?}");
    user.ok(&["pause", "inside"]);
    assert_eq!(user.ok(&["inspect", "--format", "{{.State.Status}}", "inside"]), "paused");
    user.ok(&["unpause", "inside"]);
    assert!(!user.ok(&["info"]).contains("limits: none"));
    user.ok(&["rm", "-f", "inside"]);
}

/// A control group of version 2 that was handed to a user.
struct Delegated(PathBuf);

impl Delegated {
    fn new() -> Option<Delegated> {
        if !testkit::need::root() {
            return None;
        }
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let top = tops.into_iter().find(|top| top.join("cgroup.controllers").exists())?;
        let group = top.join(format!("wythe-it-{}", std::process::id()));
        fs::create_dir(&group).expect("we are root");
        Some(Delegated(group))
    }

    fn give(&self, uid: u32) {
        let files = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
        for file in files {
            std::os::unix::fs::chown(self.0.join(file), Some(uid), Some(uid)).expect("we are root");
        }
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        wait_until("the group is empty", || {
            // The lowest first.
            for below in ["wythe-daemon", "wythe", ""] {
                let _ = fs::remove_dir(self.0.join(below));
            }
            !self.0.exists()
        });
    }
}
