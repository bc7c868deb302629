//! `rmi`: remove references and images.

use engine::{Change, RemoveImage};

use super::each::each;
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long, hide = true)]
    no_prune: bool,
    /// Remove only the given platform variants. Formatted as "os[/arch[/variant]]" (e.g.,
    /// "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<image::Platform>,
    /// Which images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let remove = RemoveImage {
            force: self.force,
            platforms: self.platform.iter().map(ToString::to_string).collect(),
        };
        each(to, &self.images, async |client, name| {
            let changes = client.remove_image(name, remove.clone()).await?;
            let lines: Vec<String> = changes.iter().map(line).collect();
            Ok(lines.join("\n"))
        })
        .await
    }
}

/// What happened, in Docker's words.
pub(super) fn line(change: &Change) -> String {
    match change {
        Change::Untagged(name) => format!("Untagged: {}", crate::show::familiar(name)),
        Change::Deleted(id) => format!("Deleted: {id}"),
        Change::Loaded(name) if name.starts_with("sha256:") => format!("Loaded image ID: {name}"),
        Change::Loaded(name) => format!("Loaded image: {}", crate::show::familiar(name)),
    }
}
