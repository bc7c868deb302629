//! An image to a registry and from it: Debian's `docker-registry` on the loopback, one layer whose
//! files have 170 MB together and whose gzip has some 66, as a Debian system's has.
//!
//! Everybody sends and fetches the same image. Before each push the registry is emptied, before
//! each pull the image is removed here; neither counts.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options, docker, import,
    place::{Place, timed_ms},
    row::Row,
    timed::{Contender, take_turns},
};
use crate::command::{quietly, which};

pub(super) const ROWS: [&str; 2] = ["push, layer of 170 MB", "pull, layer of 170 MB"];

/// So many files make 170 MB.
const FILES: u32 = 1977;
const ADDRESS: &str = "127.0.0.1:5000";
const IMAGE: &str = "127.0.0.1:5000/bench/system:1";
/// It takes seconds; medians of a few do.
const ROUNDS_MAX: usize = 5;
/// How long the registry may take to serve.
const READY: Duration = Duration::from_secs(30);

type Commands<'a> = Box<dyn Fn(&[&str]) -> Command + 'a>;

/// One who pushes and pulls, by the arguments of Docker's client.
struct Client<'a> {
    name: &'static str,
    command: Commands<'a>,
    /// What says that this registry has no certificate.
    insecure: &'static [&'static str],
}

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let archive = import::archive("system", FILES)?;
    let registry = Registry::start(place)?;
    let dockerd = docker::dockerd(place)?;
    let clients = clients(place, dockerd.as_ref());
    let archive = archive.to_string_lossy();
    for client in &clients {
        client.run(&["load", "-i", &archive])?;
        client.run(&["tag", "system:latest", IMAGE])?;
        client.run(&["rmi", "system:latest"])?;
    }
    let rounds = options.rounds.min(ROUNDS_MAX);
    let mut rows = Vec::new();
    for work in ROWS.into_iter().filter(|work| options.wants(&[work])) {
        if work == ROWS[1] {
            // All fetch what we have sent.
            registry.empty()?;
            quietly(&mut clients.first().context("we take part")?.push())?;
        }
        let contender = |client| contender(client, &registry, work == ROWS[0]);
        let mut contenders: Vec<_> = clients.iter().map(contender).collect();
        let mut row = take_turns(work, &mut contenders, rounds)?;
        row.unit = "s";
        row.figures.iter_mut().flat_map(|(_, all)| all).for_each(|figure| *figure /= 1000.0);
        rows.push(row);
    }
    for client in &clients {
        client.run(&["rmi", IMAGE])?;
    }
    Ok(rows)
}

fn clients<'a>(place: &'a Place, dockerd: Option<&'a docker::Server>) -> Vec<Client<'a>> {
    let ours = |args: &[&str]| {
        let mut command = place.wythe();
        command.args(args);
        command
    };
    let mut clients = vec![Client { name: "wythe", command: Box::new(ours), insecure: &[] }];
    if place.podman(&[]).is_some() {
        let podman = |args: &[&str]| place.podman(args).expect("it was there above");
        let insecure = &["--tls-verify=false"];
        clients.push(Client { name: "podman", command: Box::new(podman), insecure });
    }
    clients.extend(dockerd.map(|server| Client {
        name: server.name,
        command: Box::new(|args: &[&str]| server.client(args)),
        insecure: &[],
    }));
    clients
}

fn contender<'a>(client: &'a Client<'a>, registry: &'a Registry, pushes: bool) -> Contender<'a> {
    let once = move || {
        if pushes {
            registry.empty()?;
            return timed_ms(&mut client.push());
        }
        client.run(&["rmi", IMAGE])?;
        timed_ms(&mut client.transfer("pull"))
    };
    Contender { name: client.name, once: Box::new(once) }
}

impl Client<'_> {
    fn run(&self, args: &[&str]) -> Result<()> {
        quietly(&mut (self.command)(args))
    }

    fn push(&self) -> Command {
        self.transfer("push")
    }

    fn transfer(&self, way: &str) -> Command {
        (self.command)(&[&[way], self.insecure, &[IMAGE]].concat())
    }
}

/// The registry. Dropped, it is gone.
struct Registry {
    child: Child,
    root: std::path::PathBuf,
}

impl Registry {
    fn start(place: &Place) -> Result<Registry> {
        let program = which("docker-registry").context("docker-registry is not installed")?;
        let (root, config) = (place.path("registry"), place.path("registry.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{ADDRESS}'}}\n",
            root.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry { child: command.spawn()?, root };
        let until = Instant::now() + READY;
        while TcpStream::connect(ADDRESS).is_err() {
            ensure!(Instant::now() < until, "docker-registry does not serve");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// Forgets all that it was sent.
    fn empty(&self) -> Result<()> {
        let all = self.root.join("docker");
        if all.exists() {
            fs::remove_dir_all(&all).with_context(|| format!("cannot remove {}", all.display()))?;
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
