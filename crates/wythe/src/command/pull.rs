//! `pull`: an image from a registry; and images that `run` and `create` find missing.

use base::{ErrorKind, Reference};
use engine::{Create, TransferRequest};

use crate::{
    connect::Endpoint,
    create::PullPolicy,
    docker_config,
    error::{CliError, chain},
    output::{self, transfer::Transfers},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// Do not ask the registry to prove who it is: plain HTTP, or any certificate
    #[arg(long)]
    insecure: bool,
    /// Skip image verification
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Image to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let name = reference(&self.name)?;
        let bare = name.tag().is_none() && name.digest().is_none();
        if bare && !self.all_tags && !self.quiet {
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
        let pulled = to.connect().await?.pull(request, |event| transfers.show(&event)).await;
        drop(transfers);
        for image in pulled? {
            output::line(&image.reference)?;
        }
        Ok(0)
    }
}

/// Reads a name.
pub(super) fn reference(text: &str) -> Result<Reference, CliError> {
    text.parse().map_err(|error: base::reference::ReferenceError| CliError::Usage(chain(&error)))
}

/// Does what needs an image, which is pulled before or if it turns out to be missing.
pub(super) async fn with_image<T>(
    to: &Endpoint,
    (policy, quiet): (PullPolicy, bool),
    create: &Create,
    act: impl AsyncFn() -> Result<T, CliError>,
) -> Result<T, CliError> {
    if policy == PullPolicy::Always {
        fetch(to, create, quiet).await?;
        return act().await;
    }
    let missing = match act().await {
        Err(CliError::Daemon(failure))
            if policy == PullPolicy::Missing
                && failure.kind == ErrorKind::NotFound
                && failure.message.starts_with("No such image") =>
        {
            failure
        }
        done => return done,
    };
    let Ok(name) = create.image.parse::<Reference>() else { return Err(CliError::Daemon(missing)) };
    if !quiet {
        let name = name.or_latest().familiar();
        output::complain(&format!("Unable to find image '{name}' locally"));
    }
    match fetch(to, create, quiet).await {
        Err(CliError::Daemon(mut failure)) => {
            // What is here and much like it is the likelier answer.
            failure.hints.push(missing.message);
            Err(CliError::Daemon(failure))
        }
        Err(error) => Err(error),
        Ok(()) => act().await,
    }
}

async fn fetch(to: &Endpoint, create: &Create, quiet: bool) -> Result<(), CliError> {
    let name = reference(&create.image)?;
    let request = TransferRequest {
        reference: create.image.clone(),
        platform: create.platform.clone(),
        credentials: docker_config::credentials(name.domain())?,
        ..TransferRequest::default()
    };
    let mut transfers = Transfers::to_stderr(quiet);
    to.connect().await?.pull(request, |event| transfers.show(&event)).await?;
    Ok(())
}
