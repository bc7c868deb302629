//! `volume snapshot`, `snapshots`, `restore` and `clone`.

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::volume::{self, SNAPSHOT_COLUMNS, SNAPSHOT_TABLE},
};

#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// Pause the containers that use the volume meanwhile
    #[arg(long)]
    pause: bool,
    /// Which volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Its name; one is made up where there is none (s1, s2, …)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotsArgs {
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display names
    #[arg(short, long)]
    quiet: bool,
    /// Remove this snapshot (can be given several times)
    #[arg(long, value_name = "SNAPSHOT")]
    rm: Vec<String>,
    /// Which volume
    #[arg(value_name = "VOLUME")]
    volume: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// Which volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// From which snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CloneArgs {
    /// Which volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The name of the new one
    #[arg(value_name = "NEW")]
    new: String,
}

/// Says on standard error how content was copied, where it was not shared.
fn tell(shared: bool) {
    if !shared {
        output::complain("copied, as this file system has no reflinks");
    }
}

impl SnapshotArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let taken = client.volume_snapshot(&self.volume, self.snapshot, self.pause).await?;
        output::line(&taken.name)?;
        tell(taken.shared);
        if !taken.running.is_empty() {
            let ids: Vec<&str> = taken.running.iter().map(base::ContainerId::short).collect();
            output::complain(&format!(
                "taken while {} ran: it is as a power cut would have left it (--pause holds them \
                 still)",
                ids.join(", ")
            ));
        }
        Ok(0)
    }
}

impl SnapshotsArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        for snapshot in &self.rm {
            client.volume_remove_snapshot(&self.volume, snapshot).await?;
            output::line(snapshot)?;
        }
        if !self.rm.is_empty() {
            return Ok(0);
        }
        let snapshots = client.volume_snapshots(&self.volume).await?;
        if self.quiet && self.format.is_none() {
            for snapshot in &snapshots {
                output::line(&snapshot.name)?;
            }
            return Ok(0);
        }
        let rows: Vec<_> = snapshots.iter().map(volume::snapshot_row).collect();
        let format = Format::parse(self.format.as_deref());
        print_list(&format, SNAPSHOT_TABLE, &SNAPSHOT_COLUMNS, &rows)?;
        Ok(0)
    }
}

impl RestoreArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let shared = to.connect().await?.volume_restore(&self.volume, &self.snapshot).await?;
        output::line(&self.volume)?;
        tell(shared);
        Ok(0)
    }
}

impl CloneArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let shared = to.connect().await?.volume_clone(&self.volume, &self.new).await?;
        output::line(&self.new)?;
        tell(shared);
        Ok(0)
    }
}
