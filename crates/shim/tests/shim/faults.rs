//! Everybody is killed at some time, and some talk nonsense.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use base::{Deadline, ErrorKind, ProcessId};
use rustix::process::{Pid, Signal, kill_process};
use shim::protocol::{Hello, PROTOCOL, Welcome};
use wire::blocking;
use workload::{Driver as _, DriverError, ExitStatus, Materials, Sandbox, Streams};

use crate::{
    host::{PANICS, SLOW, sandbox, script},
    world::{LONG, World, driver_in, soon},
};

async fn exists(file: &Path) {
    let until = Instant::now() + LONG;
    while !file.exists() {
        assert!(Instant::now() < until, "{} never appeared", file.display());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn running(world: &World, script_text: &str) -> std::sync::Arc<dyn Sandbox> {
    let spec = sandbox(world.path(), "web");
    let sandbox = world.driver().create(spec, Materials::default(), soon()).await.unwrap();
    let spec = script(world.path(), "main", script_text);
    sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
    sandbox
}

#[tokio::test]
async fn a_killed_daemon_loses_neither_exit_code_nor_log_line() {
    let world = World::new();
    let mut daemon = world.play("daemon");
    exists(&world.path().join("started")).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let driver = world.driver();
    let sandbox = driver.recover(world.handle("web"), soon()).await.unwrap().unwrap();
    let process = sandbox.process(&ProcessId::main()).await.unwrap();
    let pid = std::fs::read_to_string(world.path().join("started")).unwrap();
    assert_eq!(process.host_pid().unwrap().to_string(), pid, "it still runs");
    assert_eq!(process.wait().await.status, ExitStatus::Code(3));
    let want: String = (1..=300).map(|number| format!("line {number}\n")).collect();
    assert_eq!(world.log("main"), want);
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn an_exit_while_nobody_was_there_is_remembered() {
    let world = World::new();
    drop(running(&world, "exit 9").await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sandbox = world.driver().recover(world.handle("web"), soon()).await.unwrap().unwrap();
    let process = sandbox.process(&ProcessId::main()).await.unwrap();
    assert_eq!(process.host_pid(), None);
    assert_eq!(process.wait().await.status, ExitStatus::Code(9));
    sandbox.destroy(soon()).await.unwrap();
    assert!(world.driver().recover(world.handle("web"), soon()).await.unwrap().is_none());
    world.assert_empty().await;
}

#[tokio::test]
async fn a_sandbox_whose_maker_was_killed_is_found_by_its_id() {
    let world = World::new();
    let mut daemon = world.play("creating_daemon");
    exists(&world.path().join("run/web.sock")).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(!world.path().join("created").exists(), "it was killed too late");
    let mut handle = world.handle("web");
    handle.token = String::new();
    let sandbox = world.driver().recover(handle, soon()).await.unwrap().unwrap();
    assert_eq!(sandbox.handle(), world.handle("web"));
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

/// The client is gone before its shim looks at what it asked for: a recovery may have found
/// nothing by then, so nothing may appear later.
#[tokio::test]
async fn a_sandbox_whose_maker_was_gone_before_it_began_is_not_made() {
    let world = World::new();
    drop(running(&world, "sleep 60").await);
    let call = shim::protocol::Call {
        id: 0,
        left_ms: None,
        ticket: None,
        request: shim::protocol::Request::Create {
            isolation: workload::Isolation::Host,
            spec: Box::new(sandbox(world.path(), "late")),
            network: false,
        },
    };
    let [server] = world.named("wythe-fork")[..] else { panic!("not one fork server") };
    kill_process(server, Signal::STOP).unwrap();
    let stream = UnixStream::connect(world.path().join("run/fork-server")).unwrap();
    blocking::send(&stream, &Hello { protocol: PROTOCOL }, &[]).unwrap();
    blocking::send(&stream, &call, &[]).unwrap();
    drop(stream);
    kill_process(server, Signal::CONT).unwrap();
    let web = world.driver().recover(world.handle("web"), soon()).await.unwrap().unwrap();
    web.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn shims_outlive_their_fork_server_and_the_next_sandbox_starts_another() {
    let world = World::new();
    let old = running(&world, "sleep 0.5; exit 6").await;
    let [server] = world.named("wythe-fork")[..] else { panic!("not one fork server") };
    kill_process(server, Signal::KILL).unwrap();
    while world.named("wythe-fork").contains(&server) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let driver = world.driver();
    let spec = sandbox(world.path(), "next");
    let next = driver.create(spec, Materials::default(), soon()).await.unwrap();
    let process = old.process(&ProcessId::main()).await.unwrap();
    assert_eq!(process.wait().await.status, ExitStatus::Code(6));
    old.destroy(soon()).await.unwrap();
    next.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn a_killed_shims_processes_are_lost_and_destruction_still_cleans_up() {
    let world = World::new();
    let sandbox = running(&world, "sleep 60").await;
    let process = sandbox.process(&ProcessId::main()).await.unwrap();
    let waiting = tokio::spawn({
        let process = std::sync::Arc::clone(&process);
        async move { process.wait().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let [shim] = world.named("wythe-shim")[..] else { panic!("not one shim") };
    kill_process(shim, Signal::KILL).unwrap();
    let exit = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    assert_eq!(exit.status, ExitStatus::Lost);
    assert_eq!(process.wait().await, exit, "everybody gets the same answer");
    assert_eq!(sandbox.usage().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(world.path().join("sandbox-web").exists());
    sandbox.destroy(soon()).await.unwrap();
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn what_a_killed_shim_left_is_reclaimed_by_recovery() {
    let world = World::new();
    drop(running(&world, "sleep 60").await);
    let [shim] = world.named("wythe-shim")[..] else { panic!("not one shim") };
    kill_process(shim, Signal::KILL).unwrap();
    while !world.named("wythe-shim").is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(world.sockets(), ["fork-server", "web.sock"]);
    assert!(world.driver().recover(world.handle("web"), soon()).await.unwrap().is_none());
    world.assert_empty().await;
}

#[tokio::test]
async fn a_fork_server_of_another_build_is_replaced_and_its_shims_are_understood() {
    let world = World::new();
    let old = running(&world, "sleep 0.3; exit 2").await;
    let before = world.named("wythe-fork");
    let driver = driver_in(world.path(), "next build");
    let spec = sandbox(world.path(), "next");
    let next = driver.create(spec, Materials::default(), soon()).await.unwrap();
    assert_ne!(world.named("wythe-fork"), before);
    assert_eq!(world.named("wythe-fork").len(), 1);
    let adopted = driver.recover(old.handle(), soon()).await.unwrap().unwrap();
    let process = adopted.process(&ProcessId::main()).await.unwrap();
    assert_eq!(process.wait().await.status, ExitStatus::Code(2));
    adopted.destroy(soon()).await.unwrap();
    next.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn another_protocol_is_refused_by_both_sides_with_a_reason() {
    let world = World::new();
    let sandbox = running(&world, "sleep 60").await;
    // A client of a later protocol.
    let stream = UnixStream::connect(world.path().join("run/web.sock")).unwrap();
    blocking::send(&stream, &Hello { protocol: PROTOCOL + 1 }, &[]).unwrap();
    let (welcome, _) = blocking::recv::<Welcome>(&stream).unwrap().unwrap();
    assert_eq!((welcome.protocol, welcome.build.as_str()), (PROTOCOL, "this build"));
    assert!(blocking::recv::<Welcome>(&stream).unwrap().is_none(), "it hangs up");
    // A shim of a later protocol.
    let listener = UnixListener::bind(world.path().join("run/later.sock")).unwrap();
    let later = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let welcome = Welcome { protocol: 99, build: "2.0".to_owned(), pid: 1 };
        let _ = blocking::recv::<Hello>(&stream).unwrap().unwrap();
        blocking::send(&stream, &welcome, &[]).unwrap();
    });
    let error = world.driver().recover(world.handle("later"), soon()).await.unwrap_err();
    later.join().unwrap();
    assert!(error.to_string().contains("build 2.0 and speaks protocol 99"), "{error}");
    std::fs::remove_file(world.path().join("run/later.sock")).unwrap();
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn nonsense_ends_the_connection_it_came_on_and_nothing_else() {
    let world = World::new();
    let sandbox = running(&world, "sleep 60").await;
    let hello = wire::frame::encode(&Hello { protocol: PROTOCOL }, 0).unwrap();
    let good = |rest: &[u8]| [&hello[..], rest].concat();
    let nonsense: [Vec<u8>; 6] = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        hello[..3].to_vec(),
        good(&[0xff; 4]),
        good(b"\x05\0\0\0{}"),
        good(b"\x02\0\0\0{}"),
        good(b"\x04\0\0\0\xff\xff\xff\xff"),
    ];
    for bytes in nonsense {
        for socket in ["run/web.sock", "run/fork-server"] {
            let mut stream = UnixStream::connect(world.path().join(socket)).unwrap();
            // It may hang up before all is written.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            stream.set_read_timeout(Some(LONG)).unwrap();
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
    }
    // Descriptors that do not belong to the call.
    let stream = UnixStream::connect(world.path().join("run/web.sock")).unwrap();
    blocking::send(&stream, &Hello { protocol: PROTOCOL }, &[]).unwrap();
    blocking::recv::<Welcome>(&stream).unwrap().unwrap();
    let call = shim::protocol::Call {
        id: 5,
        left_ms: None,
        ticket: None,
        request: shim::protocol::Request::Usage,
    };
    let null = std::fs::File::open("/dev/null").unwrap();
    blocking::send(&stream, &call, &[std::os::fd::AsFd::as_fd(&null)]).unwrap();
    let (answer, _) = blocking::recv::<shim::protocol::Answer>(&stream).unwrap().unwrap();
    assert!(matches!(answer.result, Err(DriverError::Invalid { .. })), "{answer:?}");
    drop(stream);
    assert_eq!(sandbox.usage().await.unwrap().pids, Some(1));
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn a_driver_that_panics_fails_one_creation_and_leaves_nothing() {
    let world = World::new();
    let mut spec = sandbox(world.path(), "web");
    spec.hostname = Some(PANICS.to_owned());
    let error = world.driver().create(spec, Materials::default(), soon()).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    world.assert_empty().await;
}

#[tokio::test]
async fn deadlines_are_kept_by_the_driver_and_if_need_be_by_the_client() {
    let world = World::new();
    let driver = world.driver();
    let mut spec = sandbox(world.path(), "slow");
    spec.hostname = Some(SLOW.to_owned());
    let by = Deadline::after(Duration::from_millis(100));
    let error = driver.create(spec, Materials::default(), by).await.unwrap_err();
    // On a busy host it may pass before the driver is asked.
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    world.assert_empty().await;
    let sandbox = running(&world, "sleep 60").await;
    let [shim] = world.named("wythe-shim")[..] else { panic!("not one shim") };
    kill_process(shim, Signal::STOP).unwrap();
    let by = Deadline::after(Duration::from_millis(100));
    let error = sandbox.destroy(by).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    kill_process(shim, Signal::CONT).unwrap();
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn two_daemons_share_a_sandbox_and_the_destruction_by_one_is_seen_by_the_other() {
    let world = World::new();
    let first = running(&world, "sleep 60").await;
    let second = world.driver().recover(first.handle(), soon()).await.unwrap().unwrap();
    let process = second.process(&ProcessId::main()).await.unwrap();
    let (exit, destroyed) = tokio::join!(process.wait(), first.destroy(soon()));
    destroyed.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(workload::Signal::KILL));
    second.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn a_shim_belongs_to_nobody_else() {
    let world = World::new();
    let sandbox = running(&world, "sleep 60").await;
    let [shim] = world.named("wythe-shim")[..] else { panic!("not one shim") };
    assert_eq!(rustix::process::getsid(Some(shim)).unwrap(), shim, "a session of its own");
    assert_ne!(Some(shim), Pid::from_raw(0));
    let mut kinds: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", shim.as_raw_pid()))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .map(|target| target.to_str().unwrap().split([':', '[']).next().unwrap().to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    let run = world.path().join("run").to_str().unwrap().to_owned();
    let log = world.path().join("log-main").to_str().unwrap().to_owned();
    let mut want = ["/dev/null", "anon_inode", "pipe", "socket", &run, &log].map(str::to_owned);
    want.sort();
    assert_eq!(kinds, want);
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

/// An answer that cannot be sent is the end of its connection: whoever asked learns of it at
/// once, and can ask again on another one.
#[tokio::test]
async fn an_answer_that_cannot_be_sent_ends_the_connection() {
    let world = World::new();
    let sandbox = running(&world, "sleep 60").await;
    let mut stream = UnixStream::connect(world.path().join("run/web.sock")).unwrap();
    blocking::send(&stream, &Hello { protocol: PROTOCOL }, &[]).unwrap();
    blocking::recv::<Welcome>(&stream).unwrap().unwrap();
    stream.shutdown(std::net::Shutdown::Read).unwrap();
    let call = shim::protocol::Call {
        id: 0,
        left_ms: None,
        ticket: None,
        request: shim::protocol::Request::HostPids,
    };
    let until = Instant::now() + LONG;
    while blocking::send(&stream, &call, &[]).is_ok() {
        assert!(Instant::now() < until, "the shim keeps a connection on which it cannot answer");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(stream.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}
