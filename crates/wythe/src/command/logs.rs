//! `logs`: what a container has written.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, BufWriter, Write},
    os::unix::net::UnixStream,
};

use api::LogReader;
use base::clock::Timestamp;
use engine::{LogEntry, LogQuery, LogSource};

use crate::{connect::Endpoint, error::CliError, output, time};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42
    /// minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42
    /// minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(
        short = 'n',
        long,
        value_name = "string",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let query = self.query(Timestamp::now())?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| CliError::io("make a socket pair", error))?;
        let mut client = to.connect().await?;
        let details = match self.details {
            true => details(&client.inspect(&self.container).await?.log_attributes),
            false => String::new(),
        };
        client.logs(&self.container, query, &theirs).await?;
        drop(theirs);
        // Nothing else happens meanwhile, so reading may block.
        let shown = show(ours, self.timestamps, &details);
        if let Err(error @ CliError::OutputClosed) = shown {
            return Err(error);
        }
        client.logs_end().await?;
        shown?;
        Ok(0)
    }

    fn query(&self, now: Timestamp) -> Result<LogQuery, CliError> {
        let moment = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => time::moment(text, now).map(Some).map_err(CliError::Usage),
        };
        Ok(LogQuery {
            follow: self.follow,
            // Docker takes everything that is no number, and every negative one, for "all".
            tail: self.tail.parse().ok(),
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            ..LogQuery::default()
        })
    }
}

/// What stands with each entry, as Docker shows it: `name=value` in the order of names.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",") + " "
}

fn show(from: UnixStream, timestamps: bool, details: &str) -> Result<(), CliError> {
    let mut records = LogReader::new(BufReader::with_capacity(64 << 10, from));
    let mut out = Lines::new(BufWriter::new(io::stdout().lock()), timestamps, details);
    let mut err = Lines::new(io::stderr().lock(), timestamps, details);
    let broken = |error: api::LogReadError| CliError::io("read the log", io::Error::other(error));
    while let Some(record) = records.next_record().map_err(broken)? {
        match record.stream {
            LogSource::Stdout => out.write(&record).map_err(output::failed)?,
            LogSource::Stderr => {
                out.to.flush().map_err(output::failed)?;
                err.write(&record).map_err(|error| CliError::io("write the log", error))?;
            }
        }
        if records.get_ref().buffer().is_empty() {
            out.to.flush().map_err(output::failed)?;
        }
    }
    out.to.flush().map_err(output::failed)
}

/// Writes records, each line with its time if asked.
struct Lines<'a, W> {
    to: W,
    timestamps: bool,
    /// Text before each line.
    details: &'a str,
    at_start: bool,
}

impl<'a, W: Write> Lines<'a, W> {
    fn new(to: W, timestamps: bool, details: &'a str) -> Lines<'a, W> {
        Lines { to, timestamps, details, at_start: true }
    }

    fn write(&mut self, record: &LogEntry) -> io::Result<()> {
        if self.timestamps && self.at_start {
            write!(self.to, "{} ", time::rfc3339_fixed(record.at))?;
        }
        if self.at_start {
            self.to.write_all(self.details.as_bytes())?;
        }
        self.at_start = record.bytes.ends_with(b"\n");
        self.to.write_all(&record.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_not_parts_of_lines_have_times() {
        let mut lines = Lines::new(Vec::new(), true, "a=1 ");
        for bytes in [&b"par"[..], b"t\n", b"whole\n"] {
            let (at, stream) = (Timestamp(1), LogSource::Stdout);
            lines.write(&LogEntry { at, stream, bytes: bytes.to_vec() }).unwrap();
        }
        let text = String::from_utf8(lines.to).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000000001Z a=1 part\n1970-01-01T00:00:00.000000001Z a=1 whole\n"
        );
    }
}
