//! `port`: where published ports are reached; `port why`: by whom.

mod why;

use crate::{connect::Endpoint, error::CliError, output, show::ports};

/// In place of a container's name; a container that is called so is named by its id.
const WHY: &str = "why";

#[derive(Debug, clap::Args)]
#[command(after_help = "wythe port why PORT[/PROTO] says who can reach a published port of this \
                        host, and through which rule.")]
pub(crate) struct Args {
    /// Print who can reach a port in this format ("text", "json")
    #[arg(long, value_name = "string", default_value = "text", value_parser = ["text", "json"])]
    format: String,
    /// Which container; or why
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only this port
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        if let (WHY, Some(port)) = (self.container.as_str(), &self.port) {
            return why::run(port, &self.format, to).await;
        }
        let container = to.connect().await?.inspect(&self.container).await?;
        let wanted = self.port.map(|port| match port.contains('/') {
            true => port,
            false => format!("{port}/tcp"),
        });
        let mut found = false;
        for (key, bindings) in ports::bound(&container.config.expose, &container.network.ports) {
            if wanted.as_ref().is_some_and(|wanted| *wanted != key) {
                continue;
            }
            // Those without one are reached at the container's own address.
            let with_port = |binding: &ports::Binding| !binding.host_port.is_empty();
            for binding in bindings.into_iter().flatten().filter(with_port) {
                found = true;
                let address = match binding.host_ip.contains(':') {
                    true => format!("[{}]:{}", binding.host_ip, binding.host_port),
                    false => format!("{}:{}", binding.host_ip, binding.host_port),
                };
                match wanted {
                    Some(_) => output::line(&address)?,
                    None => output::line(&format!("{key} -> {address}"))?,
                }
            }
        }
        match wanted {
            Some(wanted) if !found => {
                let who = &self.container;
                let why = format!("no public port '{wanted}' published for {who}");
                Err(CliError::Usage(why))
            }
            _ => Ok(0),
        }
    }
}
