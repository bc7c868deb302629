//! The host's resolvers, as its configuration names them.
//!
//! Source: resolv.conf(5).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    path::PathBuf,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::timers::Millis;

/// How long what was read holds: a host that changes its network changes its resolvers.
const READ_EVERY: Millis = 1000;
/// Resolvers that are used. Source: `MAXNS`, resolv.h.
const SERVERS_MAX: usize = 3;
const PORT: u16 = 53;

/// Which resolver is asked.
#[derive(Debug)]
pub(crate) struct Resolver {
    file: PathBuf,
    read_at: Option<Millis>,
    servers: Vec<SocketAddr>,
    /// The one that has answered last.
    preferred: usize,
}

impl Resolver {
    pub(crate) fn new(file: PathBuf) -> Resolver {
        Resolver { file, read_at: None, servers: Vec::new(), preferred: 0 }
    }

    /// The resolver to ask first, with its number.
    pub(crate) fn first(&mut self, now: Millis) -> (usize, SocketAddr) {
        if self.read_at.is_none_or(|at| now - at >= READ_EVERY) {
            self.read_at = Some(now);
            // A host without the file has a resolver of its own: see below.
            let servers = parse(&fs::read_to_string(&self.file).unwrap_or_default());
            if servers != self.servers {
                self.servers = servers;
                self.preferred = 0;
            }
        }
        (self.preferred, self.at(self.preferred))
    }

    /// The one after another that did not answer.
    pub(crate) fn after(&self, number: usize) -> (usize, SocketAddr) {
        let next = (number + 1) % self.servers.len().max(1);
        (next, self.at(next))
    }

    /// One has answered.
    pub(crate) fn answered(&mut self, number: usize) {
        self.preferred = number;
    }

    fn at(&self, number: usize) -> SocketAddr {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        self.servers.get(number).copied().unwrap_or(local)
    }
}

/// The resolvers that a configuration names; the host itself where it names none.
fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().and_then(address))?
    });
    let mut servers: Vec<SocketAddr> = servers.take(SERVERS_MAX).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

/// An address; one of a link has the link's name behind it (RFC 4007).
fn address(word: &str) -> Option<SocketAddr> {
    let Some((ip, link)) = word.split_once('%') else {
        return word.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    };
    let scope = link.parse().ok().or_else(|| index(link))?;
    Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope).into())
}

fn index(link: &str) -> Option<u32> {
    let any =
        socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    rustix::net::netdevice::name_to_index(&any, link).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_of_the_file() {
        let text = "search example\nnameserver 192.0.2.1\n nameserver 127.0.0.53 # local\n\
                    nameserver nonsense\nnameserver fe80::1%7\nnameserver 192.0.2.2\n";
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 7);
        let expected = [([192, 0, 2, 1], 53).into(), ([127, 0, 0, 53], 53).into(), scoped.into()];
        assert_eq!(parse(text), expected);
        assert_eq!(parse("# nothing\n"), [([127, 0, 0, 1], 53).into()]);
        assert!(address("fe80::1%lo").is_some());
    }

    #[test]
    fn one_that_answers_is_asked_first() {
        let dir = std::env::temp_dir().join(format!("usernet-resolv-{}", std::process::id()));
        fs::write(&dir, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let mut resolver = Resolver::new(dir.clone());
        assert_eq!(resolver.first(0), (0, ([192, 0, 2, 1], 53).into()));
        assert_eq!(resolver.after(0), (1, ([192, 0, 2, 2], 53).into()));
        assert_eq!(resolver.after(1).0, 0);
        resolver.answered(1);
        assert_eq!(resolver.first(10).0, 1);
        // What the host changes is seen a moment later.
        fs::write(&dir, "nameserver 192.0.2.9\n").unwrap();
        assert_eq!(resolver.first(20).0, 1);
        assert_eq!(resolver.first(READ_EVERY), (0, ([192, 0, 2, 9], 53).into()));
        fs::remove_file(dir).unwrap();
    }
}
