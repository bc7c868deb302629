//! `diff`: what a container changed of its image.

use engine::PathChangeKind;

use crate::{connect::Endpoint, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        if self.container.is_empty() {
            return Err(CliError::Usage("Container name cannot be empty".to_owned()));
        }
        let mut client = to.connect().await?;
        let mut text = String::new();
        for change in client.path_changes(&self.container).await? {
            let letter = match change.kind {
                PathChangeKind::Modified => 'C',
                PathChangeKind::Added => 'A',
                PathChangeKind::Deleted => 'D',
            };
            text.push_str(&format!("{letter} {}\n", change.path));
        }
        output::print(&text)?;
        Ok(0)
    }
}
