//! The socket the daemon serves: one that a service manager handed over, or its own.
//!
//! Source: sd_listen_fds(3).

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;

use crate::error::CliError;

/// The first descriptor that a service manager hands over.
const FIRST: i32 = 3;

/// The group whose members may use the daemon, where the host has it.
const GROUP: &str = "wythe";

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    /// Where it is, if it is ours to remove.
    path: Option<PathBuf>,
}

/// Opens the socket.
pub(super) fn open(path: &Path) -> Result<Listener, CliError> {
    if handed_over() {
        let failed = |error| CliError::io("use the socket that was handed over", error);
        let socket = UnixListener::from(sys::process::inherited(FIRST).map_err(failed)?);
        return Ok(Listener { socket, path: None });
    }
    own(path)
}

/// Makes a socket of the daemon's own.
pub(super) fn own(path: &Path) -> Result<Listener, CliError> {
    // Nobody gets in before the socket has its mode.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // An ordinary user's daemon is nobody else's.
    let shared = !sys::userns::is_confined();
    let groups = shared.then(|| fs::read_to_string("/etc/group").unwrap_or_default());
    let socket = api::listen(path, groups.and_then(|groups| group(&groups, GROUP)));
    rustix::process::umask(before);
    let socket =
        socket.map_err(|error| CliError::io(format!("listen at {}", path.display()), error))?;
    Ok(Listener { socket, path: Some(path.to_owned()) })
}

impl Listener {
    /// The socket, for an event loop.
    pub(super) fn socket(&self) -> Result<UnixListener, CliError> {
        let failed = |error| CliError::io("use the socket", error);
        let socket = self.socket.try_clone().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// Takes the socket out of the file system, so that the next client finds nobody at once.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a service manager handed a socket over to this very process.
fn handed_over() -> bool {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_PID") == Some(std::process::id())
        && number("LISTEN_FDS").is_some_and(|count| count > 0)
}

/// A group's number, of group(5).
fn group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_name() {
        let groups = "root:x:0:\nwythes:x:8:\nwythe:x:990:me,you\n";
        assert_eq!(group(groups, "wythe"), Some(990));
        assert_eq!(group(groups, "docker"), None);
        assert_eq!(group("wythe:x\n", "wythe"), None);
    }
}
