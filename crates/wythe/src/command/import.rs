//! `import`: an image from the archive of a root file system.

use std::path::Path;

use engine::Import;

use super::load::source;
use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, progress::Bar},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// The image's reference, as the argument after the file
    #[arg(long, value_name = "string", conflicts_with = "reference")]
    name: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// The archive, or - for standard input
    #[arg(value_name = "file|-")]
    file: String,
    /// The image's reference
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        if self.file.starts_with("http://") || self.file.starts_with("https://") {
            let why = "importing from a URL is not built yet: fetch it and import the file";
            return Err(CliError::Unbuilt(why.to_owned()));
        }
        let from = source((self.file != "-").then(|| Path::new(&self.file)))?;
        let import = Import {
            reference: self.name.or(self.reference),
            changes: self.change,
            message: self.message,
            platform: self.platform,
        };
        let mut client = to.connect().await?;
        let bar = Bar::new(false, &from);
        let id = client.import(import, from, |progress| bar.show(progress)).await?;
        drop(bar);
        output::line(&id)?;
        Ok(0)
    }
}
