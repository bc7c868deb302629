//! `start`: start containers that were made or have ended.

use std::os::fd::AsFd as _;

use api::Socket;

use super::{attach::SessionFlags, each::each, run::exit_again};
use crate::{
    connect::Endpoint,
    error::CliError,
    session::{Control, Plan, Session, Target},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionFlags,
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        if !self.attach && !self.interactive {
            return each(to, &self.containers, async |client, name| {
                client.start(name, None, None, false).await?;
                Ok(name.to_owned())
            })
            .await;
        }
        let [name] = self.containers.as_slice() else {
            let why = "you cannot start and attach multiple containers at once";
            return Err(CliError::Usage(why.to_owned()));
        };
        let mut client = to.connect().await?;
        let container = client.inspect(name).await?;
        let stdin = container.config.stdin && self.interactive;
        let (session, theirs) = Session::open(Plan {
            terminal: container.config.terminal,
            stdin,
            stdout: true,
            stderr: true,
            detach: self.session.detach_keys,
            signals: self.session.sig_proxy,
        })?;
        let socket = Socket { fd: theirs.as_fd(), input: stdin };
        let id = container.id.as_str();
        client.start(id, Some(socket), session.size(), true).await?;
        drop(theirs);
        let control = Control::new(to, Target::Container(id.to_owned()));
        Ok(session.run(control, client.exit(), exit_again(to, id)).await?.code())
    }
}
