//! `stats`: what containers use.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use api::{Client, ClientError};
use base::{ByteSize, ErrorKind, clock};
use engine::{Container, ContainerState};
use serde::Serialize;
use workload::Usage;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Column, Format, list},
        human,
    },
    template::Value,
};

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);

const COLUMNS: [Column; 9] = [
    ("BlockIO", "BLOCK I/O"),
    ("CPUPerc", "CPU %"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("Name", "NAME"),
    ("NetIO", "NET I/O"),
    ("PIDs", "PIDS"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t\
                     {{.BlockIO}}\t{{.PIDs}}";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Which containers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The fields that Docker's `stats` has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "BlockIO")]
    block_io: String,
    #[serde(rename = "CPUPerc")]
    cpu_percent: String,
    container: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "MemPerc")]
    memory_percent: String,
    mem_usage: String,
    name: String,
    #[serde(rename = "NetIO")]
    net_io: String,
    #[serde(rename = "PIDs")]
    pids: String,
}

/// A container's processor time at some moment.
type Seen = BTreeMap<String, (u64, Instant)>;

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let format = Format::parse(self.format.as_deref());
        let live = !self.no_stream && std::io::stdout().is_terminal();
        let mut seen = Seen::new();
        // A rate takes two looks.
        self.look(&mut client, &mut seen).await?;
        loop {
            tokio::time::sleep(PERIOD).await;
            let rows = self.look(&mut client, &mut seen).await?;
            let text = list(&format, TABLE, &COLUMNS, &rows)?;
            // Home, and clear what was there.
            output::print(&if live { format!("\x1b[H\x1b[J{text}") } else { text })?;
            if self.no_stream {
                return Ok(0);
            }
        }
    }

    async fn look(&self, client: &mut Client, seen: &mut Seen) -> Result<Vec<Value>, CliError> {
        let mut rows = Vec::new();
        for container in self.containers(client).await? {
            let usage = match client.usage(container.id.as_str()).await {
                Ok(usage) => usage,
                // It has ended or gone since; it is shown as using nothing, or no longer.
                Err(ClientError::Refused(failure)) if failure.kind == ErrorKind::NotFound => {
                    continue;
                }
                Err(ClientError::Refused(failure)) if failure.kind == ErrorKind::Conflict => {
                    Usage::default()
                }
                Err(error) => return Err(error.into()),
            };
            let now = clock::monotonic();
            let spent = usage.cpu.total_ns;
            let before = seen.insert(container.id.as_str().to_owned(), (spent, now));
            let share = before.map(|(earlier, at)| {
                percent(spent.saturating_sub(earlier), now.duration_since(at).as_nanos())
            });
            rows.push(Value::of(&row(&container, &usage, share, self.no_trunc)));
        }
        Ok(rows)
    }

    async fn containers(&self, client: &mut Client) -> Result<Vec<Container>, CliError> {
        if self.containers.is_empty() {
            let mut all = client.list().await?;
            all.retain(|container| {
                self.all
                    || matches!(
                        container.state.state,
                        ContainerState::Running | ContainerState::Paused
                    )
            });
            return Ok(all);
        }
        let mut named = Vec::new();
        for name in &self.containers {
            named.push(client.inspect(name).await?);
        }
        Ok(named)
    }
}

fn row(container: &Container, usage: &Usage, cpu: Option<String>, no_trunc: bool) -> Row {
    let memory = &usage.memory;
    let used = memory.current.bytes().saturating_sub(memory.inactive_file.bytes());
    let limit = memory.limit.map_or_else(host_memory, ByteSize::bytes);
    let pair = |a: u64, b: u64| format!("{} / {}", human::size(a), human::size(b));
    let net = |of: fn(&workload::InterfaceUsage) -> u64| usage.network.iter().map(of).sum();
    let block = |of: fn(&workload::BlockUsage) -> u64| usage.block.iter().map(of).sum();
    let id = if no_trunc { container.id.as_str() } else { container.id.short() };
    Row {
        block_io: pair(block(|b| b.read_bytes), block(|b| b.write_bytes)),
        cpu_percent: cpu.unwrap_or_else(|| "--".to_owned()),
        container: id.to_owned(),
        id: id.to_owned(),
        memory_percent: percent(used, limit.max(1).into()),
        mem_usage: format!("{} / {}", ByteSize(used), ByteSize(limit)),
        name: container.name.as_str().to_owned(),
        net_io: pair(net(|i| i.receive_bytes), net(|i| i.transmit_bytes)),
        pids: usage.pids.map_or_else(|| "--".to_owned(), |pids| pids.to_string()),
    }
}

fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))
}

/// A share in per cent with two decimals.
fn percent(part: u64, whole: u128) -> String {
    let hundredths = u128::from(part) * 10_000 / whole.max(1);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::fixture;

    #[test]
    fn usage_is_shown_as_docker_shows_it() {
        let mut usage = Usage { pids: Some(3), ..Usage::default() };
        usage.memory.current = ByteSize(6 << 20);
        usage.memory.inactive_file = ByteSize(2 << 20);
        usage.memory.limit = Some(ByteSize(256 << 20));
        let cpu = Some(percent(15, 1000));
        let rows = [Value::of(&row(&fixture::container(), &usage, cpu, false))];
        insta::assert_snapshot!(list(&Format::Table, TABLE, &COLUMNS, &rows).unwrap(), @r"
        CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS
        c0c0c0c0c0c0   web       1.50%     4MiB / 256MiB       1.56%     0B / 0B   0B / 0B     3
        ");
    }
}
