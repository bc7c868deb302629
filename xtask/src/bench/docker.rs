//! Docker's API: the stock client and bare HTTP, against every engine that speaks it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    place::{Place, timed, timed_ms},
    row::Row,
    timed::{Contender, runc_alone, take_turns},
};
use crate::command::quietly;

pub(super) const ROWS: [&str; 3] = [BY_HAND, "docker run --rm, bridge", "docker exec true"];

const BY_HAND: &str = "four HTTP calls of a run";

/// How long an engine may take to serve.
const READY: Duration = Duration::from_secs(30);

/// An engine that speaks Docker's API.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) socket: PathBuf,
    /// Its process, if it is a peer's.
    child: Option<Child>,
}

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let mut servers = vec![ours(place)];
    servers.extend(podman(place)?);
    servers.extend(dockerd(place)?);
    for server in &servers {
        let args = ["run", "-d", "--name", "api-idle", "bench", "/bin/sleep", "100000"];
        timed(&mut server.client(&args)).with_context(|| server.name.to_owned())?;
    }
    let mut rows = Vec::new();
    for work in ROWS.into_iter().filter(|work| options.wants(&[work])) {
        let mut contenders: Vec<_> = servers.iter().map(|server| server.contender(work)).collect();
        match work {
            BY_HAND => contenders.extend(runc_alone(place)),
            _ => contenders.push(client_alone()),
        }
        rows.push(take_turns(work, &mut contenders, options.rounds)?);
    }
    for server in &servers {
        drop(quietly(&mut server.client(&["rm", "-f", "api-idle"])));
    }
    Ok(rows)
}

/// The stock client when it asks nobody anything: what no engine can take away.
fn client_alone() -> Contender<'static> {
    let mut version = Command::new("docker");
    version.arg("--version");
    Contender { name: "client alone", once: Box::new(move || timed_ms(&mut version)) }
}

pub(super) fn ours(place: &Place) -> Server {
    Server { name: "wythe", socket: place.path("run/docker.sock"), child: None }
}

/// Podman's service for Docker's clients.
fn podman(place: &Place) -> Result<Option<Server>> {
    let socket = place.path("podman.sock");
    let address = format!("unix://{}", socket.display());
    let service = place.podman(&["system", "service", "--time", "0", &address]);
    service.map(|service| Server::start("podman", service, socket)).transpose()
}

/// Docker's own daemon, with roots of its own.
pub(super) fn dockerd(place: &Place) -> Result<Option<Server>> {
    let Some(program) = place.peer("dockerd") else { return Ok(None) };
    let (socket, root) = (place.path("dockerd.sock"), place.path("dockerd"));
    fs::create_dir_all(&root)?;
    let mut daemon = Command::new(program);
    daemon.arg("-H").arg(format!("unix://{}", socket.display()));
    for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
        daemon.arg(flag).arg(root.join(name));
    }
    let server = Server::start("dockerd", daemon, socket)?;
    quietly(server.client(&["import"]).arg(place.path("rootfs.tar")).arg("bench"))?;
    Ok(Some(server))
}

impl Server {
    fn start(name: &'static str, mut command: Command, socket: PathBuf) -> Result<Server> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let server = Server { name, socket, child: Some(child) };
        let until = Instant::now() + READY;
        while call(&server.socket, "GET", "/_ping", "").is_err() {
            ensure!(Instant::now() < until, "{name} does not serve");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The stock client.
    pub(super) fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket.display())).args(args);
        command
    }

    fn contender(&self, work: &str) -> Contender<'static> {
        let socket = self.socket.clone();
        let once: Box<dyn FnMut() -> Result<f64>> = match work {
            BY_HAND => Box::new(move || by_hand(&socket)),
            "docker run --rm, bridge" => {
                let mut run = self.client(&["run", "--rm", "bench", "/bin/true"]);
                Box::new(move || timed_ms(&mut run))
            }
            _ => {
                let mut exec = self.client(&["exec", "api-idle", "/bin/true"]);
                Box::new(move || timed_ms(&mut exec))
            }
        };
        Contender { name: self.name, once }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        drop(quietly(Command::new("kill").arg(child.id().to_string())));
        drop(child.wait());
    }
}

/// Create, start, wait, remove.
fn by_hand(socket: &Path) -> Result<f64> {
    let began = Instant::now();
    let create = r#"{"Image":"bench","Cmd":["/bin/true"]}"#;
    let created = call(socket, "POST", "/v1.40/containers/create", create)?;
    let created: serde_json::Value = serde_json::from_str(&created)?;
    let id = created["Id"].as_str().context("the new container's id")?;
    let of = |rest: &str| format!("/v1.40/containers/{id}{rest}");
    call(socket, "POST", &of("/start"), "")?;
    call(socket, "POST", &of("/wait"), "")?;
    call(socket, "DELETE", &of(""), "")?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// One request, and the body of its answer, which must be a good one.
pub(super) fn call(socket: &Path, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {status} {body}");
    // A body in chunks is one JSON object all the same.
    match (body.find('{'), body.rfind('}')) {
        (Some(from), Some(to)) if from < to => Ok(body[from..=to].to_owned()),
        _ => Ok(body.to_owned()),
    }
}
