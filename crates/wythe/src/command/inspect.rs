//! `inspect`: everything about containers and images.

use api::{Client, ClientError};
use base::ErrorKind;
use serde::Serialize as _;

use crate::{
    cli,
    connect::Endpoint,
    error::CliError,
    output,
    show::{container::ContainerJson, image::ImageJson, volume::VolumeJson},
    template::{Template, Value},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long, hide = true)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long, value_name = "string", value_parser = ["container", "image", "volume"])]
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
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Which images
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

impl From<ContainerArgs> for Args {
    fn from(args: ContainerArgs) -> Args {
        let ContainerArgs { format, names } = args;
        Args { format, size: false, r#type: Some("container".to_owned()), names }
    }
}

impl ImageArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let ImageArgs { format, names } = self;
        Args { format, size: false, r#type: Some("image".to_owned()), names }.run(to).await
    }
}

/// `volume inspect`.
pub(super) async fn volumes(
    format: Option<String>,
    names: Vec<String>,
    to: &Endpoint,
) -> Result<u8, CliError> {
    Args { format, size: false, r#type: Some("volume".to_owned()), names }.run(to).await
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
            match look(&mut client, name, self.r#type.as_deref()).await {
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
}

/// A container of this name, or else an image. What is neither is told in Docker's words.
async fn look(client: &mut Client, name: &str, kind: Option<&str>) -> Result<Value, ClientError> {
    let mut hints = Vec::new();
    if !matches!(kind, Some("image" | "volume")) {
        match client.inspect(name).await {
            Ok(container) => return Ok(Value::of(&ContainerJson::of(&container))),
            Err(ClientError::Refused(failure))
                if kind.is_none() && failure.kind == ErrorKind::NotFound =>
            {
                hints = failure.hints;
            }
            Err(error) => return Err(error),
        }
    }
    if kind != Some("volume") {
        match client.image_inspect(name).await {
            Ok(image) => return Ok(Value::of(&ImageJson::of(&image))),
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

/// JSON indented by four blanks, as Docker's.
fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("a value can be written as JSON");
    String::from_utf8(text).expect("JSON is text")
}
