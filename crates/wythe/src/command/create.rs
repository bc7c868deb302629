//! `create`: a container that does not run yet.

use crate::{
    connect::Endpoint,
    create::{Flags, Host},
    error::CliError,
    output,
};

use super::run::{Cidfile, warn};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", hide = true)]
    attach: Vec<String>,
}

impl Args {
    pub(super) async fn run(self: Box<Self>, to: &Endpoint) -> Result<u8, CliError> {
        let cidfile = Cidfile::open(self.flags.cidfile.as_deref())?;
        let mut create = self.flags.request(&Host)?;
        create.stdin_once = create.stdin;
        let created = to.connect().await?.create(create).await?;
        warn(&created.warnings);
        cidfile.write(&created.id)?;
        output::line(created.id.as_str())?;
        Ok(0)
    }
}
