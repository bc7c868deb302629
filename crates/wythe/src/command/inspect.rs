//! `inspect`: everything about containers and images.

use api::{Client, ClientError};
use base::ErrorKind;
use docker::shape::{image::ImageJson, network::NetworkJson, volume::VolumeJson};
use serde::Serialize as _;

use crate::{
    cli,
    connect::Endpoint,
    error::CliError,
    output,
    show::container::ContainerJson,
    template::{Template, Value},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Which of the images that share a name
    #[arg(skip)]
    platform: Option<String>,
    /// Only inspect objects of the given type
    #[arg(long, value_name = "string", value_parser = ["container", "image", "network", "volume"])]
    r#type: Option<String>,
    /// Which containers and images
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ContainerArgs {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Inspect a specific platform of the multi-platform image. Formatted as
    /// "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// Which images
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

impl From<ContainerArgs> for Args {
    fn from(args: ContainerArgs) -> Args {
        let ContainerArgs { format, size, names } = args;
        Args { format, size, platform: None, r#type: Some("container".to_owned()), names }
    }
}

impl ImageArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let ImageArgs { format, platform, names } = self;
        let platform = platform.map(|platform| platform.to_string());
        let r#type = Some("image".to_owned());
        Args { format, size: false, platform, r#type, names }.run(to).await
    }
}

/// `volume inspect`.
pub(super) async fn volumes(
    format: Option<String>,
    names: Vec<String>,
    to: &Endpoint,
) -> Result<u8, CliError> {
    let r#type = Some("volume".to_owned());
    Args { format, size: false, platform: None, r#type, names }.run(to).await
}

/// `network inspect`.
pub(super) async fn networks(
    format: Option<String>,
    names: Vec<String>,
    to: &Endpoint,
) -> Result<u8, CliError> {
    let r#type = Some("network".to_owned());
    Args { format, size: false, platform: None, r#type, names }.run(to).await
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let template = match self.format.as_deref() {
            None | Some("") => None,
            Some("json") => Some(Template::parse("{{json .}}")?),
            Some(text) => Some(Template::parse(text)?),
        };
        let mut client = to.connect().await?;
        let mut found = Vec::new();
        let mut missing = false;
        for name in &self.names {
            match self.look(&mut client, name).await {
                Ok(value) => found.push(value),
                Err(ClientError::Refused(failure)) => {
                    cli::tell(&CliError::Daemon(failure));
                    missing = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        match template {
            None => output::line(&pretty(&Value::List(found)))?,
            Some(template) => {
                for value in &found {
                    output::line(&template.render(value)?)?;
                }
            }
        }
        if missing { Err(CliError::Said) } else { Ok(0) }
    }

    /// A container of this name, or else an image. What is neither is told in Docker's words.
    async fn look(&self, client: &mut Client, name: &str) -> Result<Value, ClientError> {
        let kind = self.r#type.as_deref();
        let mut hints = Vec::new();
        if !matches!(kind, Some("image" | "network" | "volume")) {
            match client.inspect(name).await {
                Ok(container) => {
                    let shown = ContainerJson::of(&container);
                    if !self.size {
                        return Ok(Value::of(&shown));
                    }
                    let sizes = client.container_sizes(vec![container.id.to_string()]).await?;
                    return Ok(Value::of(&shown.with_size(sizes.first())));
                }
                Err(ClientError::Refused(failure))
                    if kind.is_none() && failure.kind == ErrorKind::NotFound =>
                {
                    hints = failure.hints;
                }
                Err(error) => return Err(error),
            }
        }
        if !matches!(kind, Some("network" | "volume")) {
            match client.image_inspect(name, self.platform.clone()).await {
                Ok(image) => return Ok(Value::of(&ImageJson::of(&image))),
                Err(ClientError::Refused(failure))
                    if kind.is_none() && failure.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if kind != Some("volume") {
            match client.network_inspect(name).await {
                Ok(network) => return Ok(Value::of(&NetworkJson::of(&network))),
                Err(ClientError::Refused(failure))
                    if kind.is_none() && failure.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        match client.volume_inspect(name).await {
            Ok(volume) => Ok(Value::of(&VolumeJson::of(&volume))),
            Err(ClientError::Refused(mut failure))
                if kind.is_none() && failure.kind == ErrorKind::NotFound =>
            {
                failure.message = format!("No such object: {name}");
                if !hints.is_empty() {
                    failure.hints = hints;
                }
                Err(ClientError::Refused(failure))
            }
            Err(error) => Err(error),
        }
    }
}

/// JSON indented by four blanks, as Docker's.
pub(super) fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("a value can be written as JSON");
    String::from_utf8(text).expect("JSON is text")
}
