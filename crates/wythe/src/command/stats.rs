//! `stats`: what containers use.
//!
//! One request a period asks the daemon about all of them over one connection.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use api::{Client, ClientError};
use base::{ContainerId, clock::Timestamp};
use docker::shape::stats::{Look, Moment, counters};
use engine::StatsQuery;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cli,
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, list},
    },
    show::stats::{COLUMNS, TABLE, row},
    template::Value,
};

/// Time between two looks, as Docker has it.
const PERIOD: Duration = Duration::from_secs(1);

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

/// What is asked every time, and what was answered the last time.
#[derive(Debug)]
struct Watch {
    query: StatsQuery,
    /// What the containers that were named were called.
    named: BTreeMap<ContainerId, String>,
    seen: BTreeMap<ContainerId, Moment>,
    no_trunc: bool,
    /// Whether a row needs every counter.
    in_full: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let format = Format::parse(self.format.as_deref());
        let named = named(&mut client, &self.containers).await?;
        let mut watch = Watch::new(&self, &format, named);
        let live = !self.no_stream && std::io::stdout().is_terminal();
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        clock.tick().await;
        // A share takes two looks; a person who waits is shown the rest after the first.
        let first = watch.look(&mut client).await?;
        if live {
            show(&list(&format, TABLE, &COLUMNS, &first)?)?;
        }
        loop {
            clock.tick().await;
            let rows = watch.look(&mut client).await?;
            let text = list(&format, TABLE, &COLUMNS, &rows)?;
            if live {
                show(&text)?
            } else {
                output::print(&text)?
            }
            if self.no_stream || watch.is_over(&rows) {
                return Ok(0);
            }
        }
    }
}

/// Ids of containers, and what they were called. All that are not there are told of.
async fn named(
    client: &mut Client,
    names: &[String],
) -> Result<Vec<(ContainerId, String)>, CliError> {
    let mut known = Vec::new();
    for name in names {
        match client.inspect(name).await {
            Ok(container) => known.push((container.id, name.clone())),
            Err(ClientError::Refused(failure)) => cli::tell(&CliError::Daemon(failure)),
            Err(error) => return Err(error.into()),
        }
    }
    if known.len() == names.len() { Ok(known) } else { Err(CliError::Said) }
}

impl Watch {
    fn new(args: &Args, format: &Format, named: Vec<(ContainerId, String)>) -> Watch {
        let mut who: Vec<String> = Vec::new();
        for (id, _) in &named {
            // A container that was named twice is one container.
            if !who.iter().any(|known| known == id.as_str()) {
                who.push(id.as_str().to_owned());
            }
        }
        let in_full = match format {
            Format::Template(text) | Format::TableOf(text) => text.contains(".Stats"),
            Format::Table | Format::Json => false,
        };
        Watch {
            query: StatsQuery { who, all: args.all },
            named: named.into_iter().collect(),
            seen: BTreeMap::new(),
            no_trunc: args.no_trunc,
            in_full,
        }
    }

    /// Whether everything that was asked for by name is gone.
    fn is_over(&self, rows: &[Value]) -> bool {
        !self.query.who.is_empty() && rows.is_empty()
    }

    async fn look(&mut self, client: &mut Client) -> Result<Vec<Value>, CliError> {
        let stats = client.stats(self.query.clone()).await?;
        // Who is not told of any more is forgotten.
        let before = std::mem::take(&mut self.seen);
        let mut rows = Vec::new();
        for container in &stats.containers {
            let look = Look { container, host: &stats.host, before: before.get(&container.id) };
            let called = self.named.get(&container.id).map(String::as_str);
            let row = row(&look, called, self.no_trunc);
            rows.push(if self.in_full {
                Value::of(&row.with(counters(&look)))
            } else {
                Value::of(&row)
            });
            if let Some(moment) = look.moment(Timestamp::now()) {
                self.seen.insert(container.id.clone(), moment);
            }
        }
        Ok(rows)
    }
}

/// Puts it in place of what was on the screen, without a moment in which nothing is there.
fn show(text: &str) -> Result<(), CliError> {
    output::print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}
