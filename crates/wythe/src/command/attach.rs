//! `attach`: join the streams of a container that runs.

use std::os::fd::AsFd as _;

use api::Socket;
use engine::ContainerState;

use super::run::exit_again;
use crate::{
    connect::Endpoint,
    error::CliError,
    session::{Control, DetachKeys, Plan, Session, Target},
};

/// How a session is left, and what becomes of signals.
#[derive(Debug, clap::Args)]
pub(super) struct SessionFlags {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "ctrl-p,ctrl-q")]
    pub(super) detach_keys: DetachKeys,
    /// Proxy received signals to the process
    #[arg(long, value_name = "bool", default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) sig_proxy: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionFlags,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let container = client.inspect(&self.container).await?;
        let refuse = |what: &str| Err(CliError::Usage(what.to_owned()));
        match container.state.state {
            ContainerState::Running => {}
            ContainerState::Paused => {
                return refuse("you cannot attach to a paused container, unpause it first");
            }
            ContainerState::Restarting => {
                return refuse(
                    "you cannot attach to a restarting container, wait until it is running",
                );
            }
            ContainerState::Created
            | ContainerState::Exited
            | ContainerState::Removing
            | ContainerState::Dead => {
                return refuse("you cannot attach to a stopped container, start it first");
            }
        }
        let stdin = container.config.stdin && !self.no_stdin;
        let (session, theirs) = Session::open(Plan {
            terminal: container.config.terminal,
            stdin,
            stdout: true,
            stderr: true,
            detach: self.session.detach_keys,
            signals: self.session.sig_proxy,
        })?;
        let id = container.id.as_str();
        client.attach(id, Socket { fd: theirs.as_fd(), input: stdin }).await?;
        drop(theirs);
        let control = Control::new(to, Target::Container(id.to_owned()));
        Ok(session.run(control, client.exit(), exit_again(to, id)).await?.code())
    }
}
