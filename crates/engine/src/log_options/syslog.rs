//! Options of log driver `syslog`.

use std::{net::ToSocketAddrs as _, path::PathBuf};

use serde::{Deserialize, Serialize};
use workload::{SyslogFormat, SyslogSpec, SyslogTarget};

use super::{LogOptionError, invalid_option, unbuilt};

/// Where a machine's own server listens, in the order they are tried.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Bytes that wait for a server where nobody says. Source: Docker, `max-buffer-size`.
const WAITING_BYTES_MAX: u64 = 1 << 20;

/// The port where none is written. Source: RFC 5426.
const PORT: u16 = 514;

/// Facilities by number. Source: RFC 5424, section 6.2.1, with the names of syslog(3).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// A server, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyslogOptions {
    /// `udp://host:port`, `tcp://host:port`, `unix:///path`, `unixgram:///path`; the machine's
    /// own where there is none.
    pub address: Option<String>,
    /// Facility's number.
    pub facility: u8,
    /// Form of the messages.
    pub format: SyslogFormat,
    /// Bytes that may wait.
    pub waiting_bytes_max: u64,
}

impl Default for SyslogOptions {
    fn default() -> SyslogOptions {
        SyslogOptions {
            address: None,
            facility: 3,
            format: SyslogFormat::Local,
            waiting_bytes_max: WAITING_BYTES_MAX,
        }
    }
}

impl SyslogOptions {
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), LogOptionError> {
        let invalid = |why: &str| invalid_option(name, value, why);
        match name {
            "syslog-address" if value.starts_with("tcp+tls:") => {
                return Err(unbuilt("syslog-address=tcp+tls://…", "TLS; use tcp:// or unix://"));
            }
            "syslog-address" => {
                let address = Address::parse(value);
                address.ok_or_else(|| invalid("use udp://, tcp://, unix:// or unixgram://"))?;
                self.address = Some(value.to_owned());
            }
            "syslog-facility" => {
                let number = value.parse().ok().filter(|number| *number < FACILITIES.len());
                let named = || FACILITIES.iter().position(|facility| *facility == value);
                let number = number.or_else(named).and_then(|number| u8::try_from(number).ok());
                self.facility = number
                    .ok_or_else(|| invalid("there is no such facility: use daemon, local0, …"))?;
            }
            "syslog-format" => {
                self.format = match value {
                    "" => SyslogFormat::Local,
                    "rfc3164" => SyslogFormat::Rfc3164,
                    "rfc5424" => SyslogFormat::Rfc5424,
                    "rfc5424micro" => SyslogFormat::Rfc5424Micro,
                    _ => return Err(invalid("use rfc3164, rfc5424 or rfc5424micro")),
                };
            }
            "syslog-tls-ca-cert"
            | "syslog-tls-cert"
            | "syslog-tls-key"
            | "syslog-tls-skip-verify" => return Err(unbuilt(name, "TLS; use tcp:// or unix://")),
            _ => return Err(invalid("unknown log opt for syslog log driver")),
        }
        Ok(())
    }

    /// What a driver is told. Names are looked up, which blocks.
    pub(super) fn server(&self, tag: String) -> Result<SyslogSpec, String> {
        let target = match self.address.as_deref().and_then(Address::parse) {
            Some(address) => address.target()?,
            None => {
                let found = LOCAL.map(PathBuf::from).into_iter().find(|path| path.exists());
                let missing = "no syslog server listens on this machine (/dev/log is missing): \
                               start one, or name one with --log-opt syslog-address";
                SyslogTarget::Unix(found.ok_or(missing)?)
            }
        };
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(SyslogSpec {
            target,
            facility: self.facility,
            format: self.format,
            tag,
            hostname,
            waiting_bytes_max: self.waiting_bytes_max,
        })
    }
}

enum Address<'a> {
    Unix(&'a str),
    Udp(&'a str),
    Tcp(&'a str),
}

impl Address<'_> {
    fn parse(text: &str) -> Option<Address<'_>> {
        let (scheme, rest) = text.split_once("://")?;
        match scheme {
            "unix" | "unixgram" if rest.starts_with('/') => Some(Address::Unix(rest)),
            "udp" if !rest.is_empty() => Some(Address::Udp(rest)),
            "tcp" if !rest.is_empty() => Some(Address::Tcp(rest)),
            _ => None,
        }
    }

    fn target(&self) -> Result<SyslogTarget, String> {
        let (host, make): (_, fn(_) -> _) = match self {
            Address::Unix(path) => return Ok(SyslogTarget::Unix(PathBuf::from(path))),
            Address::Udp(host) => (*host, SyslogTarget::Udp),
            Address::Tcp(host) => (*host, SyslogTarget::Tcp),
        };
        let found = match host.to_socket_addrs() {
            Ok(mut found) => found.next(),
            // Without a port.
            Err(_) => {
                let plain = host.trim_start_matches('[').trim_end_matches(']');
                let found = (plain, PORT).to_socket_addrs();
                found.map_err(|error| format!("no address of {host}: {error}"))?.next()
            }
        };
        found.map(make).ok_or_else(|| format!("no address of {host}"))
    }
}
