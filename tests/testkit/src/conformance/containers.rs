//! Several containers in one sandbox.

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use base::{ErrorKind, ProcessId};
use tokio::io::AsyncWriteExt as _;
use workload::{
    Bind, ContainerSpec, ExitStatus, Files, Mount, MountFlags, MountSource, Process, ProcessRoot,
    ProcessSpec, Sandbox, Signal, Streams, TerminalSize, Unpack,
};

use super::{
    Bench,
    bench::{destroy, ended, read_all, read_until, refused, socket_pair, start, within},
    soon,
};

/// A sandbox with a container that does nothing; none where the driver says that there is but one
/// in each, and keeps to it.
async fn idle(b: &Bench<'_>) -> Option<Arc<dyn Sandbox>> {
    let sandbox = b.idle().await;
    if b.driver().capabilities().many_containers {
        return Some(sandbox);
    }
    let error = refused(&*sandbox, second(b, &*sandbox, &["true"])).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    destroy(&*sandbox).await;
    None
}

/// A further container on the same layers, with changes of its own.
fn container(b: &Bench<'_>, sandbox: &dyn Sandbox, name: &str) -> ContainerSpec {
    let id = format!("{}-{name}", sandbox.handle().sandbox);
    b.host.container(&id.parse().expect("it is longer by a word"))
}

/// The first process of a second container.
fn second(b: &Bench<'_>, sandbox: &dyn Sandbox, args: &[&str]) -> ProcessSpec {
    b.further("second", container(b, sandbox, "b"), args)
}

/// What a shell says that joins the container of this process.
async fn say(b: &Bench<'_>, sandbox: &dyn Sandbox, beside: &str, script: &str) -> String {
    let id = format!("say-in-{beside}");
    let (text, _) = b.output(sandbox, b.exec_beside(beside, &id, &["sh", "-c", script])).await;
    sandbox.forget(&id.parse().expect("it is a name")).await;
    text
}

fn bind(path: &std::path::Path, target: &str, read_only: bool) -> Mount {
    Mount {
        target: target.into(),
        source: MountSource::Bind(Bind { path: path.into(), recursive: true, idmap: None }),
        flags: MountFlags { read_only, ..MountFlags::default() },
        propagation: None,
    }
}

pub(super) async fn containers_have_files_of_their_own(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    let volume = b.path("volume-of-the-second");
    std::fs::create_dir_all(&volume).expect("the directory is ours");
    std::fs::write(volume.join("note"), "of the host\n").expect("the directory is ours");
    let id = format!("{}-b", sandbox.handle().sandbox).parse().expect("it is longer by a word");
    let mut layered = b.host.layered(&id);
    layered
        .mounts
        .extend([bind(&volume, "/volume", false), bind(&volume.join("note"), "/one", true)]);
    start(sandbox, b.further("second", layered, &["sleep", "infinity"])).await;

    assert_eq!(
        say(b, sandbox, "second", "cat /layer /volume/note /one").await,
        "further\nof the host\nof the host\n"
    );
    let written = "echo second > /mark; echo inside > /volume/inside; cat /mark; echo x > /one";
    let text = say(b, sandbox, "second", written).await;
    assert!(text.starts_with("second\n"), "{text}");
    assert!(text.to_lowercase().contains("read-only file system"), "{text}");
    let inside = std::fs::read_to_string(volume.join("inside")).expect("it was written");
    assert_eq!(inside, "inside\n");
    // Nothing of all that is in the first, and nothing of the first in the second.
    for path in ["/layer", "/mark", "/volume", "/one"] {
        let text = say(b, sandbox, "main", &format!("ls {path} && echo is there")).await;
        assert!(!text.contains("is there"), "{path}: {text}");
    }
    assert_eq!(say(b, sandbox, "main", "echo main > /mark; cat /mark").await, "main\n");
    assert_eq!(say(b, sandbox, "second", "cat /mark").await, "second\n");
    destroy(sandbox).await;
}

pub(super) async fn containers_share_what_is_the_sandboxs(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    start(sandbox, second(b, sandbox, &["sleep", "infinity"])).await;
    let namespaces = |beside: &'static str, kind: &'static str| async move {
        let text = say(b, sandbox, beside, &format!("ls -l /proc/self/ns/{kind}")).await;
        text.split_once("-> ").map(|(_, to)| to.to_owned()).unwrap_or_else(|| panic!("{text}"))
    };
    for (kind, shared) in
        [("net", true), ("uts", true), ("ipc", true), ("mnt", false), ("pid", false)]
    {
        let (main, second) = (namespaces("main", kind).await, namespaces("second", kind).await);
        assert_eq!(main == second, shared, "{kind}: {main} and {second}");
    }
    let name = say(b, sandbox, "main", "/demo hostname").await;
    assert_eq!(say(b, sandbox, "second", "/demo hostname").await, name);

    // What listens in one is reached from the other.
    let listen = b.exec("listen", &["/demo", "nc", "-l", "-u", "7001"]);
    let (ours, theirs) = socket_pair();
    let streams = Streams { attached: Some(theirs.into()) };
    let listening = sandbox.spawn(listen, streams, soon()).await.expect("nc is there");
    let ask = "echo from the second | /demo nc -u 127.0.0.1 7001";
    let asked = async {
        // Until it listens, nobody answers.
        while say(b, sandbox, "second", ask).await != "from the second\n" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("being heard", asked).await;
    let heard = within("reading the output", read_all(ours, false)).await;
    assert_eq!(heard, "from the second\n");
    assert_eq!(ended(&*listening).await.status, ExitStatus::Code(0));
    destroy(sandbox).await;
}

pub(super) async fn containers_end_one_by_one(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    let script = "sleep infinity; exit 3";
    let third = b.further("third", container(b, sandbox, "c"), &["sh", "-c", script]);
    let second = start(sandbox, second(b, sandbox, &["sleep", "infinity"])).await;
    let third = start(sandbox, third).await;
    let beside = b.exec_beside("second", "beside", &["sleep", "infinity"]);
    let beside = start(sandbox, beside).await;
    let main = sandbox.process(&ProcessId::main()).await.expect("it was started");

    // The end of the first ends nobody else.
    main.signal(Signal::KILL).await.expect("it runs");
    assert_eq!(ended(&*main).await.status, ExitStatus::Signal(Signal::KILL));
    assert_eq!(say(b, sandbox, "second", "echo alive").await, "alive\n");
    let error = refused(sandbox, b.exec("late", &["true"])).await;
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error}");
    // That of another ends what joined it, and nothing beside.
    second.signal(Signal::KILL).await.expect("it runs");
    assert_eq!(ended(&*second).await.status, ExitStatus::Signal(Signal::KILL));
    assert_eq!(ended(&*beside).await.status, ExitStatus::Signal(Signal::KILL));
    assert_eq!(say(b, sandbox, "third", "echo alive").await, "alive\n");
    running(&*third).await;
    destroy(sandbox).await;
    assert_eq!(ended(&*third).await.status, ExitStatus::Signal(Signal::KILL));
}

/// Fails if a process ends that has no reason to.
async fn running(process: &dyn Process) {
    let waited = tokio::time::timeout(Duration::from_millis(50), process.wait()).await;
    assert!(waited.is_err(), "{} has ended: {waited:?}", process.id());
}

pub(super) async fn output_of_each_container_is_its_own(b: &Bench<'_>) {
    if idle(b).await.is_none() {
        return;
    }
    let sandbox = b.sandbox().await;
    let sandbox = &*sandbox;
    let log = |spec: &mut ProcessSpec| spec.log.insert(b.log()).path.clone();
    let script = "echo of the first; cat";
    let mut main = b.main(sandbox, &["sh", "-c", script]);
    (main.stdin, main.stdin_once) = (true, true);
    let first_log = log(&mut main);
    let (mut ours, theirs) = socket_pair();
    let main = sandbox.spawn(main, Streams { attached: Some(theirs.into()) }, soon()).await;
    let main = main.expect("sh is there");

    let mut other = second(b, sandbox, &["sh", "-c", "echo of the second; exit 5"]);
    let second_log = log(&mut other);
    assert_eq!(b.output(sandbox, other).await, ("of the second\n".to_owned(), ExitStatus::Code(5)));

    let mut third = b.further("third", container(b, sandbox, "c"), &["tty", "-f"]);
    third.terminal = Some(TerminalSize { rows: 30, columns: 100 });
    third.stdin = true;
    let (mut terminal, theirs) = socket_pair();
    let third = sandbox.spawn(third, Streams { attached: Some(theirs.into()) }, soon()).await;
    let third = third.expect("tty is there");
    read_until(&mut terminal, "30 rows, 100 columns").await;
    third.resize(TerminalSize { rows: 11, columns: 22 }).await.expect("it has a terminal");
    read_until(&mut terminal, "11 rows, 22 columns").await;
    main.resize(TerminalSize { rows: 1, columns: 1 }).await.expect_err("the first has none");
    terminal.write_all(b"\x03").await.expect("it reads");
    assert_eq!(ended(&*third).await.status, ExitStatus::Code(130));

    ours.write_all(b"typed\n").await.expect("it reads");
    ours.shutdown().await.expect("the socket is open");
    let text = within("reading the output", read_all(ours, false)).await;
    assert_eq!(text, "of the first\ntyped\n");
    assert_eq!(ended(&*main).await.status, ExitStatus::Code(0));
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).expect("a log")).into_owned();
    let (first, second) = (read(first_log), read(second_log));
    assert!(first.contains("of the first") && !first.contains("of the second"), "{first:?}");
    assert!(second.contains("of the second") && !second.contains("of the first"), "{second:?}");
    destroy(sandbox).await;
}

pub(super) async fn files_are_those_of_the_container_that_is_named(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    start(sandbox, second(b, sandbox, &["sleep", "infinity"])).await;
    let Some(files) = sandbox.files() else { return destroy(sandbox).await };
    say(b, sandbox, "main", "echo main > /mark").await;
    say(b, sandbox, "second", "echo the second > /mark").await;
    let [main, second] = ["main", "second"].map(|id| id.parse().expect("it is a name"));
    for (process, size) in [(&main, 5), (&second, 11)] {
        let stat = files.stat(process, "/mark").await.expect("it is there");
        assert_eq!(stat.size, size, "{process}: {stat:?}");
    }
    // What is copied out of one into the other is that one's.
    let archive = read(files, &second).await;
    let unpack = Unpack { keep_kinds: true, owner: workload::Owner::Archive };
    let (theirs, mut pipe) = std::io::pipe().expect("pipes can be made");
    let writing = tokio::task::spawn_blocking(move || pipe.write_all(&archive));
    within("writing files", files.write(&main, "/tmp", OwnedFd::from(theirs), unpack))
        .await
        .expect("it is an archive");
    within("writing the archive", writing).await.expect("no panic").expect("it is read");
    assert_eq!(say(b, sandbox, "main", "cat /tmp/copy /mark").await, "the second\nmain\n");
    let error = files.stat(&second, "/tmp/copy").await.expect_err("it is in the other");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    destroy(sandbox).await;
}

async fn read(files: &dyn Files, process: &ProcessId) -> Vec<u8> {
    let (mut ours, theirs) = std::io::pipe().expect("pipes can be made");
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        ours.read_to_end(&mut bytes).map(|_| bytes)
    });
    let read = files.read(process, "/mark", "copy", OwnedFd::from(theirs));
    within("reading files", read).await.expect("it is there");
    within("reading the archive", reading).await.expect("no panic").expect("a pipe can be read")
}

pub(super) async fn what_is_done_to_a_sandbox_is_done_to_all_containers(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    let alone = sandbox.usage().await.expect("it runs");
    let script = "stress --cpu 1 --seconds 1; sleep infinity";
    let second = start(sandbox, second(b, sandbox, &["sh", "-c", script])).await;
    let busy = async {
        loop {
            let usage = sandbox.usage().await.expect("it runs");
            if usage.cpu.total_ns > alone.cpu.total_ns + 500_000_000 {
                return usage;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let usage = within("being busy", busy).await;
    assert!(usage.pids > alone.pids, "{alone:?} {usage:?}");

    if let Some(pausable) = sandbox.pausable() {
        let nap = |beside: &str| b.exec_beside(beside, &format!("nap-{beside}"), &["sleep", "0.3"]);
        let naps = [start(sandbox, nap("main")).await, start(sandbox, nap("second")).await];
        pausable.pause(soon()).await.expect("it runs");
        for nap in &naps {
            let waited = tokio::time::timeout(Duration::from_millis(500), nap.wait()).await;
            assert!(waited.is_err(), "{} goes on while it is paused", nap.id());
        }
        pausable.resume(soon()).await.expect("it is paused");
        for nap in &naps {
            assert_eq!(ended(&**nap).await.status, ExitStatus::Code(0));
        }
    }
    let main = sandbox.process(&ProcessId::main()).await.expect("it was started");
    running(&*second).await;
    destroy(sandbox).await;
    for process in [&main, &second] {
        assert_eq!(ended(&**process).await.status, ExitStatus::Signal(Signal::KILL));
    }
}

pub(super) async fn a_container_that_fails_leaves_the_others_alone(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    let error = refused(sandbox, second(b, sandbox, &["no-such-command"])).await;
    assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error}");
    let mut missing = second(b, sandbox, &["true"]);
    if let ProcessRoot::Own(own) = &mut missing.root {
        own.mounts.push(bind(&b.path("nothing-is-here"), "/volume", false));
    }
    refused(sandbox, missing).await;
    assert_eq!(say(b, sandbox, "main", "echo alive").await, "alive\n");
    // Its name and its changes are as good as before.
    let again = start(sandbox, second(b, sandbox, &["sleep", "infinity"])).await;
    assert_eq!(say(b, sandbox, "second", "echo alive").await, "alive\n");
    let error = refused(sandbox, second(b, sandbox, &["true"])).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    running(&*again).await;
    destroy(sandbox).await;
}

/// One after the other, more than there are at once; what ended and was forgotten is in nobody's
/// way, and one that comes back finds what it has changed.
pub(super) async fn containers_come_and_go(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    let main = sandbox.process(&ProcessId::main()).await.expect("it was started");
    for round in 0..24 {
        let (id, name) = (format!("guest-{round}"), format!("r{round}"));
        let script = format!("echo {id} > /mark; cat /mark");
        let spec = b.further(&id, container(b, sandbox, &name), &["sh", "-c", &script]);
        assert_eq!(b.output(sandbox, spec).await, (format!("{id}\n"), ExitStatus::Code(0)));
        sandbox.forget(&id.parse().expect("it is a name")).await;
    }
    let back = b.further("guest-0", container(b, sandbox, "r0"), &["cat", "/mark"]);
    assert_eq!(b.output(sandbox, back).await.0, "guest-0\n");
    running(&*main).await;
    main.signal(Signal::KILL).await.expect("it runs");
    ended(&*main).await;
    let after = second(b, sandbox, &["echo", "after the first"]);
    assert_eq!(b.output(sandbox, after).await.0, "after the first\n");
    destroy(sandbox).await;
}

pub(super) async fn what_is_several_containers_is_not_copied(b: &Bench<'_>) {
    let Some(sandbox) = idle(b).await else { return };
    let sandbox = &*sandbox;
    let Some(forkable) = sandbox.forkable() else { return destroy(sandbox).await };
    start(sandbox, second(b, sandbox, &["sleep", "infinity"])).await;
    let directory = b.path("copied");
    std::fs::create_dir_all(&directory).expect("the directory is ours");
    let pausable = sandbox.pausable().expect("what can be copied can be paused");
    pausable.pause(soon()).await.expect("it runs");
    let error = forkable.save(&directory, soon()).await.expect_err("they are two");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("several containers"), "{error}");
    assert_eq!(std::fs::read_dir(&directory).expect("it is ours").count(), 0);
    pausable.resume(soon()).await.expect("it is paused");
    assert_eq!(say(b, sandbox, "second", "echo on > /mark; cat /mark").await, "on\n");
    destroy(sandbox).await;
}
