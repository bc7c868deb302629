//! `ip`: interfaces, addresses and routes, as /proc shows them; `nc`: a line to somewhere.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    thread,
};

use crate::{fail, proc::read};

pub(crate) fn run(_: &[String]) -> u8 {
    for name in interfaces() {
        println!("{name}");
    }
    for address in addresses() {
        println!("inet {address}");
    }
    for route in routes() {
        println!("{route}");
    }
    0
}

/// Names of the network interfaces.
pub(crate) fn interfaces() -> Vec<String> {
    let text = read("/proc/net/dev");
    text.lines().skip(2).filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned())).collect()
}

/// Local IPv4 addresses: the host leaves of the kernel's routing trie.
///
/// Source: net/ipv4/fib_trie.c prints a leaf as `|-- ADDRESS` and, below it, `/32 host LOCAL`.
pub(crate) fn addresses() -> Vec<Ipv4Addr> {
    local_addresses(&read("/proc/net/fib_trie"))
}

fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let (mut found, mut leaf) = (Vec::new(), None);
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn routes() -> Vec<String> {
    read("/proc/net/route").lines().skip(1).filter_map(route).collect()
}

/// A line of /proc/net/route: interface, then destination, gateway, …, mask as native-endian
/// hexadecimal.
fn route(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |at: usize| {
        let raw = u32::from_str_radix(fields.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(raw.to_ne_bytes()))
    };
    let (to, gateway, mask) = (address(1)?, address(2)?, address(7)?);
    let prefix = u32::from(mask).count_ones();
    let to = if prefix == 0 { "default".to_owned() } else { format!("{to}/{prefix}") };
    let via = if gateway.is_unspecified() { String::new() } else { format!(" via {gateway}") };
    Some(format!("{to}{via} dev {}", fields.first()?))
}

/// `nc HOST PORT`, `nc -l PORT`, and `-u` for UDP (one datagram each way).
pub(crate) fn nc(args: &[String]) -> u8 {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["-l", port] => number(port)
            .and_then(|p| TcpListener::bind(("0.0.0.0", p))?.accept())
            .and_then(|(s, _)| talk(s)),
        ["-l", "-u", port] | ["-u", "-l", port] => number(port).and_then(answer_udp),
        ["-u", host, port] => number(port).and_then(|p| ask_udp(host, p)),
        [host, port] => number(port).and_then(|p| TcpStream::connect((host, p))).and_then(talk),
        _ => return fail("nc", "use: nc [-u] HOST PORT, or nc -l [-u] PORT"),
    };
    done.map_or_else(|error| fail("nc", error), |()| 0)
}

fn number(port: &str) -> io::Result<u16> {
    port.parse().map_err(|_| io::Error::other(format!("{port}: not a port")))
}

/// Standard input to the other side, the other side to standard output, until it ends.
fn talk(socket: TcpStream) -> io::Result<()> {
    let mut out = socket.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut out);
        let _ = out.shutdown(Shutdown::Write);
    });
    io::copy(&mut &socket, &mut io::stdout()).map(drop)
}

fn ask_udp(host: &str, port: u16) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    socket.connect((host, port))?;
    socket.send(&input)?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer)?;
    io::stdout().write_all(answer.get(..length).unwrap_or_default())
}

/// Sends one datagram back to whoever sent it.
fn answer_udp(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let payload = buffer.get(..length).unwrap_or_default();
    io::stdout().write_all(payload)?;
    socket.send_to(payload, from).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_the_host_leaves_of_the_trie() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 172.17.0.0\n        /16 link UNICAST\n     \
                    |-- 172.17.0.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(local_addresses(trie), [Ipv4Addr::LOCALHOST, Ipv4Addr::new(172, 17, 0, 2)]);
    }

    #[test]
    fn a_default_route_reads_as_ip_prints_it() {
        let line = format!(
            "eth0 00000000 {:08X} 0003 0 0 0 00000000 0 0 0",
            u32::from_ne_bytes([172, 17, 0, 1])
        );
        assert_eq!(route(&line).as_deref(), Some("default via 172.17.0.1 dev eth0"));
    }
}
