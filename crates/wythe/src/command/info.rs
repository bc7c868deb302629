//! `info`: the daemon in a few numbers.

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

/// The fields of Docker's `info` that Wythe knows, and the isolations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InfoJson {
    containers: u64,
    containers_running: u64,
    containers_paused: u64,
    containers_stopped: u64,
    images: u64,
    driver: &'static str,
    #[serde(rename = "OSType")]
    os_type: &'static str,
    architecture: &'static str,
    kernel_version: String,
    #[serde(rename = "NCPU")]
    cpus: usize,
    name: String,
    server_version: String,
    wythe_root_dir: String,
    isolations: Vec<String>,
    security_options: Vec<&'static str>,
    warnings: Vec<String>,
}

const TABLE: &str = "\
Containers: {{.Containers}}
 Running: {{.ContainersRunning}}
 Paused: {{.ContainersPaused}}
 Stopped: {{.ContainersStopped}}
Images: {{.Images}}
Server Version: {{.ServerVersion}}
Storage Driver: {{.Driver}}
Isolations: {{join .Isolations \" \"}}
Kernel Version: {{.KernelVersion}}
OSType: {{.OSType}}
Architecture: {{.Architecture}}
CPUs: {{.NCPU}}
Name: {{.Name}}
Wythe Root Dir: {{.WytheRootDir}}
{{range .SecurityOptions}}Security Option: {{.}}
{{end}}{{range .Warnings}}Not granted: {{.}}
{{end}}";

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let info = to.connect().await?.info().await?;
        let (running, paused, stopped) = info.containers;
        let uname = rustix::system::uname();
        let data = Value::of(&InfoJson {
            containers: running + paused + stopped,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: stopped,
            images: info.images,
            driver: if info.rootless { "directory" } else { "erofs" },
            os_type: "linux",
            architecture: architecture(),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            name: uname.nodename().to_string_lossy().into_owned(),
            server_version: info.version,
            wythe_root_dir: info.data_root,
            isolations: info.isolations.iter().map(ToString::to_string).collect(),
            security_options: info.rootless.then_some("name=rootless").into_iter().collect(),
            warnings: info.lacks,
        });
        match self.format.as_deref() {
            None | Some("") => output::print(&Template::parse(TABLE)?.render(&data)?)?,
            Some("json") => output::line(&data.json())?,
            Some(text) => output::line(&Template::parse(text)?.render(&data)?)?,
        }
        Ok(0)
    }
}
