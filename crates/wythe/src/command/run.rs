//! `run`: make a container, start it, and stay with it unless told otherwise.

use std::{
    fs::File,
    io::Write as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use base::ContainerId;
use engine::WaitFor;

use super::{attach::SessionFlags, kernel, pull::with_image};
use crate::{
    connect::Endpoint,
    create::{Flags, Host},
    error::CliError,
    output::{self, style},
    session::{Control, Plan, Session, Target},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    session: SessionFlags,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", ignore_case = true,
          value_parser = ["stdin", "stdout", "stderr"])]
    attach: Vec<String>,
}

impl Args {
    pub(super) async fn run(self: Box<Self>, to: &Endpoint) -> Result<u8, CliError> {
        if self.detach && !self.attach.is_empty() {
            return Err(CliError::Usage("conflicting options: -a and -d".to_owned()));
        }
        let plan = self.plan();
        let cidfile = Cidfile::open(self.flags.cidfile.as_deref())?;
        let policy = self.flags.pull()?;
        let mut create = self.flags.request(&Host)?;
        kernel::needed(to, &create, policy.1).await?;
        create.stdin_once = plan.stdin && !self.detach;
        if self.detach {
            let run =
                async || Ok(to.connect().await?.run(create.clone(), None, None, false).await?);
            let created = with_image(to, policy, &create, run).await?;
            warn(&created.warnings);
            cidfile.write(&created.id)?;
            output::line(created.id.as_str())?;
            return Ok(0);
        }
        let (session, theirs) = Session::open(plan)?;
        let size = session.size();
        let run = async || {
            let mut client = to.connect().await?;
            let created = client.run(create.clone(), Some(theirs.as_fd()), size, true).await?;
            Ok((client, created))
        };
        let (mut client, created) = with_image(to, policy, &create, run).await?;
        drop(theirs);
        warn(&created.warnings);
        cidfile.write(&created.id)?;
        let id = created.id.as_str();
        let control = Control::new(to, Target::Container(id.to_owned()));
        Ok(session.run(control, client.exit(), exit_again(to, id)).await?.code())
    }

    fn plan(&self) -> Plan {
        let (terminal, interactive) = self.flags.terminal_and_stdin();
        let named = |stream: &str| self.attach.iter().any(|a| a.eq_ignore_ascii_case(stream));
        let all = self.attach.is_empty();
        Plan {
            terminal,
            stdin: interactive && (all || named("stdin")),
            stdout: all || named("stdout"),
            stderr: all || named("stderr"),
            detach: self.session.detach_keys.clone(),
            signals: self.session.sig_proxy,
        }
    }
}

/// Asks once more how a container ended, of a daemon that may have to be started first.
pub(super) async fn exit_again(to: &Endpoint, id: &str) -> Result<workload::Exit, CliError> {
    Ok(to.connect().await?.wait(id, WaitFor::NotRunning).await?)
}

/// Tells what was asked and is not so.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        output::complain(&format!("{} {warning}", style::warning("WARNING:")));
    }
}

/// The file that takes the container's id: made before anything else, so that two do not share it,
/// and removed again if nothing came of it.
#[derive(Debug)]
pub(super) struct Cidfile(Option<(PathBuf, File)>);

impl Cidfile {
    /// Makes the file.
    pub(super) fn open(path: Option<&Path>) -> Result<Cidfile, CliError> {
        let Some(path) = path else { return Ok(Cidfile(None)) };
        match File::create_new(path) {
            Ok(file) => Ok(Cidfile(Some((path.to_owned(), file)))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let path = path.display();
                Err(CliError::Usage(format!(
                    "container ID file found, make sure the other container isn't running or \
                     delete {path}"
                )))
            }
            Err(error) => Err(CliError::io(format!("create {}", path.display()), error)),
        }
    }

    /// Writes the id.
    pub(super) fn write(mut self, id: &ContainerId) -> Result<(), CliError> {
        let Some((path, mut file)) = self.0.take() else { return Ok(()) };
        file.write_all(id.as_str().as_bytes())
            .map_err(|error| CliError::io(format!("write {}", path.display()), error))
    }
}

impl Drop for Cidfile {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
