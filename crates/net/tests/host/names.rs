//! Questions for names reach the daemon's sockets inside a namespace, and nobody's port is taken.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};

use net::NAME_SERVER;
use sys::netns;
use testkit::need;

#[test]
fn questions_come_in_at_port_53_while_others_have_it_too() {
    if !need::root() {
        return;
    }
    let namespace = net::private_namespace().unwrap();
    let inside = |port: u16| {
        let any = ("0.0.0.0", port);
        netns::run(namespace.as_fd(), || Ok((UdpSocket::bind(any)?, TcpListener::bind(any)?)))
    };
    // A second time, as after a restart of the daemon.
    drop(net::name_sockets(namespace.as_fd()).unwrap());
    let sockets = net::name_sockets(namespace.as_fd()).unwrap();
    assert!(sockets.led && net::try_names().unwrap());
    let _own = inside(53).unwrap();
    let at = (NAME_SERVER, 53);
    let patience = Some(Duration::from_secs(10));

    let client = netns::run(namespace.as_fd(), || {
        let client = UdpSocket::bind(("0.0.0.0", 0))?;
        client.connect(at)?;
        Ok(client)
    });
    let client = client.unwrap();
    client.set_read_timeout(patience).unwrap();
    client.send(b"who").unwrap();
    let mut buffer = [0; 16];
    let (count, from) = sockets.udp.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"who");
    // A connected socket takes it only from whom it has asked.
    sockets.udp.send_to(b"me", from).unwrap();
    let count = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"me");

    let mut client = netns::run(namespace.as_fd(), || TcpStream::connect(at)).unwrap();
    client.set_read_timeout(patience).unwrap();
    client.write_all(b"who").unwrap();
    let (mut server, _) = sockets.tcp.accept().unwrap();
    server.read_exact(&mut buffer[..3]).unwrap();
    server.write_all(b"me").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "me");
}
