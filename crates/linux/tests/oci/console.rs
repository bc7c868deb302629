//! Terminals: handed to a console socket, and relayed to our own.

use std::{
    fs::File,
    io::{IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::Stdio,
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::bundle::{Bundle, said};

/// The terminal that arrives at a console socket.
fn receive(listener: &UnixListener) -> File {
    let (connection, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut slices = [IoSliceMut::new(&mut name)];
    let got = recvmsg(&connection, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert!(got.bytes > 0, "runc's callers want at least one byte");
    let fds = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message { fds.next() } else { None }
    });
    File::from(fds.expect("a descriptor comes along"))
}

/// Reads until this text was read.
fn read_until(terminal: &mut File, wanted: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 256];
    while !text.contains(wanted) {
        match terminal.read(&mut bytes) {
            Ok(count) if count > 0 => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text
}

fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    unlockpt(&master).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (File::from(master), slave)
}

#[test]
fn a_console_socket_receives_the_terminal() {
    let Some(bundle) = Bundle::new("read line; echo \"got $line at $(tty)\"; stty size") else {
        return;
    };
    bundle.change(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = serde_json::json!({"height": 33, "width": 77});
    });
    let without = bundle.oci(["create", "box"]);
    assert!(without.stderr.contains("without setting console socket"), "{without:?}");
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    assert_eq!(
        bundle.oci(["create", "--console-socket", &bundle.text("console"), "box"]),
        said(0, "")
    );
    let mut terminal = receive(&listener);
    assert_eq!(bundle.oci(["start", "box"]), said(0, ""));
    terminal.write_all(b"word\n").unwrap();
    let text = read_until(&mut terminal, "33 77");
    assert!(text.contains("got word at /dev/pts/0"), "{text}");
    bundle.await_status("stopped");
    bundle.delete();
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    let socket = bundle.text("console");
    let flags = ["exec", "-t", "-d", "--console-socket", &socket, "box", "sh", "-c", "tty; read x"];
    assert_eq!(bundle.oci(flags), said(0, ""));
    let mut terminal = receive(&listener);
    assert!(read_until(&mut terminal, "/dev/pts/0").contains("/dev/pts/0"));
    bundle.delete();
}

#[test]
fn a_foreground_run_relays_its_terminal_and_its_size() {
    let Some(bundle) = Bundle::new("stty size; read line; echo \"got $line\"; exit 6") else {
        return;
    };
    bundle.change(|config| config["process"]["terminal"] = true.into());
    let (mut master, slave) = terminal();
    let size = Winsize { ws_row: 41, ws_col: 91, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).unwrap();
    let stream = || Stdio::from(slave.try_clone().unwrap());
    let mut command = bundle.command(["run", "box"]);
    let mut run = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    read_until(&mut master, "41 91");
    master.write_all(b"word\r").unwrap();
    let text = read_until(&mut master, "got word");
    // Our own terminal passes bytes on as they are; the container's echoes them once.
    assert_eq!(text.matches("word").count(), 2, "{text:?}");
    assert_eq!(run.wait().unwrap().code(), Some(6));
    bundle.delete();
}
