//! Clients that are slow, too many, or ask for too much, over the real server.

use std::{future::pending, path::Path, time::Duration};

use engine::{Config, Engine};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use super::{Limits, Server};
use crate::body::JSON_MAX;

/// A moment that is long for a client and short for a test.
const SOON: Duration = Duration::from_millis(300);

/// A server of an engine without drivers; it ends with the test.
struct Serving {
    dir: tempfile::TempDir,
    _task: JoinSet<()>,
}

impl Serving {
    async fn start(limits: Limits) -> Serving {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("data"), dir.path().join("run"));
        let config = Config::new(data, run, "1".to_owned());
        let engine = Engine::open(config, Vec::new()).await.unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let server = Server::with_limits(engine, "1", limits);
        let mut task = JoinSet::new();
        task.spawn(async move {
            server.serve(listener.into(), pending()).await.unwrap();
        });
        Serving { dir, _task: task }
    }

    fn socket(&self) -> &Path {
        self.dir.path()
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket().join("socket")).await.unwrap()
    }

    /// What is answered to these bytes until the connection ends.
    async fn answer(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        // Who answers early need not read to the end.
        let write = async { drop(writing.write_all(bytes).await) };
        let read = async { drop(reading.read_to_end(&mut answer).await) };
        tokio::join!(write, read);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn limits() -> Limits {
    Limits { connections: 100, whole_within: SOON }
}

fn head(request: &str, headers: &str) -> String {
    format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

const PING: &str = "GET /_ping";

#[tokio::test]
async fn who_never_ends_a_head_is_not_waited_for() {
    let serving = Serving::start(limits()).await;
    for begun in ["", "GET /_pi", "GET /_ping HTTP/1.1\r\nHost: x\r\n"] {
        let answer = serving.answer(begun.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{begun:?}: {answer}");
    }
    assert!(serving.answer(head(PING, "").as_bytes()).await.ends_with("OK"));
}

#[tokio::test]
async fn who_never_ends_a_body_is_told_that_it_took_too_long() {
    let serving = Serving::start(limits()).await;
    let json = "Content-Type: application/json\r\n";
    for rest in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let begun = head("POST /v1.50/containers/create", &format!("{json}{rest}"));
        let answer = serving.answer(begun.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("took longer than"), "{answer}");
    }
}

#[tokio::test]
async fn bodies_and_heads_beyond_their_limits_are_refused_unread() {
    let serving = Serving::start(limits()).await;
    let json = "Content-Type: application/json\r\n";
    // Told in its head, or found out on the way.
    let told = head(
        "POST /v1.50/containers/create",
        &format!("{json}Content-Length: {}\r\n", JSON_MAX + 1),
    );
    let told = [told.into_bytes(), vec![b' '; JSON_MAX + 1]].concat();
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()];
    let endless =
        head("POST /v1.50/containers/create", &format!("{json}Transfer-Encoding: chunked\r\n"));
    let endless = [endless.into_bytes(), chunk.concat().repeat(6)].concat();
    for request in [told, endless] {
        let answer = serving.answer(&request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("larger than 4194304 bytes"), "{answer}");
    }
    let long = head(PING, &format!("X-Long: {}\r\n", "x".repeat(256 << 10)));
    let answer = serving.answer(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(serving.answer(head(PING, "").as_bytes()).await.ends_with("OK"));
}

#[tokio::test]
async fn who_comes_when_there_is_no_room_is_told_so() {
    let patient = Limits { connections: 10, whole_within: Duration::from_secs(60) };
    let serving = Serving::start(patient).await;
    let mut inside = Vec::new();
    for _ in 0..patient.connections {
        let mut stream = serving.connect().await;
        // Answered: so it is in.
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        inside.push(stream);
    }
    for _ in 0..20 {
        let answer = serving.answer(head(PING, "").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["message"], "there are 10 connections already, and no room for more");
    }
    // Those who say nothing take nobody's place.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(serving.connect().await);
    }
    drop(inside.pop());
    loop {
        let answer = serving.answer(head(PING, "").as_bytes()).await;
        if answer.starts_with("HTTP/1.1 200") {
            return;
        }
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
}
