//! Containers of an ordinary user: his daemon, his namespaces, what his host grants and what not.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use it::{Grants, User, wait_until};
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
