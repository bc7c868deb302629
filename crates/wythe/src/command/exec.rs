//! `exec`: a further process in a container that runs.

use std::os::fd::AsFd as _;

use engine::ExecCreate;

use crate::{
    connect::Endpoint,
    create::{EnvFlags, Host},
    error::CliError,
    session::{Control, DetachKeys, Plan, Session, Target},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    #[command(flatten)]
    env: EnvFlags,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// Container, command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true,
          value_name = "CONTAINER")]
    container_and_command: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut words = self.container_and_command.into_iter();
        let who = words.next().unwrap_or_default();
        let (session, theirs) = Session::open(Plan {
            terminal: self.tty && !self.detach,
            stdin: self.interactive && !self.detach,
            stdout: true,
            stderr: true,
            detach: self.detach_keys,
            // Docker's API has no signal for an exec: ours act on us alone.
            signals: false,
        })?;
        let exec = ExecCreate {
            command: words.collect(),
            env: self.env.resolve(&Host)?,
            working_dir: self.workdir,
            user: self.user,
            terminal: self.tty.then(|| session.size().unwrap_or_default()),
            stdin: self.interactive && !self.detach,
            privileged: self.privileged,
        };
        let mut client = to.connect().await?;
        if self.detach {
            client.exec(&who, exec, None).await?;
            return Ok(0);
        }
        let id = client.exec(&who, exec, Some(theirs.as_fd())).await?;
        drop(theirs);
        let control = Control::new(to, Target::Exec(id.clone()));
        let again = async { Ok(to.connect().await?.exec_wait(&id).await?) };
        Ok(session.run(control, client.exec_wait(&id), again).await?.code())
    }
}
