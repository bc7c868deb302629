//! `create`: a container that does not run yet.

use crate::{
    connect::Endpoint,
    create::{Flags, Host},
    error::CliError,
    output,
};

use super::{
    kernel,
    pull::with_image,
    run::{Cidfile, warn},
};

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
        let policy = self.flags.pull()?;
        let mut create = self.flags.request(&Host)?;
        kernel::needed(to, &create, policy.1).await?;
        create.stdin_once = create.stdin;
        let made = async || Ok(to.connect().await?.create(create.clone()).await?);
        let created = with_image(to, policy, &create, made).await?;
        warn(&created.warnings);
        cidfile.write(&created.id)?;
        output::line(created.id.as_str())?;
        Ok(0)
    }
}
