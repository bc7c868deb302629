//! `registry …`: a registry of images, served by a process of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use listen::{Listener, TlsFiles};
use registry_server::{Ask, Collected, Htpasswd, Server, Store, StoreError, Upstream};
use tracing::{info, warn};

use crate::{
    connect::Endpoint,
    create::duration,
    daemon, docker_config,
    error::{CliError, chain},
    output::{self, human},
    paths::Roots,
};

/// What can be done with a registry of ours.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Serve a registry in the foreground
    Serve(ServeArgs),
    /// Remove blobs that nothing in the registry needs
    Gc(GcArgs),
}

/// Which store.
#[derive(Debug, clap::Args)]
struct Where {
    /// Be a cache of this registry: fetch from it what is missing, take nothing else
    #[arg(long, value_name = "url", value_parser = upstream)]
    mirror: Option<String>,
    /// Where the registry keeps its repositories; default: below the data root, registry or
    /// mirrors/HOST
    #[arg(long, value_name = "dir")]
    store: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Address to serve at
    #[arg(long, value_name = "address:port", default_value = "127.0.0.1:5000")]
    addr: String,
    #[command(flatten)]
    tls: Tls,
    /// Let in only users of this file, with passwords as htpasswd -B writes them
    #[arg(long, value_name = "file")]
    htpasswd: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Ask the registry of --mirror as the user of `wythe login`: all who get in read what he may
    #[arg(long, requires = "mirror")]
    mirror_login: bool,
}

/// As `dockerd` has them.
#[derive(Debug, clap::Args)]
struct Tls {
    /// Path to the server's certificate
    #[arg(long, value_name = "file", requires = "tlskey")]
    tlscert: Option<PathBuf>,
    /// Path to the server's key
    #[arg(long, value_name = "file", requires = "tlscert")]
    tlskey: Option<PathBuf>,
    /// Take only clients with a certificate of --tlscacert
    #[arg(long, requires = "tlscacert")]
    tlsverify: bool,
    /// Trust clients' certificates signed only by this CA
    #[arg(long, value_name = "file", requires = "tlscert")]
    tlscacert: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Remove manifests too that no tag leads to
    #[arg(long)]
    untagged: bool,
    /// Keep what came within this time: it may be part of a push under way
    #[arg(long, value_name = "duration", default_value = "1h", value_parser = duration)]
    grace: Duration,
    #[command(flatten)]
    place: Where,
}

impl RegistryCommand {
    pub(super) fn run(self, endpoint: &Endpoint) -> Result<u8, CliError> {
        match self {
            RegistryCommand::Serve(args) => args.run(endpoint),
            RegistryCommand::Gc(args) => args.run(&endpoint.roots),
        }
    }
}

impl Where {
    /// The store's directory, and those of others that may have the same blobs.
    fn find(&self, roots: &Roots) -> (PathBuf, Vec<PathBuf>) {
        let own = roots.data.join("registry");
        let engine = roots.data.join("content");
        match self.mirror.as_deref().and_then(Upstream::new) {
            None => (self.store.clone().unwrap_or(own), vec![engine]),
            // Apart, so that what was pushed is never taken for what an upstream once had.
            Some(upstream) => {
                let usual = || roots.data.join("mirrors").join(directory(upstream.name()));
                (self.store.clone().unwrap_or_else(usual), vec![engine, own])
            }
        }
    }

    fn open(&self, roots: &Roots) -> Result<(PathBuf, Result<Store, StoreError>), CliError> {
        let (root, neighbours) = self.find(roots);
        let root = std::path::absolute(&root)
            .map_err(|error| CliError::io(format!("use {}", root.display()), error))?;
        let store = Store::open(&root, neighbours);
        Ok((root, store))
    }
}

/// A registry's URL.
fn upstream(text: &str) -> Result<String, String> {
    match Upstream::new(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write the URL of a registry, such as https://registry-1.docker.io".to_owned()),
    }
}

/// A directory's name for a host and port.
fn directory(host: &str) -> String {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    host.chars().map(|c| if right(c) { c } else { '_' }).collect()
}

impl Tls {
    fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tlscert.clone()?, self.tlskey.clone()?);
        let authority = self.tlscacert.clone().filter(|_| self.tlsverify);
        Some(TlsFiles { authority, certificate, key })
    }
}

impl ServeArgs {
    fn run(self, endpoint: &Endpoint) -> Result<u8, CliError> {
        daemon::begin_log(None, endpoint.debug)?;
        let users = self.htpasswd.as_deref().map(Htpasswd::open).transpose();
        let users = users.map_err(|error| CliError::Usage(chain(&error)))?;
        let (root, store) = self.place.open(&endpoint.roots)?;
        let store = store.map_err(|error| CliError::Usage(chain(&error)))?;
        let failed = |error| CliError::io(format!("listen at {}", self.addr), error);
        let socket = TcpListener::bind(address(&self.addr)).map_err(failed)?;
        let at = socket.local_addr().map_err(failed)?;
        let tls = self.tls.files();
        for warning in warnings(at, tls.as_ref(), users.is_some()) {
            warn!("{warning}");
        }
        daemon::raise_descriptors();
        let upstream = self.upstream()?;
        let server = Server::new(store, users, upstream);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::io("start", error))?;
        let served = runtime.block_on(async {
            let listener = match &tls {
                Some(files) => {
                    Listener::tls(socket, files).map_err(|error| CliError::Usage(chain(&error)))?
                }
                None => Listener::plain(socket).map_err(failed)?,
            };
            let scheme = if tls.is_some() { "https" } else { "http" };
            output::line(&format!("Registry at {scheme}://{at}"))?;
            serve(&server, listener, &root).await
        });
        // Threads that still wait for the disk do not hold up the end.
        runtime.shutdown_background();
        served.map(|()| 0)
    }
}

impl ServeArgs {
    /// What this is a cache of.
    fn upstream(&self) -> Result<Option<Upstream>, CliError> {
        let Some(url) = self.place.mirror.as_deref() else { return Ok(None) };
        let credentials = match self.mirror_login {
            true => docker_config::credentials(&docker_config::host(url))?,
            false => None,
        };
        if self.mirror_login && credentials.is_none() {
            let host = docker_config::host(url);
            return Err(CliError::Usage(format!("nobody is logged in: use wythe login {host}")));
        }
        Ok(Upstream::new(url).map(|upstream| upstream.asked_as(credentials)))
    }
}

async fn serve(server: &Server, listener: Listener, root: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::io("serve the registry", error);
    let stop = daemon::stop_asked().map_err(failed)?;
    daemon::serving();
    info!(store = %root.display(), "serving");
    let served = tokio::select! {
        served = server.serve(listener, stop) => served,
        () = server.tidy() => Ok(()),
        asked = server.control(root) => asked,
    };
    daemon::stopping();
    served.map_err(failed)
}

/// `:5000` is every address of this host, as Go's programs have it.
fn address(text: &str) -> String {
    match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    }
}

/// What whoever serves like that should know.
fn warnings(at: SocketAddr, tls: Option<&TlsFiles>, users: bool) -> Vec<&'static str> {
    let mut all = Vec::new();
    if at.ip().is_loopback() {
        return all;
    }
    if tls.is_none() && users {
        all.push("passwords come in the clear: use --tlscert and --tlskey");
    }
    if !users && tls.is_none_or(|files| files.authority.is_none()) {
        all.push("whoever reaches this address can read and write everything: use --htpasswd");
    }
    all
}

impl GcArgs {
    fn run(self, roots: &Roots) -> Result<u8, CliError> {
        let (root, store) = self.place.open(roots)?;
        let collected = match store {
            Ok(store) => store.collect(self.untagged, self.grace).map_err(|error| chain(&error)),
            // Whoever has it open does it.
            Err(StoreError::Open(image::OpenError::InUse { .. })) => {
                let ask = Ask { untagged: self.untagged, grace_seconds: self.grace.as_secs() };
                registry_server::ask(&root, ask).map_err(|error| chain(&error))
            }
            Err(error) => Err(chain(&error)),
        };
        let Collected { manifests, blobs, bytes } = collected.map_err(CliError::Usage)?;
        output::line(&format!("Removed {manifests} manifests and {blobs} blobs"))?;
        output::line(&format!("Total reclaimed space: {}", human::size(bytes)))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_serves_the_world_is_told_what_that_means() {
        let files = |authority: bool| TlsFiles {
            authority: authority.then(|| PathBuf::from("/ca")),
            certificate: PathBuf::from("/cert"),
            key: PathBuf::from("/key"),
        };
        let count = |at: &str, tls: Option<&TlsFiles>, users| {
            warnings(at.parse().unwrap(), tls, users).len()
        };
        assert_eq!(count("127.0.0.1:5000", None, false), 0);
        assert_eq!(count("0.0.0.0:5000", None, false), 1);
        assert_eq!(count("0.0.0.0:5000", None, true), 1);
        assert_eq!(count("0.0.0.0:5000", Some(&files(false)), false), 1);
        assert_eq!(count("0.0.0.0:5000", Some(&files(false)), true), 0);
        assert_eq!(count("0.0.0.0:5000", Some(&files(true)), false), 0);
        assert_eq!(address(":5000"), "[::]:5000");
    }

    #[test]
    fn a_cache_is_kept_apart_from_what_was_pushed() {
        let roots = Roots { data: "/d".into(), run: "/r".into() };
        let root = |mirror: Option<&str>| {
            Where { mirror: mirror.map(str::to_owned), store: None }.find(&roots).0
        };
        assert_eq!(root(None), Path::new("/d/registry"));
        assert_eq!(root(Some("http://a.b:50/")), Path::new("/d/mirrors/a.b_50"));
        for bad in ["a.b", "ftp://a.b", "https://", "https://a b"] {
            assert!(upstream(bad).is_err(), "{bad}");
        }
    }
}
