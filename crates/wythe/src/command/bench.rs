//! `bench isolation IMAGE`: what the same image costs behind every wall, beside the bare process.
//!
//! ```text
//! for the bare process and every driver of this build:
//!   rounds of start to exit · one idle process · the demo program's `measure`, put into the image
//! ```
//!
//! Everything is measured from outside or by the same static program, one after the other in one
//! run, so that the columns can be compared.

mod bare;
mod host;
mod sandboxed;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;
use workload::Isolation;

use super::kernel;
use crate::{connect::Endpoint, error::CliError, output};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure what an image costs behind every isolation, beside the bare process
    Isolation(IsolationArgs),
}

impl BenchCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            BenchCommand::Isolation(args) => args.run(to).await,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct IsolationArgs {
    /// How often it is started
    #[arg(long, value_name = "int", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print the figures in this format ("table", "json")
    #[arg(short, long, value_name = "string", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Image to measure; the embedded demo where none is named
    #[arg(default_value = "demo", value_name = "IMAGE")]
    image: String,
}

/// What one wall costs: figures by name, in the units of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Cost {
    /// The isolation, or `bare` for none.
    isolation: String,
    #[serde(flatten)]
    figures: BTreeMap<String, f64>,
    /// Names of the figures that could not be had here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// As `--format json` shows it.
#[derive(Debug, Serialize)]
struct Shown<'c> {
    image: &'c str,
    rounds: u32,
    costs: &'c [Cost],
}

/// Milliseconds from the start of a process to its exit having been seen.
const START: &str = "start_to_exit_ms";
/// Bytes of memory of an idle process and of what holds it, each shared page counted once.
const MEMORY: &str = "idle_memory_bytes";

impl IsolationArgs {
    async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let isolations = client.info().await?.isolations;
        let program = bare::Program::place(&to.roots.data)?;
        let host = host::Host::open()?;
        let mut costs = vec![bare::cost(&program, &host, self.rounds)?.complete()];
        for isolation in isolations {
            if isolation == Isolation::Vm && !kernel::is_there(to)? {
                output::complain(
                    "vm is left out: there is no kernel; wythe kernel pull fetches one",
                );
                continue;
            }
            let place = sandboxed::Place { to, image: &self.image, isolation, program: &program };
            costs.push(place.cost(&host, self.rounds).await?.complete());
        }
        if self.format == "json" {
            let shown = Shown { image: &self.image, rounds: self.rounds, costs: &costs };
            let json = serde_json::to_string_pretty(&shown).expect("figures are always JSON");
            output::line(&json)?;
        } else {
            output::print(&table::text(&costs))?;
        }
        Ok(0)
    }
}

impl Cost {
    fn of(isolation: impl ToString) -> Cost {
        Cost { isolation: isolation.to_string(), ..Cost::default() }
    }

    /// Takes over what `measure` printed: lines of a name and a number.
    fn read(&mut self, printed: &str) {
        let figures = printed.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        self.figures.extend(figures);
    }

    fn put(&mut self, name: &str, value: Option<f64>) {
        self.figures.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// Names the figures that could not be had.
    fn complete(mut self) -> Cost {
        let missing = table::names().filter(|name| !self.figures.contains_key(*name));
        self.missing = missing.map(str::to_owned).collect();
        self
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_noise_is_not() {
        let mut cost = Cost::of("bare");
        cost.read("syscall_ns 98.5\nwarning: something\ncpu_ops_per_s 3e8\n");
        assert_eq!(cost.figures["syscall_ns"], 98.5);
        assert_eq!(cost.figures["cpu_ops_per_s"], 3e8);
        assert_eq!(cost.figures.len(), 2);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
