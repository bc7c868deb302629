//! `tag`: one more reference to an image.

use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The further reference
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        to.connect().await?.tag(&self.source, &self.target).await?;
        Ok(0)
    }
}
