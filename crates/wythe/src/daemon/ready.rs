//! The word that the daemon serves: to a service manager, and to the command line that started it.
//!
//! Source: sd_notify(3).

use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr, unix::net::UnixDatagram};

use tracing::warn;

use crate::output;

/// Whom to tell.
#[derive(Debug)]
pub(super) struct Ready {
    /// Somebody waits for a line on standard output.
    waited_for: bool,
}

impl Ready {
    pub(super) fn new(waited_for: bool) -> Ready {
        Ready { waited_for }
    }

    /// Tells them.
    pub(super) fn tell(self) {
        serving();
        if self.waited_for {
            let _ = output::line("ready");
            // Whoever waits reads to the end, so the end has to come.
            if let Ok(null) = std::fs::File::open("/dev/null") {
                let _ = rustix::stdio::dup2_stdout(null);
            }
        }
    }
}

/// Tells a service manager that this process serves.
pub(crate) fn serving() {
    notify("READY=1");
}

/// Tells a service manager that this process is on its way out.
pub(crate) fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.as_encoded_bytes();
    let sent = (|| {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(String::from_utf8_lossy(name).as_ref())?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = sent {
        warn!(%error, "the service manager cannot be told");
    }
}
