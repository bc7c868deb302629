//! Which hosts serve a registry: itself, its mirrors before it, and how each is spoken to.
//!
//! `registries.toml`:
//!
//! ```toml
//! [host."docker.io"]
//! mirrors = ["https://mirror.example", "registry.local:5000"]
//!
//! [host."registry.local:5000"]
//! insecure = true          # unverified TLS, or plain HTTP
//!
//! [host."registry.example"]
//! ca = "/etc/wythe/registry.example.pem"
//! cert = "/etc/wythe/me.pem"     # who we are, if the registry asks
//! key = "/etc/wythe/me-key.pem"
//! ```
//!
//! Certificates may lie in `certs.d/HOST[:PORT]/` as well (see [`Trust`]).

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use base::ErrorKind;
use serde::Deserialize;

use crate::{Pem, Trust};

/// Name of the file.
const FILE: &str = "registries.toml";
/// Name of the directory with a directory of certificates for each host.
const CERTIFICATES: &str = "certs.d";
/// Longest file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most mirrors of one host.
const MIRRORS_MAX: usize = 16;
/// The registry whose API has another name.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// What is known of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    named: BTreeMap<String, Host>,
    /// The directories of certificates.
    certificates: BTreeMap<String, Trust>,
}

/// What is known of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    cert: Option<PathBuf>,
    #[serde(default)]
    key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    host: BTreeMap<String, Host>,
}

/// One host, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host and port, as people know it.
    pub name: String,
    /// Host and port that are connected to.
    pub authority: String,
    /// What stands before `/v2/`.
    pub prefix: String,
    /// Whether it need not prove who it is.
    pub insecure: bool,
    /// Whether it was named with `http://`.
    pub plain: bool,
    /// Roots for it besides the system's, and what proves to it who we are.
    pub trust: Trust,
    /// Whether it stands in for another.
    pub mirror: bool,
}

/// Why the file was not read.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The host did not let us.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl HostsError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            HostsError::Read { .. } => ErrorKind::Internal,
            HostsError::Parse { .. } => ErrorKind::InvalidInput,
        }
    }
}

impl Hosts {
    /// Reads `registries.toml` of the first of these directories that has one.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn read(directories: &[&Path]) -> Result<Hosts, HostsError> {
        let mut hosts = Hosts::default();
        for directory in directories {
            let path = directory.join(FILE);
            match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(HostsError::Read { path, source }),
                Ok(found) if found.len() > FILE_BYTES_MAX => {
                    let why = format!("it is longer than {FILE_BYTES_MAX} bytes");
                    return Err(HostsError::Parse { path, why });
                }
                Ok(_) => {}
            }
            let text = fs::read_to_string(&path);
            let text = text.map_err(|source| HostsError::Read { path: path.clone(), source })?;
            hosts = Hosts::parse(&text).map_err(|why| HostsError::Parse { path, why })?;
            break;
        }
        Ok(hosts)
    }

    /// The same, with the certificates that lie in `certs.d` of these directories; what the first
    /// ones say of who we are counts.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn with_certificates(mut self, directories: &[&Path]) -> Result<Hosts, HostsError> {
        for directory in directories {
            let path = directory.join(CERTIFICATES);
            let failed = |source| HostsError::Read { path: path.clone(), source };
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let Ok(host) = entry.file_name().into_string() else { continue };
                if !entry.path().is_dir() {
                    continue;
                }
                let trust = Trust::of_directory(&entry.path()).map_err(failed)?;
                let known = self.certificates.remove(&host).unwrap_or_default();
                self.certificates.insert(host, known.or(trust));
            }
        }
        Ok(self)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Hosts, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        for (name, host) in &file.host {
            if host.mirrors.len() > MIRRORS_MAX {
                return Err(format!("{name} has more than {MIRRORS_MAX} mirrors"));
            }
            if host.cert.is_some() != host.key.is_some() {
                return Err(format!("{name} has one of \"cert\" and \"key\": both are needed"));
            }
            for mirror in &host.mirrors {
                endpoint(mirror).ok_or_else(|| {
                    format!("mirror \"{mirror}\" of {name} is not host[:port] or a URL of one")
                })?;
            }
        }
        Ok(Hosts { named: file.host, certificates: BTreeMap::new() })
    }

    /// The hosts that serve a registry, in the order in which they are asked.
    pub fn endpoints(&self, domain: &str, insecure: bool) -> Vec<Endpoint> {
        let known = self.named.get(domain);
        let mirrors = known.into_iter().flat_map(|host| &host.mirrors);
        let mirrors = mirrors.filter_map(|mirror| {
            let mirror = Endpoint { mirror: true, ..endpoint(mirror)? };
            Some(self.known(mirror, false))
        });
        let own = endpoint(domain).map(|own| self.known(own, insecure));
        mirrors.chain(own).collect()
    }

    /// The registry itself, without mirrors.
    pub fn own(&self, domain: &str, insecure: bool) -> Option<Endpoint> {
        endpoint(domain).map(|own| self.known(own, insecure))
    }

    fn known(&self, mut endpoint: Endpoint, insecure: bool) -> Endpoint {
        let known = self.named.get(&endpoint.name);
        endpoint.insecure |= insecure || known.is_some_and(|host| host.insecure);
        let lying = self.certificates.get(&endpoint.name).cloned().unwrap_or_default();
        endpoint.trust = known.map(Host::trust).unwrap_or_default().or(lying);
        endpoint
    }
}

impl Endpoint {
    /// Reads `host`, `host:port`, `https://host/prefix`.
    pub fn parse(text: &str) -> Option<Endpoint> {
        endpoint(text)
    }
}

impl Host {
    fn trust(&self) -> Trust {
        let pem = |path: &PathBuf| Pem::of(path.clone());
        Trust {
            roots: self.ca.iter().map(pem).collect(),
            identity: self
                .cert
                .as_ref()
                .zip(self.key.as_ref())
                .map(|(cert, key)| (pem(cert), pem(key))),
        }
    }
}

/// As [`Endpoint::parse`].
fn endpoint(text: &str) -> Option<Endpoint> {
    let (plain, rest) = match text.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        Some(_) => return None,
        None => (false, text),
    };
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let right = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    let path = |c: char| c.is_ascii_alphanumeric() || ".-_/~".contains(c);
    if name.is_empty() || !name.chars().all(right) || !prefix.chars().all(path) {
        return None;
    }
    let authority = if name == DOCKER.0 { DOCKER.1 } else { name };
    let prefix = prefix.trim_end_matches('/');
    Some(Endpoint {
        name: name.to_owned(),
        authority: authority.to_owned(),
        prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
        insecure: plain || is_loopback(name),
        plain,
        trust: Trust::default(),
        mirror: false,
    })
}

/// Whether nobody can stand between us and this host.
///
/// Source: moby, `registry/config.go`: 127.0.0.0/8 and ::1 are insecure registries.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => {
            host
        }
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_loopback_may_be_plain() {
        let hosts = Hosts::parse(
            "[host.\"docker.io\"]\nmirrors = [\"http://m.example:5000/hub/\", \"n.example\"]\n\
             [host.\"n.example\"]\ninsecure = true\nca = \"/a.pem\"\n",
        );
        let list = hosts.unwrap().endpoints("docker.io", false);
        let shown: Vec<_> = list
            .iter()
            .map(|e| (e.authority.as_str(), e.prefix.as_str(), e.insecure, e.plain, e.mirror))
            .collect();
        assert_eq!(
            shown,
            [
                ("m.example:5000", "/hub", true, true, true),
                ("n.example", "", true, false, true),
                ("registry-1.docker.io", "", false, false, false),
            ]
        );
        assert_eq!(list[1].trust.roots[0].path, Path::new("/a.pem"));
        for near in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:80"] {
            assert!(Hosts::default().own(near, false).unwrap().insecure, "{near}");
        }
        for far in ["localhost.example", "10.0.0.1:5000", "ghcr.io", "[fe80::1]"] {
            assert!(!Hosts::default().own(far, false).unwrap().insecure, "{far}");
            assert!(Hosts::default().own(far, true).unwrap().insecure, "{far}");
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        for bad in [
            "host",
            "[host.x]\nmirror = []",
            "[host.x]\nmirrors = [\"ftp://x\"]",
            "[host.x]\nmirrors = [\"a b\"]",
            "[hosts.x]",
            "[host.x]\ncert = \"/a\"",
        ] {
            assert!(Hosts::parse(bad).is_err(), "{bad}");
        }
    }
}
