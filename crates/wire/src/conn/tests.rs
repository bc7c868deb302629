//! Frames over a real socket pair.

use std::{io::Write as _, os::fd::AsRawFd as _, time::Duration};

use rustix::fs::fstat;

use super::*;
use crate::{FDS_MAX, blocking};

fn pair() -> (Conn, Conn) {
    let (left, right) = UnixStream::pair().unwrap();
    (Conn::new(left), Conn::new(right))
}

fn half_raw() -> (Conn, std::os::unix::net::UnixStream) {
    let (left, right) = UnixStream::pair().unwrap();
    let right = right.into_std().unwrap();
    right.set_nonblocking(false).unwrap();
    (Conn::new(left), right)
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn a_message_and_its_descriptors_arrive() {
    let (mut left, mut right) = pair();
    let file = tempfile::tempfile().unwrap();
    left.send("first", &[file.as_fd()]).await.unwrap();
    left.send("second", &[]).await.unwrap();
    let (text, fds) = right.recv::<String>().await.unwrap().unwrap();
    assert_eq!((text.as_str(), fds.len()), ("first", 1));
    assert_eq!(fstat(&fds[0]).unwrap().st_ino, fstat(&file).unwrap().st_ino);
    assert!(rustix::io::fcntl_getfd(&fds[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let (text, fds) = right.recv::<String>().await.unwrap().unwrap();
    assert_eq!((text.as_str(), fds.len()), ("second", 0));
    drop(left);
    assert!(right.recv::<String>().await.unwrap().is_none());
}

#[tokio::test]
async fn a_cancelled_recv_keeps_what_has_arrived() {
    let (mut conn, mut raw) = half_raw();
    let frame = encode("whole", 0).unwrap();
    for byte in frame {
        let nothing = tokio::time::timeout(Duration::from_millis(1), conn.recv::<String>()).await;
        assert!(nothing.is_err(), "no frame is whole yet");
        raw.write_all(&[byte]).unwrap();
    }
    assert_eq!(conn.recv::<String>().await.unwrap().unwrap().0, "whole");
}

#[tokio::test]
async fn a_cancelled_send_never_tears_the_stream() {
    let (mut left, mut right) = pair();
    let long = "x".repeat(2 << 20);
    let cut = tokio::time::timeout(Duration::from_millis(20), left.send(&long, &[])).await;
    assert!(cut.is_err(), "2 MiB do not fit into the socket's buffer");
    let (sent, received) = tokio::join!(left.send("next", &[]), async {
        let first = right.recv::<String>().await.unwrap().unwrap().0;
        (first, right.recv::<String>().await.unwrap().unwrap().0)
    });
    sent.unwrap();
    assert_eq!(received, (long, "next".to_owned()));
}

#[tokio::test]
async fn a_stream_cut_within_a_frame_is_an_error_and_leaks_no_descriptor() {
    let (mut conn, raw) = half_raw();
    let null = std::fs::File::open("/dev/null").unwrap();
    socket::send(raw.as_fd(), &[9, 0, 0, 0, b'x'], &[null.as_fd()]).unwrap();
    drop(raw);
    let before = open_descriptors();
    let error = conn.recv::<String>().await.unwrap_err();
    assert!(matches!(error, WireError::Truncated { missing: 8 }), "{error:?}");
    drop(conn);
    assert_eq!(open_descriptors(), before - 1, "only the socket was closed");
}

#[tokio::test]
async fn a_body_that_is_another_message_is_an_error_and_closes_its_descriptors() {
    let (mut left, mut right) = pair();
    let null = std::fs::File::open("/dev/null").unwrap();
    left.send(&[1, 2], &[null.as_fd()]).await.unwrap();
    left.send("good", &[]).await.unwrap();
    let before = open_descriptors();
    assert!(matches!(right.recv::<String>().await, Err(WireError::Json(_))));
    assert_eq!(open_descriptors(), before);
    assert_eq!(right.recv::<String>().await.unwrap().unwrap().0, "good");
}

#[tokio::test]
async fn more_descriptors_than_allowed_are_refused_and_closed() {
    let (mut conn, raw) = half_raw();
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = vec![null.as_fd(); FDS_MAX + 1];
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&many)));
    let frame = encode("x", 0).unwrap();
    let flags = rustix::net::SendFlags::NOSIGNAL;
    rustix::net::sendmsg(&raw, &[io::IoSlice::new(&frame)], &mut control, flags).unwrap();
    let before = open_descriptors();
    assert!(matches!(conn.recv::<String>().await, Err(WireError::DescriptorsLost)));
    assert_eq!(open_descriptors(), before);
    assert!(conn.send("x", &many).await.is_err(), "too many to send");
}

#[tokio::test]
async fn blocking_and_async_sides_understand_each_other() {
    let (mut conn, raw) = half_raw();
    let null = std::fs::File::open("/dev/null").unwrap();
    blocking::send(&raw, &Some(7), &[null.as_fd()]).unwrap();
    let (message, fds) = conn.recv::<Option<i32>>().await.unwrap().unwrap();
    assert_eq!((message, fds.len()), (Some(7), 1));
    conn.send(&Some(8), &[fds[0].as_fd()]).await.unwrap();
    let (message, fds) = blocking::recv::<Option<i32>>(&raw).unwrap().unwrap();
    assert_eq!((message, fds.len()), (Some(8), 1));
    let stream = conn.into_stream();
    assert!(stream.as_raw_fd() >= 0);
    drop(stream);
    assert!(blocking::recv::<Option<i32>>(&raw).unwrap().is_none());
}
