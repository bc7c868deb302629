//! `system …`: the daemon as a whole.

use base::clock::Timestamp;
use clap::Subcommand;
use engine::{LabelCondition, Prune, VolumeLabel, VolumePrune};

use super::{
    df, events, info,
    prune::{self, Common},
};
use crate::{connect::Endpoint, error::CliError};

/// What can be asked about the whole.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show disk usage
    Df(df::Args),
    /// Get real time events from the server
    Events(events::Args),
    /// Display system-wide information
    Info(info::Args),
    /// Remove unused data
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    common: Common,
}

impl SystemCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            SystemCommand::Df(args) => args.run(to).await,
            SystemCommand::Events(args) => args.run(to).await,
            SystemCommand::Info(args) => args.run(to).await,
            SystemCommand::Prune(args) => args.run(to).await,
        }
    }
}

impl PruneArgs {
    async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let prune = prune::conditions(&self.common.filter, Timestamp::now(), false)?;
        if self.volumes && prune.until.is_some() {
            let why = "the \"until\" filter is not supported with \"--volumes\"";
            return Err(CliError::Usage(why.to_owned()));
        }
        if !self.common.agreed(&self.warning())? {
            return Ok(0);
        }
        let mut client = to.connect().await?;
        // Containers first: what they hold is unused then.
        let containers = client.prune_containers(prune.clone()).await?;
        prune::tell_containers(&containers)?;
        let mut bytes = containers.bytes;
        if self.volumes {
            let volumes = client.volume_prune(volumes(&prune)).await?;
            prune::tell_volumes(&volumes)?;
            bytes += volumes.bytes;
        }
        let images = client.prune_images(Prune { all: self.all, ..prune }).await?;
        prune::tell_images(&images)?;
        prune::tell_total(bytes + images.bytes)
    }

    fn warning(&self) -> String {
        let images = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let volumes = match self.volumes {
            true => "  - all anonymous volumes not used by at least one container\n",
            false => "",
        };
        let mut text = format!(
            "WARNING! This will remove:\n  - all stopped containers\n{volumes}  - {images}\n"
        );
        if !self.common.filter.is_empty() {
            text += "\n  Items to be pruned will be filtered with:\n";
            for filter in &self.common.filter {
                text += &format!("  - {filter}\n");
            }
        }
        text + "\n"
    }
}

/// The same conditions for volumes without a name.
fn volumes(prune: &Prune) -> VolumePrune {
    let label = |condition: &LabelCondition, absent| VolumeLabel {
        name: condition.key.clone(),
        value: condition.value.clone(),
        absent,
    };
    let with = prune.with.iter().map(|condition| label(condition, false));
    let without = prune.without.iter().map(|condition| label(condition, true));
    VolumePrune { all: false, labels: with.chain(without).collect() }
}
