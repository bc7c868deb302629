//! Where else Docker's clients are served: further sockets, and TCP with certificates.
//!
//! Source: dockerd's `--host`, `--tlsverify`, `--tlscacert`, `--tlscert`, `--tlskey`.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::{Path, PathBuf},
    str::FromStr,
};

use listen::TlsFiles;
use tokio::net::UnixListener;

use super::listener::{self, Listener};
use crate::error::{CliError, chain};

#[derive(Debug, clap::Args)]
pub(super) struct DockerHosts {
    /// Serve Docker's clients there too: unix:///PATH, or tcp://ADDRESS:PORT with --tlsverify
    #[arg(long, value_name = "address")]
    docker_host: Vec<DockerHost>,
    /// Over TCP, take only clients with a certificate of --tlscacert
    #[arg(long)]
    tlsverify: bool,
    /// Trust clients' certificates signed only by this CA
    #[arg(long, value_name = "file")]
    tlscacert: Option<PathBuf>,
    /// Path to the server's certificate
    #[arg(long, value_name = "file")]
    tlscert: Option<PathBuf>,
    /// Path to the server's key
    #[arg(long, value_name = "file")]
    tlskey: Option<PathBuf>,
}

/// An address to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DockerHost {
    Unix(PathBuf),
    /// Address and port.
    Tcp(String),
}

impl FromStr for DockerHost {
    type Err = String;

    fn from_str(text: &str) -> Result<DockerHost, String> {
        let bad = || format!("\"{text}\": write unix:///PATH or tcp://ADDRESS:PORT");
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(DockerHost::Unix(path.into())),
                false => Err(bad()),
            };
        }
        let address = text.strip_prefix("tcp://").ok_or_else(bad)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
        match !host.is_empty() && port.parse::<u16>().is_ok() {
            true => Ok(DockerHost::Tcp(address.to_owned())),
            false => Err(bad()),
        }
    }
}

/// Addresses that can be served, as far as that can be known before.
#[derive(Debug)]
pub(super) struct Checked {
    hosts: Vec<DockerHost>,
    tls: Option<TlsFiles>,
}

impl DockerHosts {
    /// Refuses what would let everybody in who reaches the port, and what cannot be.
    pub(super) fn check(self, ordinary: bool) -> Result<Checked, CliError> {
        let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
        let tcp = self.docker_host.iter().any(|host| matches!(host, DockerHost::Tcp(_)));
        let files = match (self.tlscacert, self.tlscert, self.tlskey) {
            (Some(authority), Some(certificate), Some(key)) => {
                Some(TlsFiles { authority: Some(authority), certificate, key })
            }
            _ => None,
        };
        if tcp && (files.is_none() || !self.tlsverify) {
            return usage(
                "a tcp:// address is served only with --tlsverify, --tlscacert, --tlscert and \
                 --tlskey: whoever could reach it otherwise would be root on this host",
            );
        }
        if tcp && ordinary {
            return usage(
                "a tcp:// address cannot be served for an ordinary user, whose daemon has a \
                 network of its own: use unix:///PATH, and ssh to come from elsewhere",
            );
        }
        Ok(Checked { hosts: self.docker_host, tls: files })
    }
}

/// Sockets that listen.
#[derive(Debug)]
pub(super) struct Open {
    unix: Vec<Listener>,
    tcp: Vec<TcpListener>,
    tls: Option<TlsFiles>,
}

impl Checked {
    /// Begins to listen.
    pub(super) fn open(self) -> Result<Open, CliError> {
        let mut open = Open { unix: Vec::new(), tcp: Vec::new(), tls: self.tls };
        for host in self.hosts {
            match host {
                DockerHost::Unix(path) => {
                    free(&path)?;
                    open.unix.push(listener::own(&path)?);
                }
                DockerHost::Tcp(address) => {
                    let failed = |error| CliError::io(format!("listen at {address}"), error);
                    open.tcp.push(TcpListener::bind(&address).map_err(failed)?);
                }
            }
        }
        Ok(open)
    }
}

/// Refuses a path that is somebody else's: a file, or a socket at which somebody answers.
fn free(path: &Path) -> Result<(), CliError> {
    let taken = |who: &str| {
        let path = path.display();
        Err(CliError::Usage(format!("cannot serve at {path}: it is {who}")))
    };
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => taken("there, and no socket"),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => taken("another server's, which answers there"),
            // What a server left behind that is no more.
            Err(_) => Ok(()),
        },
    }
}

impl Open {
    /// The same for an event loop, which must run.
    pub(super) fn listeners(&self) -> Result<Vec<listen::Listener>, CliError> {
        let failed = |error| CliError::io("use the socket", error);
        let mut listeners = Vec::new();
        for unix in &self.unix {
            let socket = UnixListener::from_std(unix.socket()?).map_err(failed)?;
            listeners.push(listen::Listener::from(socket));
        }
        for (tcp, files) in self.tcp.iter().flat_map(|tcp| Some((tcp, self.tls.as_ref()?))) {
            let socket = tcp.try_clone().map_err(failed)?;
            let listener = listen::Listener::tls(socket, files);
            listeners.push(listener.map_err(|error| CliError::Usage(chain(&error)))?);
        }
        Ok(listeners)
    }

    /// Takes the sockets out of the file system.
    pub(super) fn remove(&self) {
        self.unix.iter().for_each(Listener::remove);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(host: &str, verify: bool, files: bool) -> DockerHosts {
        let file = || files.then(|| PathBuf::from("/x.pem"));
        DockerHosts {
            docker_host: vec![host.parse().unwrap()],
            tlsverify: verify,
            tlscacert: file(),
            tlscert: file(),
            tlskey: file(),
        }
    }

    #[test]
    fn tcp_is_served_only_with_certificates_on_both_sides() {
        let tcp = "tcp://127.0.0.1:2376";
        assert!(args(tcp, true, true).check(false).is_ok());
        for (verify, files) in [(false, false), (true, false), (false, true)] {
            let refused = args(tcp, verify, files).check(false).unwrap_err().to_string();
            assert!(refused.contains("only with --tlsverify"), "{refused}");
        }
        assert!(args(tcp, true, true).check(true).unwrap_err().to_string().contains("ordinary"));
        assert!(args("unix:///x", false, false).check(true).is_ok());
    }

    #[test]
    fn what_is_somebody_elses_is_not_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        assert!(free(&path).is_ok());
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(free(&path).unwrap_err().to_string().contains("another server's"));
        drop(server);
        assert!(free(&path).is_ok(), "what is left of it may go");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(free(&path).unwrap_err().to_string().contains("no socket"));
    }

    #[test]
    fn addresses_are_read_as_dockers() {
        let read = |text: &str| text.parse::<DockerHost>();
        assert_eq!(read("unix:///a/b"), Ok(DockerHost::Unix("/a/b".into())));
        assert_eq!(read("tcp://[::1]:2376/"), Ok(DockerHost::Tcp("[::1]:2376".to_owned())));
        for bad in ["unix://a", "tcp://:1", "tcp://a", "tcp://a:x", "fd://", "/a", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
