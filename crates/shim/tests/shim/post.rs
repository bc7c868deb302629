//! A shim that nothing but streams lead to.

use std::{io::Read as _, os::unix::net::UnixStream, sync::Arc, time::Duration};

use base::{Deadline, ProcessId};
use shim::{
    Arrival, Post, Remote,
    protocol::{Reply, Request},
};
use tokio::{sync::mpsc, task::JoinHandle};
use workload::{DriverError, Exit, ExitStatus, Isolation};

use crate::{
    host::{HostDriver, sandbox, script},
    world::soon,
};

/// A shim, and the way to it.
struct Far {
    arrivals: mpsc::Sender<Arrival>,
    serving: JoinHandle<()>,
}

impl Far {
    fn start() -> Far {
        let (arrivals, queue) = mpsc::channel(8);
        let driver = Arc::new(|_| Ok(Arc::new(HostDriver) as Arc<dyn workload::Driver>));
        let post = Post::new(driver, None, "this build".to_owned());
        Far { arrivals, serving: tokio::spawn(post.serve(queue)) }
    }

    async fn call(&self) -> Remote {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.arrivals.send(Arrival::Caller(theirs.into())).await.unwrap();
        Remote::new(ours.into(), soon()).await.unwrap()
    }
}

fn create(root: &std::path::Path) -> Request {
    let spec = Box::new(sandbox(root, "web"));
    Request::Create { isolation: Isolation::Container, spec, network: false }
}

#[tokio::test]
async fn a_sandbox_is_held_where_no_descriptor_comes() {
    let dir = tempfile::tempdir().unwrap();
    let far = Far::start();
    let remote = far.call().await;
    let created = remote.call(create(dir.path()), None, Some(soon())).await.unwrap();
    assert!(matches!(created, Reply::Sandbox { .. }), "{created:?}");
    let again = far.call().await.call(create(dir.path()), None, Some(soon())).await;
    assert!(matches!(again, Err(DriverError::Exists { .. })), "{again:?}");
    // The stream may come after the call that names it.
    let spec = Box::new(script(dir.path(), "main", "echo hello; exit 3"));
    let spawn = Request::Spawn { spec, attached: true, output_only: false };
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let spawning = remote.call(spawn, Some(7), Some(soon()));
    let sending = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        far.arrivals.send(Arrival::Stream(7, theirs.into())).await.unwrap();
    };
    let (spawned, ()) = tokio::join!(spawning, sending);
    assert!(matches!(spawned, Ok(Reply::Process { .. })), "{spawned:?}");
    let output = tokio::task::spawn_blocking(move || {
        let mut output = Vec::new();
        ours.read_to_end(&mut output).map(|_| output)
    });
    assert_eq!(output.await.unwrap().unwrap(), b"\x01\0\0\0\0\0\0\x06hello\n");
    let process = ProcessId::main();
    let exit = remote.call(Request::Wait { process }, None, None).await.unwrap();
    assert!(matches!(exit, Reply::Exit(Exit { status: ExitStatus::Code(3), .. })), "{exit:?}");
    let gone = remote.call(Request::Destroy, None, Some(soon())).await.unwrap();
    assert!(matches!(gone, Reply::Destroyed(_)), "{gone:?}");
    far.serving.await.unwrap();
    remote.closed().await;
}

#[tokio::test]
async fn one_that_is_vacated_has_room_for_another_sandbox() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let far = Far::start();
    let remote = far.call().await;
    let nothing = remote.call(Request::Vacate, None, Some(soon())).await;
    assert!(matches!(nothing, Err(DriverError::Gone { .. })), "{nothing:?}");
    for dir in [&first, &second] {
        remote.call(create(dir.path()), None, Some(soon())).await.unwrap();
        let spec = Box::new(script(dir.path(), "main", "sleep 100"));
        let (_ours, theirs) = UnixStream::pair().unwrap();
        far.arrivals.send(Arrival::Stream(1, theirs.into())).await.unwrap();
        let spawn = Request::Spawn { spec, attached: true, output_only: false };
        remote.call(spawn, Some(1), Some(soon())).await.unwrap();
        let vacated = remote.call(Request::Vacate, None, Some(soon())).await.unwrap();
        assert_eq!(vacated, Reply::Done);
        let wait = Request::Wait { process: ProcessId::main() };
        let waited = remote.call(wait, None, Some(soon())).await;
        assert!(matches!(waited, Err(DriverError::Gone { .. })), "{waited:?}");
    }
    assert!(!far.serving.is_finished(), "it is there for the next");
    remote.call(create(first.path()), None, Some(soon())).await.unwrap();
    remote.call(Request::Destroy, None, Some(soon())).await.unwrap();
    far.serving.await.unwrap();
}

#[tokio::test]
async fn a_call_whose_stream_does_not_come_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let far = Far::start();
    let remote = far.call().await;
    remote.call(create(dir.path()), None, Some(soon())).await.unwrap();
    let spawn = |ticket| {
        let spec = Box::new(script(dir.path(), "main", "exit 3"));
        let spawn = Request::Spawn { spec, attached: true, output_only: false };
        remote.call(spawn, ticket, Some(Deadline::after(Duration::from_millis(50))))
    };
    let late = spawn(Some(1)).await.unwrap_err();
    assert!(matches!(&late, DriverError::DeadlinePassed { .. }), "{late}");
    let none = spawn(None).await.unwrap_err();
    assert!(none.to_string().contains("0 came and 1 belong to it"), "{none}");
    // Two with one number are neither.
    for _ in 0..2 {
        let (_, theirs) = UnixStream::pair().unwrap();
        far.arrivals.send(Arrival::Stream(2, theirs.into())).await.unwrap();
    }
    assert!(matches!(spawn(Some(2)).await, Err(DriverError::DeadlinePassed { .. })));
    remote.call(Request::Destroy, None, Some(soon())).await.unwrap();
    far.serving.await.unwrap();
}
