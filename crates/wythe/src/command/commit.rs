//! `commit`: an image of a container.

use engine::Commit;

use crate::{connect::Endpoint, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit
    #[arg(
        short,
        long,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        value_name = "bool"
    )]
    pause: bool,
    /// Do not pause the container during commit
    #[arg(long)]
    no_pause: bool,
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's reference
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let commit = Commit {
            reference: self.reference,
            author: self.author,
            message: self.message,
            changes: self.change,
            no_pause: self.no_pause || !self.pause,
        };
        let mut client = to.connect().await?;
        let id = client.commit(&self.container, commit).await?;
        output::line(&id)?;
        Ok(0)
    }
}
