//! `version`: of this program and of the daemon.

use api::PROTOCOL;
use serde::Serialize;

use crate::{
    connect::Endpoint,
    create::architecture,
    error::CliError,
    output,
    template::{Template, Value},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    client: Version,
    server: Option<Version>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    protocol: u32,
    os: &'static str,
    arch: &'static str,
}

const TABLE: &str = "\
Client: Wythe
 Version:\t{{.Client.Version}}
 Protocol version:\t{{.Client.Protocol}}
 OS/Arch:\t{{.Client.Os}}/{{.Client.Arch}}
{{- with .Server}}

Server: Wythe
 Version:\t{{.Version}}
 Protocol version:\t{{.Protocol}}
 OS/Arch:\t{{.Os}}/{{.Arch}}
{{- end}}
";

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let version = |version: &str, protocol| Version {
            version: version.to_owned(),
            protocol,
            os: "linux",
            arch: architecture(),
        };
        let client = version(env!("CARGO_PKG_VERSION"), PROTOCOL);
        let daemon = to.connect().await;
        let server = daemon.as_ref().ok().map(api::Client::daemon);
        let server = server.map(|hello| version(&hello.build, hello.protocol));
        let data = Value::of(&Versions { client, server });
        match self.format.as_deref() {
            None | Some("") => {
                let text = Template::parse(TABLE)?.render(&data)?;
                output::print(&output::table::align(&text))?;
            }
            Some("json") => output::line(&data.json())?,
            Some(text) => output::line(&Template::parse(text)?.render(&data)?)?,
        }
        daemon.map(|_| 0)
    }
}
