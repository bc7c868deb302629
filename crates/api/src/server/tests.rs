//! A server and a client on a real socket.

use std::path::PathBuf;

use engine::Config;
use tokio::{io::AsyncWriteExt as _, task::JoinHandle};

use super::*;
use crate::{Client, ClientError};

struct Daemon {
    dir: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: JoinHandle<io::Result<()>>,
}

impl Daemon {
    async fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("data"), dir.path().join("run"));
        let config = Config::new(data, run, "1".to_owned());
        let engine = Engine::open(config, Vec::new()).await.unwrap();
        let listener = listen(&dir.path().join("socket"), None).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = Server::new(engine, "1");
        let served = tokio::spawn(server.serve(listener, async move {
            let _ = stopped.await;
        }));
        Daemon { dir, stop: Some(stop), served }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_asks_one_thing_after_the_other() {
    let daemon = Daemon::start().await;
    let mut client = Client::connect(&daemon.socket()).await.unwrap();
    assert_eq!(client.daemon().build, "1");
    assert_eq!(client.list().await.unwrap(), []);
    assert_eq!(client.info().await.unwrap().version, "1");
    match client.inspect("web").await {
        Err(ClientError::Refused(failure)) => {
            assert_eq!(failure.kind, ErrorKind::NotFound);
            assert_eq!(failure.message, "No such container: web");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.list().await.unwrap(), []);
    daemon.stop().await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_group() {
    let daemon = Daemon::start().await;
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_without_its_descriptor_is_refused() {
    let daemon = Daemon::start().await;
    let mut conn = Conn::new(UnixStream::connect(daemon.socket()).await.unwrap());
    conn.send(&Hello { protocol: PROTOCOL, build: String::new() }, &[]).await.unwrap();
    conn.recv::<Hello>().await.unwrap().unwrap();
    conn.send(&Request::Load, &[]).await.unwrap();
    let reply = conn.recv::<Reply>().await.unwrap().unwrap().0;
    let Reply::Failed(failure) = reply else { panic!("{reply:?}") };
    assert_eq!(failure.kind, ErrorKind::InvalidInput);
    daemon.stop().await;
}

#[tokio::test]
async fn an_unknown_request_is_answered_and_another_protocol_turned_away() {
    let daemon = Daemon::start().await;
    let mut conn = Conn::new(UnixStream::connect(daemon.socket()).await.unwrap());
    conn.send(&Hello { protocol: PROTOCOL, build: String::new() }, &[]).await.unwrap();
    conn.recv::<Hello>().await.unwrap().unwrap();
    conn.send(&"fly", &[]).await.unwrap();
    let reply = conn.recv::<Reply>().await.unwrap().unwrap().0;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");

    let mut conn = Conn::new(UnixStream::connect(daemon.socket()).await.unwrap());
    conn.send(&Hello { protocol: PROTOCOL + 1, build: String::new() }, &[]).await.unwrap();
    assert_eq!(conn.recv::<Hello>().await.unwrap().unwrap().0.protocol, PROTOCOL);
    assert!(conn.recv::<Reply>().await.unwrap().is_none());
    daemon.stop().await;
}

#[tokio::test]
async fn noise_and_silence_harm_nobody_else() {
    let daemon = Daemon::start().await;
    let _silent = UnixStream::connect(daemon.socket()).await.unwrap();
    let mut noisy = UnixStream::connect(daemon.socket()).await.unwrap();
    noisy.write_all(&[0xff; 64]).await.unwrap();
    let mut client = Client::connect(&daemon.socket()).await.unwrap();
    assert_eq!(client.list().await.unwrap(), []);
    daemon.stop().await;
}
