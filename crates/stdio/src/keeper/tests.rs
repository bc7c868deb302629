//! The keeper between a process, played by the test, and those who attach.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    time::Duration,
};

use base::clock::Timestamp;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::*;
use workload::LogDriver;

use crate::log::{Content, Query, Reader, Stream};

/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

/// Long enough for something to happen that should not.
const SHORT: Duration = Duration::from_millis(50);

struct Child {
    stdin: File,
    stdout: File,
    stderr: File,
}

fn open(spec: &StreamSpec) -> (Keeper, Child) {
    let (keeper, streams) = Keeper::open(spec).unwrap();
    let ChildStreams::Pipes { stdin, stdout, stderr } = streams else { panic!("not pipes") };
    (keeper, Child { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() })
}

fn interactive(stdin_once: bool) -> StreamSpec {
    StreamSpec { stdin: true, stdin_once, ..StreamSpec::default() }
}

fn logged(dir: &tempfile::TempDir) -> StreamSpec {
    let path = dir.path().join("log");
    let log = LogSpec { path, bytes_max: u64::MAX, files_max: 1, ..LogSpec::default() };
    StreamSpec { log: Some(log), ..StreamSpec::default() }
}

async fn attach(keeper: &Keeper) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    keeper.attach(OwnedFd::from(theirs.into_std().unwrap()).into()).await.unwrap();
    ours
}

/// One of whom input is not taken.
async fn watch(keeper: &Keeper) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(theirs.into_std().unwrap());
    keeper.attach(Attachment { socket, input: false, mark: false }).await.unwrap();
    ours
}

async fn read_all(mut stream: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await;
    read.expect("the socket was not closed").unwrap();
    bytes
}

/// What is in a stream of Docker's frames, by stream number.
fn unframe(mut frames: &[u8]) -> Vec<(u8, String)> {
    let mut out: Vec<(u8, String)> = Vec::new();
    while let Some((header, rest)) = frames.split_first_chunk::<8>() {
        let [stream, 0, 0, 0, length @ ..] = *header else { panic!("bad header {header:?}") };
        let (payload, rest) = rest.split_at(usize::try_from(u32::from_be_bytes(length)).unwrap());
        let text = std::str::from_utf8(payload).unwrap();
        match out.last_mut() {
            Some((last, so_far)) if *last == stream => so_far.push_str(text),
            Some(_) | None => out.push((stream, text.to_owned())),
        }
        frames = rest;
    }
    assert!(frames.is_empty(), "a frame is cut");
    out
}

fn log_text(dir: &tempfile::TempDir) -> String {
    let mut reader = Reader::open(&dir.path().join("log"), Query::default()).unwrap();
    let mut text = String::new();
    while let Some(record) = reader.next().unwrap() {
        assert!(record.at <= Timestamp::now());
        let Content::Bytes { stream, bytes } = record.content else { panic!("a loss") };
        assert!(matches!(stream, Stream::Output | Stream::Error));
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    text
}

/// Writes so much that no buffer on the way can hold it, and returns it.
fn write_much(file: File) -> std::thread::JoinHandle<String> {
    write_lines(file, 200_000)
}

fn write_lines(mut file: File, lines: u32) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let text: String = (0..lines).map(|number| format!("line {number}\n")).collect();
        file.write_all(text.as_bytes()).unwrap();
        text
    })
}

#[tokio::test]
async fn output_goes_to_the_log_and_to_everybody_attached() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, mut child) = open(&logged(&dir));
    let (first, second) = (attach(&keeper).await, attach(&keeper).await);
    child.stdout.write_all(b"out\n").unwrap();
    tokio::time::sleep(SHORT).await;
    child.stderr.write_all(b"err\n").unwrap();
    drop(child);
    keeper.finish().await;
    keeper.finish().await;
    let want = [(1, "out\n".to_owned()), (2, "err\n".to_owned())];
    assert_eq!(unframe(&read_all(first).await), want);
    assert_eq!(unframe(&read_all(second).await), want);
    assert_eq!(log_text(&dir), "out\nerr\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_attaches_late_gets_what_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, mut child) = open(&logged(&dir));
    child.stdout.write_all(b"early\n").unwrap();
    while log_text(&dir).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let late = attach(&keeper).await;
    child.stdout.write_all(b"late\n").unwrap();
    keeper.finish().await;
    assert_eq!(unframe(&read_all(late).await), [(1, "late\n".to_owned())]);
    assert_eq!(log_text(&dir), "early\nlate\n");
}

#[tokio::test]
async fn one_who_does_not_read_holds_the_process_back_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, child) = open(&logged(&dir));
    let (slow, fast) = (attach(&keeper).await, attach(&keeper).await);
    let writing = write_much(child.stdout.try_clone().unwrap());
    let fast = tokio::spawn(read_all(fast));
    tokio::time::sleep(2 * SHORT).await;
    assert!(!writing.is_finished(), "the process was not held back");
    let slow = tokio::spawn(read_all(slow));
    let text = tokio::task::spawn_blocking(|| writing.join().unwrap()).await.unwrap();
    drop(child);
    keeper.finish().await;
    for reader in [slow, fast] {
        assert!(unframe(&reader.await.unwrap()) == [(1, text.clone())], "something was lost");
    }
    assert!(log_text(&dir) == text);
}

#[tokio::test]
async fn one_who_has_gone_holds_nobody_back() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, child) = open(&logged(&dir));
    let stalled = attach(&keeper).await;
    let writing = write_much(child.stdout.try_clone().unwrap());
    tokio::time::sleep(SHORT).await;
    drop(stalled);
    let text = tokio::task::spawn_blocking(|| writing.join().unwrap());
    let text = tokio::time::timeout(LONG, text).await.expect("still held back").unwrap();
    keeper.finish().await;
    assert!(log_text(&dir) == text);
}

#[tokio::test]
async fn what_is_unread_at_the_end_is_left_with_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, child) = open(&logged(&dir));
    let slow = attach(&keeper).await;
    let mut file = child.stdout.try_clone().unwrap();
    rustix::io::ioctl_fionbio(&file, true).unwrap();
    let mut text = String::new();
    // Until everything on the way is full.
    for tries in 0..50 {
        let piece = format!("{tries} {}\n", "x".repeat(997));
        while let Ok(count) = file.write(piece.as_bytes()) {
            text.push_str(&piece[..count]);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop((file, child));
    tokio::time::timeout(LONG, keeper.finish()).await.expect("finish waits for nobody");
    drop(keeper);
    tokio::time::sleep(SHORT).await;
    let got = unframe(&read_all(slow).await);
    assert!(got == [(1, text.clone())], "{} of {} bytes", got[0].1.len(), text.len());
    assert!(log_text(&dir) == text);
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_is_neither_waited_for_nor_hurt() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, mut child) = open(&logged(&dir));
    let attached = attach(&keeper).await;
    let mut grandchild = child.stdout.try_clone().unwrap();
    child.stdout.write_all(b"last words\n").unwrap();
    drop(child);
    tokio::time::timeout(LONG, keeper.finish()).await.expect("it waited");
    assert_eq!(unframe(&read_all(attached).await), [(1, "last words\n".to_owned())]);
    assert_eq!(log_text(&dir), "last words\n");
    let pipe = vec![b'x'; 200 << 10];
    let writing = tokio::task::spawn_blocking(move || grandchild.write_all(&pipe));
    tokio::time::timeout(LONG, writing).await.expect("it is stuck").unwrap().unwrap();
    assert_eq!(log_text(&dir), "last words\n", "the log was closed");
    assert!(matches!(
        keeper.attach(OwnedFd::from(File::open("/dev/null").unwrap()).into()).await,
        Err(KeeperError::Ended)
    ));
}

#[tokio::test]
async fn a_grandchild_that_never_stops_writing_does_not_keep_finish() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, child) = open(&logged(&dir));
    let mut grandchild = child.stdout.try_clone().unwrap();
    drop(child);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                grandchild.write_all(&[b'\n'; 4096]).unwrap();
            }
        }
    });
    tokio::time::sleep(SHORT).await;
    tokio::time::timeout(LONG, keeper.finish()).await.expect("it never finishes");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::task::spawn_blocking(|| writing.join().unwrap()).await.unwrap();
}

/// Reads what the process gets until its input ends, or `None` if it stays open.
async fn input_to_end(stdin: File) -> Option<String> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut polled = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
        let mut text = Vec::new();
        let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        loop {
            if rustix::event::poll(&mut polled, Some(&wait)).unwrap() == 0 {
                return None;
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(stdin.as_fd(), &mut buffer).unwrap() {
                0 => break,
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
        Some(String::from_utf8(text).unwrap())
    });
    reading.await.unwrap()
}

#[tokio::test]
async fn input_of_several_arrives_and_ends_with_the_first_half_close() {
    let (keeper, child) = open(&interactive(true));
    let (mut first, mut second) = (attach(&keeper).await, attach(&keeper).await);
    first.write_all(b"one ").await.unwrap();
    tokio::time::sleep(SHORT).await;
    second.write_all(b"two").await.unwrap();
    second.shutdown().await.unwrap();
    assert_eq!(input_to_end(child.stdin).await.as_deref(), Some("one two"));
    // Who half-closed still gets output.
    let mut stdout = child.stdout;
    stdout.write_all(b"result").unwrap();
    keeper.finish().await;
    assert_eq!(unframe(&read_all(second).await), [(1, "result".to_owned())]);
    assert_eq!(unframe(&read_all(first).await), [(1, "result".to_owned())]);
}

#[tokio::test]
async fn input_stays_open_where_it_does_not_end_with_its_writer() {
    let (keeper, child) = open(&interactive(false));
    let mut first = attach(&keeper).await;
    first.write_all(b"one").await.unwrap();
    first.shutdown().await.unwrap();
    assert_eq!(input_to_end(child.stdin.try_clone().unwrap()).await, None);
    drop(keeper);
    assert_eq!(input_to_end(child.stdin).await.as_deref(), Some(""));
}

#[tokio::test]
async fn a_spectator_who_leaves_ends_nothing_but_a_writer_who_leaves_does() {
    let (keeper, child) = open(&interactive(true));
    let first = attach(&keeper).await;
    let (spectator, mut writer) = (attach(&keeper).await, attach(&keeper).await);
    drop(spectator);
    assert_eq!(input_to_end(child.stdin.try_clone().unwrap()).await, None);
    writer.write_all(b"bye").await.unwrap();
    drop(writer);
    assert_eq!(input_to_end(child.stdin).await.as_deref(), Some("bye"));
    drop(first);
}

#[tokio::test]
async fn who_gives_no_input_does_not_own_it_and_the_first_who_does_owns_it() {
    let (keeper, child) = open(&interactive(true));
    let mut spectator = watch(&keeper).await;
    let owner = attach(&keeper).await;
    // What comes from it is thrown away, and neither its end nor its leaving is an end of input.
    spectator.write_all(&[b'x'; 100_000]).await.unwrap();
    spectator.shutdown().await.unwrap();
    assert_eq!(input_to_end(child.stdin.try_clone().unwrap()).await, None);
    drop(spectator);
    drop(watch(&keeper).await);
    assert_eq!(input_to_end(child.stdin.try_clone().unwrap()).await, None);
    drop(owner);
    assert_eq!(input_to_end(child.stdin).await.as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_divides_the_log_from_what_comes_over_the_socket() {
    use crate::log::Form;

    let json = LogDriver::Json { attributes: Vec::new(), compress: false };
    for (driver, form) in [(LogDriver::Local, Form::Local), (json, Form::Json)] {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = logged(&dir);
        spec.log.as_mut().unwrap().driver = driver;
        let (keeper, child) = open(&spec);
        let writing = write_lines(child.stdout.try_clone().unwrap(), 40_000);
        let mut readers = Vec::new();
        for _ in 0..8 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let socket = OwnedFd::from(theirs.into_std().unwrap());
            let attachment = Attachment { socket, input: false, mark: true };
            let mark = keeper.attach(attachment).await.unwrap();
            readers.push((mark, tokio::spawn(read_all(ours))));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let text = tokio::task::spawn_blocking(|| writing.join().unwrap()).await.unwrap();
        drop(child);
        keeper.finish().await;
        for (mark, reader) in readers {
            let query = Query { until: mark, ..Query::default() };
            let mut log = Reader::open_as(&dir.path().join("log"), form, query).unwrap();
            let mut said = String::new();
            while let Some(record) = log.next().unwrap() {
                let Content::Bytes { bytes, .. } = record.content else { panic!("a loss") };
                said.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            let past = said.len();
            unframe(&reader.await.unwrap()).iter().for_each(|(_, live)| said.push_str(live));
            assert!(said == text, "{form:?}: {past} bytes before the mark, {} in all", said.len());
        }
    }
}

#[tokio::test]
async fn a_process_without_input_reads_it_as_empty_and_what_is_typed_is_thrown_away() {
    let (keeper, mut child) = open(&StreamSpec::default());
    let mut attached = attach(&keeper).await;
    let typed = vec![b'x'; 1 << 20];
    tokio::time::timeout(LONG, attached.write_all(&typed)).await.expect("nobody reads").unwrap();
    let mut text = String::new();
    assert_eq!(child.stdin.read_to_string(&mut text).unwrap(), 0);
}

#[tokio::test]
async fn input_that_the_process_does_not_read_is_held_back_and_not_lost() {
    let (keeper, mut child) = open(&interactive(true));
    let mut attached = attach(&keeper).await;
    let text = "0123456789".repeat(200_000);
    let typing = tokio::spawn({
        let text = text.clone();
        async move {
            attached.write_all(text.as_bytes()).await.unwrap();
            attached.shutdown().await.unwrap();
            attached
        }
    });
    tokio::time::sleep(SHORT).await;
    assert!(!typing.is_finished(), "nothing bounds what waits");
    let reading = tokio::task::spawn_blocking(move || {
        let mut got = String::new();
        child.stdin.read_to_string(&mut got).unwrap();
        got
    });
    assert!(tokio::time::timeout(LONG, reading).await.unwrap().unwrap() == text);
    drop(typing.await);
}

#[tokio::test]
async fn a_process_that_closes_its_input_goes_on() {
    let (keeper, child) = open(&interactive(false));
    let Child { stdin, mut stdout, .. } = child;
    let mut attached = attach(&keeper).await;
    drop(stdin);
    let typed = vec![b'x'; 1 << 20];
    tokio::time::timeout(LONG, attached.write_all(&typed)).await.expect("stuck").unwrap();
    stdout.write_all(b"still here").unwrap();
    keeper.finish().await;
    assert_eq!(unframe(&read_all(attached).await), [(1, "still here".to_owned())]);
}

#[tokio::test]
async fn a_terminal_is_raw_both_ways_and_ends_with_its_last_user() {
    let dir = tempfile::tempdir().unwrap();
    let spec = StreamSpec { terminal: true, ..logged(&dir) };
    let spec = StreamSpec { stdin: true, stdin_once: true, ..spec };
    let (keeper, streams) = Keeper::open(&spec).unwrap();
    assert!(matches!(streams, ChildStreams::Terminal));
    let mut attached = attach(&keeper).await;
    attached.write_all(b"typed before there was a terminal\n").await.unwrap();
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let mut slave: File = rustix::fs::open(
        &name,
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
        rustix::fs::Mode::empty(),
    )
    .unwrap()
    .into();
    keeper.terminal(master).await.unwrap();
    let mut slave2 = slave.try_clone().unwrap();
    let line = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 100];
        let count = slave2.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    });
    let line = tokio::time::timeout(LONG, line).await.unwrap().unwrap();
    assert_eq!(line, "typed before there was a terminal\n");
    attached.shutdown().await.unwrap();
    slave.write_all(b"answer\n").unwrap();
    drop(slave);
    keeper.finish().await;
    let output = String::from_utf8(read_all(attached).await).unwrap();
    assert_eq!(output, "typed before there was a terminal\r\nanswer\r\n");
    assert_eq!(log_text(&dir), output);
}

#[tokio::test]
async fn only_stream_sockets_are_attached_and_only_so_many() {
    let (keeper, _child) = open(&StreamSpec::default());
    let null = File::open("/dev/null").unwrap();
    assert!(matches!(
        keeper.attach(OwnedFd::from(null).into()).await,
        Err(KeeperError::NotASocket)
    ));
    let (datagram, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(matches!(
        keeper.attach(OwnedFd::from(datagram).into()).await,
        Err(KeeperError::NotASocket)
    ));
    let mut attached = Vec::new();
    for _ in 0..ATTACHED_MAX {
        attached.push(attach(&keeper).await);
    }
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(keeper.attach(OwnedFd::from(theirs).into()).await, Err(KeeperError::Full)));
    // Those who have gone make room, although nothing was written that would have told.
    for one in &mut attached {
        one.shutdown().await.unwrap();
    }
    tokio::time::sleep(SHORT).await;
    attached.clear();
    attach(&keeper).await;
}

#[tokio::test]
async fn a_dropped_keeper_leaves_no_descriptor() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let dir = tempfile::tempdir().unwrap();
    let before = count();
    let (keeper, child) = open(&StreamSpec { stdin: true, ..logged(&dir) });
    let attached = attach(&keeper).await;
    drop((keeper, child, attached));
    tokio::task::yield_now().await;
    assert_eq!(count(), before);
}

#[tokio::test]
async fn input_ends_with_the_first_one_attached_even_if_they_wrote_nothing() {
    let (keeper, mut child) = open(&interactive(true));
    let first = attach(&keeper).await;
    let onlooker = attach(&keeper).await;
    drop(onlooker);
    drop(first);
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        child.stdin.read_to_string(&mut text).unwrap();
        text
    });
    let text = tokio::time::timeout(LONG, read).await.expect("the input stays open").unwrap();
    assert_eq!(text, "");
}

#[tokio::test]
async fn input_does_not_end_with_a_stream_that_was_cut() {
    let (keeper, mut child) = open(&interactive(true));
    // A socket that is not connected answers like one whose transport was reset.
    let cut = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    );
    keeper.attach(cut.unwrap().into()).await.unwrap();
    let mut next = attach(&keeper).await;
    next.write_all(b"goes on\n").await.unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = [0; 8];
        child.stdin.read_exact(&mut line).map(|()| line)
    });
    let read = tokio::time::timeout(LONG, reading).await.expect("input arrives");
    assert_eq!(&read.unwrap().expect("input has not ended"), b"goes on\n");
}
