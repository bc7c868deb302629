//! `push`: an image to a registry.

use engine::TransferRequest;

use super::pull::reference;
use crate::{
    connect::Endpoint,
    docker_config,
    error::CliError,
    output::{self, transfer::Transfers},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// Do not ask the registry to prove who it is: plain HTTP, or any certificate
    #[arg(long)]
    insecure: bool,
    /// Skip image signing
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Image to push
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let name = reference(&self.name)?;
        if name.tag().is_none() && !self.all_tags && !self.quiet {
            output::line("Using default tag: latest")?;
        }
        let request = TransferRequest {
            reference: self.name,
            platform: self.platform.map(|platform| platform.to_string()),
            credentials: docker_config::credentials(name.domain())?,
            all_tags: self.all_tags,
            insecure: self.insecure,
        };
        let mut transfers = Transfers::to_stdout(self.quiet);
        let pushed = to.connect().await?.push(request, |event| transfers.show(&event)).await;
        drop(transfers);
        pushed?;
        if self.quiet {
            output::line(&name.or_latest().to_string())?;
        }
        Ok(0)
    }
}
