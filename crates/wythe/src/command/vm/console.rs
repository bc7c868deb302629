//! `vm console`.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use machines::{Machines, State};

use super::{failed, find};
use crate::{
    error::CliError,
    output,
    session::{DetachKeys, Watch, terminal::Raw},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key sequence that leaves the console and lets the machine run on
    #[arg(long, value_name = "string", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    /// Which machine
    #[arg(value_name = "NAME")]
    name: String,
}

impl Args {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        let kept = find(machines, &self.name)?;
        let console = kept.running(machines).console().map_err(|error| failed(&error))?;
        let lost = |error| CliError::io("reach the console", error);
        let typed = console.try_clone().map_err(lost)?;
        let raw = io::stdin().is_terminal().then(Raw::enter).transpose()?;
        type_into(typed, self.detach_keys)?;
        let shown = show(console);
        drop(raw);
        shown?;
        // Whoever left by keys, or whose input has ended, leaves a machine that runs.
        let state = kept.state().map_err(|error| failed(&error))?;
        if let State::Ended(end) = &state
            && !end.how.is_wanted()
        {
            output::complain(&format!(
                "wythe: machine {} ended: {}",
                kept.name,
                end.how.sentence()
            ));
        }
        Ok(0)
    }
}

/// Shows what the machine says until it ends or the console is left.
fn show(mut console: UnixStream) -> Result<(), CliError> {
    let mut said = [0; 4096];
    loop {
        match console.read(&mut said) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let mut screen = io::stdout().lock();
                let shown = screen.write_all(&said[..count]).and_then(|()| screen.flush());
                shown.map_err(output::failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CliError::io("read the console", error)),
        }
    }
}

/// Carries what is typed to the machine, until the keys that leave it.
fn type_into(mut console: UnixStream, keys: DetachKeys) -> Result<(), CliError> {
    let typing = move || {
        let (mut watch, mut typed) = (Watch::new(keys), [0; 256]);
        // Input that has ended is no reason to leave: a machine can be listened to.
        while let Ok(count @ 1..) = io::stdin().read(&mut typed) {
            let (passed, leaves) = watch.pass(&typed[..count]);
            if console.write_all(&passed).is_err() {
                return;
            }
            if leaves {
                // Ends what is shown, too.
                let _ = console.shutdown(Shutdown::Both);
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("keys".to_owned()).spawn(typing);
    thread.map(drop).map_err(|error| CliError::io("start a thread", error))
}
