//! The default network among others who change the host's rules, links and settings.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::Command,
    time::Duration,
};

use it::{Instance, wait_until};

/// What an HTTP server answers, asked from the host.
fn fetch(instance: &Instance, address: &str) -> std::io::Result<String> {
    let address = address.parse().expect("an address");
    instance.on_network(move || {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        socket.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    })
}

fn answers(instance: &Instance, address: &str) -> bool {
    fetch(instance, address).is_ok_and(|text| text.contains("200 OK"))
}

/// Runs a command line on the instance's network.
fn sh(instance: &Instance, line: &str) -> String {
    let out =
        instance.on_network(|| Command::new("sh").args(["-c", line]).output().expect("sh runs"));
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_flushed_rule_set_and_a_removed_bridge_come_back_without_a_command() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "demo", "httpd"]);
    wait_until("the server answers", || answers(&instance, "127.0.0.1:8080"));
    let links = instance.links();
    let bridge = links.iter().find(|link| link.starts_with("wy-")).expect("a bridge").clone();
    let web = instance.inspect("web", "{{.NetworkSettings.IPAddress}}");

    let rules = instance.rules();
    sh(&instance, "nft flush ruleset");
    wait_until("the rules are back", || instance.rules() == rules);
    wait_until("the port answers again", || answers(&instance, "127.0.0.1:8080"));

    sh(&instance, &format!("ip link del {bridge}"));
    wait_until("the bridge is back", || instance.links().contains(&bridge));
    wait_until("the port answers again", || answers(&instance, "127.0.0.1:8080"));
    let ask = format!("echo 'GET / HTTP/1.0' | nc {web} 80");
    let asked = instance.ok(&["run", "--rm", "demo", "sh", "-c", &ask]);
    assert!(asked.contains("200 OK"), "{asked}");

    // Nobody tells of a setting; doctor does. The daemon looks once more a moment after it has mended
    // something, and may be the one who turns it on again.
    wait_until("the doctor tells, and mends when told to", || {
        sh(&instance, "echo 0 > /proc/sys/net/ipv4/ip_forward");
        let told = instance.run(&["doctor"]).out;
        let told = told.contains("forwarding is off") && told.contains("doctor --repair");
        let mended = instance.run(&["doctor", "--repair"]).out;
        told && mended.contains("mended: forwarding is off")
    });
    assert_eq!(sh(&instance, "cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    instance.remove_all();
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
}

#[test]
fn a_host_without_ipv6_has_a_network_of_ipv4_alone() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    for which in ["all", "default"] {
        sh(&instance, &format!("echo 1 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6"));
    }
    instance.start_daemon();
    instance.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "demo", "httpd"]);
    wait_until("the server answers", || answers(&instance, "127.0.0.1:8080"));
    let six = instance.inspect("web", "{{.NetworkSettings.GlobalIPv6Address}}");
    assert_eq!(six, "");
    assert_eq!(instance.ok(&["port", "web"]), "80/tcp -> 0.0.0.0:8080");
    let inside = instance.ok(&["run", "--rm", "demo", "ip"]);
    assert!(!inside.contains("fd"), "{inside}");
    let refused = instance.run(&["run", "--rm", "-p", "[::]:81:80", "demo", "true"]);
    assert!(refused.err.contains("the container has no IPv6 address"), "{refused:?}");
    let text = instance.run(&["doctor"]).out;
    let line = text.lines().find(|line| line.contains("IPv6 ")).expect("a finding");
    assert!(line.starts_with("none") && line.contains("IPv4 alone"), "{text}");
}

#[test]
fn a_host_that_does_not_forward_is_warned_of_and_told_how_to() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "demo", "httpd"]);
    let quiet = instance.run(&["run", "--rm", "demo", "true"]);
    assert_eq!(quiet.err, "", "{quiet:?}");
    sh(&instance, "nft add table inet fw");
    sh(
        &instance,
        "nft 'add chain inet fw forward { type filter hook forward priority 0 ; policy drop ; }'",
    );
    let warned = |what: &[&str]| {
        let mut err = String::new();
        wait_until("the change is heard of", || {
            err = instance.run(what).err;
            !err.is_empty()
        });
        err
    };
    let err = warned(&["run", "--rm", "demo", "true"]);
    assert!(err.starts_with("WARNING: containers do not reach other hosts"), "{err}");
    assert!(err.contains("chain forward of table inet fw") && err.lines().count() == 1, "{err}");
    assert_eq!(instance.run(&["run", "--rm", "--network", "none", "demo", "true"]).err, "");
    let why = instance.ok(&["port", "why", "8080"]);
    assert!(why.contains("to let it through: nft insert rule inet fw forward"), "{why}");
    let doctor = instance.run(&["doctor", "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&doctor.out).expect("JSON");
    let found = told["findings"].as_array().expect("a list").iter();
    let found = found.filter(|one| one["subject"] == "forwarding policy").collect::<Vec<_>>();
    assert_eq!((doctor.code, &found[0]["works"]), (1, &serde_json::Value::Bool(false)));
    let mend = found[0]["mend"].as_str().expect("what mends it");
    sh(&instance, mend);
    wait_until("nothing is left to warn of", || {
        instance.run(&["run", "--rm", "-p", "8081:80", "demo", "true"]).err.is_empty()
    });
    assert!(!instance.run(&["doctor"]).out.contains("packets of containers are dropped"));
}

#[test]
fn a_container_on_the_hosts_network_cannot_take_the_daemons_place() {
    let Some(mut instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "demo", "httpd"]);
    let links = instance.links();
    let bridge = links.iter().find(|link| link.starts_with("wy-")).expect("a bridge").clone();
    instance.kill_daemon();
    // What a container with the host's network can do: any name of its namespace.
    let name = format!("wythe/networks/{bridge}");
    let _squatter = instance.on_network(|| {
        use std::os::{linux::net::SocketAddrExt as _, unix::net};
        let name = net::SocketAddr::from_abstract_name(name).expect("a name");
        net::UnixListener::bind_addr(&name).expect("nobody has it")
    });
    instance.start_daemon();
    wait_until("the server answers", || answers(&instance, "127.0.0.1:8080"));
    instance.ok(&["run", "--rm", "-p", "8081:80", "demo", "true"]);
}

#[test]
fn the_default_network_is_not_pruned() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "demo", "sleep", "100"]);
    for prune in
        [&["network", "prune", "-f"][..], &["network", "prune", "-f", "--filter", "until=1h"]]
    {
        let ran = instance.run(prune);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""), "{ran:?}");
    }
    let asked = instance.run_with(&["network", "prune"], b"n\n");
    assert!(asked.out.starts_with("WARNING! This will remove all custom networks"), "{asked:?}");
    let bad = instance.run(&["network", "prune", "-f", "--filter", "color=red"]);
    assert_ne!(bad.code, 0, "{bad:?}");
}

#[test]
fn a_port_of_the_ipv6_loopback_outlives_the_daemon() {
    let Some(mut instance) = Instance::start() else { return };
    instance.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "[::1]:8080:80",
        "-p",
        "127.0.0.1:8080:80",
        "demo",
        "httpd",
    ]);
    let served = |instance: &Instance| answers(instance, "[::1]:8080");
    wait_until("the server answers", || served(&instance));
    assert!(answers(&instance, "127.0.0.1:8080"));
    let ports = instance.ok(&["port", "web"]);
    assert!(ports.contains("80/tcp -> [::1]:8080"), "{ports}");
    let twice = instance.run(&["run", "--rm", "-p", "[::1]:8080:80", "demo", "true"]);
    assert!(twice.err.contains("port is already allocated"), "{twice:?}");

    instance.kill_daemon();
    assert!(served(&instance), "the daemon was killed");
    instance.start_daemon();
    assert!(served(&instance), "another daemon has it");
    let pid = i32::try_from(instance.daemon_pid()).expect("a process id");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    wait_until("the daemon has ended", || !instance.has_daemon());
    assert!(served(&instance), "the daemon was stopped");
    instance.start_daemon();
    assert!(served(&instance), "the next one has it");

    instance.ok(&["rm", "-f", "web"]);
    assert!(fetch(&instance, "[::1]:8080").is_err());
    instance.ok(&["run", "--rm", "-p", "[::1]:8080:80", "demo", "true"]);
}
