//! `volume create`.

use engine::VolumeCreate;

use crate::{connect::Endpoint, create::value::pairs, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true, conflicts_with = "volume")]
    name: Option<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Its name; one is made up where there is none
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let create = VolumeCreate {
            name: self.volume.or(self.name),
            driver: Some(self.driver),
            labels: pairs(&self.label),
            options: pairs(&self.opt),
        };
        let volume = to.connect().await?.volume_create(create).await?;
        output::line(&volume.name)?;
        Ok(0)
    }
}
