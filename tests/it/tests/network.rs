//! The default network, published ports, and the other network modes.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream, UdpSocket},
    time::Duration,
};

use it::{Instance, wait_until};

/// What an HTTP server answers, asked from the host.
fn fetch(instance: &Instance, address: &str) -> std::io::Result<String> {
    let address = address.to_owned();
    instance.on_network(move || {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        socket.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    })
}

#[test]
fn a_published_server_is_reached_from_the_host() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "demo", "httpd"]);
    wait_until("the server answers", || fetch(&instance, "127.0.0.1:8080").is_ok());
    let answer = fetch(&instance, "127.0.0.1:8080").expect("it answered before");
    assert!(answer.contains("200 OK") && answer.contains("Hello from inside"), "{answer}");
    let address = instance.inspect("web", "{{.NetworkSettings.IPAddress}}");
    assert!(fetch(&instance, &format!("{address}:80")).is_ok(), "{address}");
    let busy = instance.run(&["run", "-d", "-p", "8080:80", "demo", "httpd"]);
    assert_ne!(busy.code, 0, "{busy:?}");
    assert!(busy.err.contains("8080"), "{busy:?}");

    instance.remove_all();
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
}

#[test]
fn a_published_udp_port_is_reached_from_the_host() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&[
        "run",
        "-d",
        "--name",
        "echo",
        "-p",
        "5300:53/udp",
        "demo",
        "nc",
        "-l",
        "-u",
        "53",
    ]);
    let answer = instance.on_network(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("it is a socket");
        let mut buffer = [0; 64];
        for _ in 0..50 {
            socket.send_to(b"ping", "127.0.0.1:5300").expect("loopback is up");
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                return (buffer[..length].to_vec(), from.port());
            }
        }
        panic!("nobody answered");
    });
    assert_eq!(answer, (b"ping".to_vec(), 5300));
}

#[test]
fn containers_reach_each_other_and_share_networks_when_asked() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "server", "demo", "httpd"]);
    let address = instance.inspect("server", "{{.NetworkSettings.IPAddress}}");
    let ask = "echo 'GET / HTTP/1.0' | nc HOST 80";
    wait_until("the server answers", || {
        let ran =
            instance.run(&["run", "--rm", "demo", "sh", "-c", &ask.replace("HOST", &address)]);
        ran.out.contains("200 OK")
    });
    let shared = instance.ok(&[
        "run",
        "--rm",
        "--network",
        "container:server",
        "demo",
        "sh",
        "-c",
        &ask.replace("HOST", "127.0.0.1"),
    ]);
    assert!(shared.contains("200 OK"), "{shared}");
    let alone = instance.ok(&["run", "--rm", "--network", "none", "demo", "ip"]);
    assert_eq!(alone.lines().next(), Some("lo"), "{alone}");
    assert!(!alone.contains("eth0"), "{alone}");
    let hosts = instance.ok(&["run", "--rm", "--hostname", "named", "demo", "cat", "/etc/hosts"]);
    assert!(hosts.lines().any(|l| l.ends_with("\tnamed")), "{hosts}");
}

#[test]
fn why_a_port_can_be_reached_is_told() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "demo", "httpd"]);
    let why = || {
        let text = instance.ok(&["port", "why", "8080", "--format", "json"]);
        let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(told[0]["container"], "web", "{text}");
        told[0]["reached_by"].as_str().expect("a word").to_owned()
    };
    assert_eq!(why(), "everybody");
    let nft = |script: &str| {
        let done = instance.on_network(|| {
            std::process::Command::new("nft").args(script.split(' ')).status().expect("nft runs")
        });
        assert!(done.success(), "nft {script}");
    };
    nft("add table inet fw");
    nft("add chain inet fw input { type filter hook input priority 0 ; policy drop ; }");
    assert_eq!(why(), "nobody");
    nft("add rule inet fw input ip saddr 10.1.0.0/16 tcp dport 8080 accept");
    assert_eq!(why(), "some");
    let text = instance.ok(&["port", "why", "8080"]);
    assert!(text.contains("ip saddr 10.1.0.0/16") && text.contains("dropped, by policy"), "{text}");
    let ran = instance.run(&["port", "why", "8081"]);
    assert_eq!(
        (ran.code, ran.err.contains("no container publishes port 8081")),
        (1, true),
        "{ran:?}"
    );
    nft("delete table inet fw");
}
