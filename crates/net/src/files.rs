//! The text of a container's `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Pure: the host's own files come in as text.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Nameservers for containers of hosts that have none a container can reach. Docker's choice.
const NAMESERVERS_DEFAULT: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// Where systemd-resolved writes the nameservers behind its local stub. To be read in place of
/// `/etc/resolv.conf` where [`is_local_stub`] says so.
pub const RESOLV_CONF_BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// An entry of `--add-host`: a name and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address; none for the address by which containers reach the host (`host-gateway`).
    pub address: Option<IpAddr>,
}

/// Why an `--add-host` was refused, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtraHostError {
    /// Not `name:address`.
    #[error("bad format for add-host: {0:?}")]
    Format(String),
    /// Behind the name stands no address.
    #[error("invalid IP address in add-host: {0:?}")]
    Address(String),
}

/// Reads `name:address` or `name=address`, where the address may stand in brackets.
///
/// Source: docker/cli, `opts.ValidateExtraHost`.
impl FromStr for ExtraHost {
    type Err = ExtraHostError;
    fn from_str(text: &str) -> Result<ExtraHost, ExtraHostError> {
        let short = |text: &str| text.chars().take(256).collect::<String>();
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .filter(|(name, _)| is_host_word(name))
            .ok_or_else(|| ExtraHostError::Format(short(text)))?;
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => None,
            _ => Some(bare.parse().map_err(|_| ExtraHostError::Address(short(bare)))?),
        };
        Ok(ExtraHost { name: name.to_owned(), address })
    }
}

/// Whether a word can stand in a line of `/etc/hosts` without ending it.
fn is_host_word(word: &str) -> bool {
    !word.is_empty()
        && word.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '#' && c != ':')
}

/// What a container's `/etc/hosts` says beside the usual.
#[derive(Clone, Copy, Debug)]
pub struct Hosts<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// Its domain.
    pub domainname: Option<&'a str>,
    /// Its address; none without a network of its own.
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// Where `host-gateway` leads; such entries are left out if it leads nowhere.
    pub gateway: Option<Ipv4Addr>,
    /// Entries asked for.
    pub extra: &'a [ExtraHost],
}

/// The text of `/etc/hosts`, in Docker's order: the usual, what was asked for, the container.
pub fn hosts(hosts: &Hosts<'_>) -> String {
    let mut text = "127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::\tip6-localnet\n\
        ff00::\tip6-mcastprefix\n\
        ff02::1\tip6-allnodes\n\
        ff02::2\tip6-allrouters\n"
        .to_owned();
    for extra in hosts.extra {
        if let Some(address) = extra.address.or(hosts.gateway.map(IpAddr::V4)) {
            line(&mut text, format_args!("{address}\t{}", extra.name));
        }
    }
    let own = hosts.address.map(IpAddr::V4).into_iter();
    for address in own.chain(hosts.address6.map(IpAddr::V6)) {
        match hosts.domainname.filter(|domain| !domain.is_empty()) {
            Some(domain) => {
                line(&mut text, format_args!("{address}\t{0}.{domain} {0}", hosts.hostname));
            }
            None => line(&mut text, format_args!("{address}\t{}", hosts.hostname)),
        }
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

/// What was asked for with `--dns`, `--dns-search` and `--dns-option`. An empty list asks for
/// nothing: the host's own lines stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dns<'a> {
    /// Nameservers.
    pub servers: &'a [IpAddr],
    /// Search domains; a single `.` asks for none.
    pub search: &'a [String],
    /// Resolver options.
    pub options: &'a [String],
    /// Whether the container has IPv6, so that such nameservers of the host can be reached.
    pub ipv6: bool,
    /// Whether names are resolved for it at [`crate::NAME_SERVER`], which passes on to all others.
    pub own: bool,
}

/// The text of `/etc/resolv.conf` for a container with a network of its own.
///
/// The host's loopback nameservers lead nowhere from there and are left out, and so are IPv6 ones
/// where the container has IPv4 alone; where none is left, two public ones stand in.
///
/// Source: resolv.conf(5); moby `libnetwork/internal/resolvconf`.
pub fn resolv_conf(of_host: &str, asked: &Dns<'_>) -> String {
    let host = HostConf::read(of_host);
    let servers = match asked.servers {
        _ if asked.own => vec![IpAddr::V4(crate::NAME_SERVER)],
        [] => {
            let mut reachable: Vec<IpAddr> = host.servers;
            reachable.retain(|server| (asked.ipv6 || server.is_ipv4()) && !server.is_loopback());
            or_public(reachable)
        }
        asked => asked.to_vec(),
    };
    let search = match asked.search {
        [] => host.search,
        [only] if only == "." => Vec::new(),
        asked => asked.iter().map(String::as_str).collect(),
    };
    let mut options = match asked.options {
        [] => host.options,
        asked => asked.iter().map(String::as_str).collect(),
    };
    // A name without dots is a container's first, and only then one of a search domain.
    if asked.own && !says_dots(&options) {
        options.push("ndots:0");
    }
    let mut text = String::new();
    for server in servers {
        line(&mut text, format_args!("nameserver {server}"));
    }
    for (key, words) in [("search", search), ("options", options)] {
        let words: Vec<_> = words.into_iter().filter(|word| is_word(word)).collect();
        if !words.is_empty() {
            line(&mut text, format_args!("{key} {}", words.join(" ")));
        }
    }
    for other in host.others {
        line(&mut text, format_args!("{other}"));
    }
    text
}

/// The nameservers of a host, its own loopback's among them; public ones where it has none.
pub fn nameservers(of_host: &str) -> Vec<IpAddr> {
    or_public(HostConf::read(of_host).servers)
}

fn or_public(servers: Vec<IpAddr>) -> Vec<IpAddr> {
    match servers.as_slice() {
        [] => NAMESERVERS_DEFAULT.map(IpAddr::V4).into(),
        _ => servers,
    }
}

/// Whether resolver options say how many dots make a name whole.
pub fn says_dots(options: &[impl AsRef<str>]) -> bool {
    options.iter().any(|option| option.as_ref().starts_with("ndots:"))
}

/// Whether a host's resolv.conf names systemd-resolved's stub and nothing else.
pub fn is_local_stub(of_host: &str) -> bool {
    HostConf::read(of_host).servers == [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53))]
}

/// Whether a word can stand in a line of resolv.conf without ending it.
fn is_word(word: &str) -> bool {
    !word.is_empty() && !word.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// A host's resolv.conf.
#[derive(Default)]
struct HostConf<'a> {
    servers: Vec<IpAddr>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
    /// Other directives, such as `sortlist`, as they stand.
    others: Vec<&'a str>,
}

impl<'a> HostConf<'a> {
    fn read(text: &'a str) -> HostConf<'a> {
        let mut conf = HostConf::default();
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            match words.next() {
                // A zone (`fe80::1%eth0`) makes it no `IpAddr`, and names a link of the host.
                Some("nameserver") => {
                    conf.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
                }
                // `domain` is a `search` of one word; of several lines the last one counts.
                Some("search") => conf.search = words.collect(),
                Some("domain") => conf.search = words.take(1).collect(),
                Some("options") => conf.options.extend(words),
                Some(_) => conf.others.push(line),
                None => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests;
