//! Where errors are told: standard error, and the file of `--log` in the format of
//! `--log-format`, whose lines are logrus', because runc's callers read them.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
};

use base::clock::Timestamp;

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// What was asked was not done.
    Error,
    /// Odd, and it was done.
    Warning,
    /// What is being done.
    Debug,
}

/// Where to and how.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The file, or `None` for standard error alone.
    pub(super) path: Option<PathBuf>,
    pub(super) format: Format,
    pub(super) debug: bool,
}

impl Log {
    /// Tells that the command failed: a log line, and the bare message on standard error if the
    /// log is elsewhere.
    pub(super) fn error(&self, message: &str) {
        self.write(Level::Error, message);
        if self.path.is_some() {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    /// Tells of something odd.
    pub(super) fn warning(&self, message: &str) {
        self.write(Level::Warning, message);
    }

    /// Tells what is being done, if that was asked for.
    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.write(Level::Debug, message);
        }
    }

    fn write(&self, level: Level, message: &str) {
        let line = line(self.format, level, message, Timestamp::now());
        let open = |path| OpenOptions::new().append(true).create(true).open(path);
        // A log that cannot be written must not hide the error: it goes to standard error.
        let written = self.path.as_ref().map(open).and_then(Result::ok);
        let _ = match written {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// A line of the log.
fn line(format: Format, level: Level, message: &str, at: Timestamp) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Debug => "debug",
    };
    let time = rfc3339(Timestamp(at.0 - at.0 % 1_000_000_000));
    // JSON's quoting is also a good one for text: Go's differs in control characters only.
    let quoted = serde_json::Value::from(message).to_string();
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={quoted}\n"),
        Format::Json => {
            format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n")
        }
    }
}

/// A time as RFC 3339 writes it, in UTC, with as many decimals as it has.
///
/// Source: "days from civil" inverted, for the proleptic Gregorian calendar in 400-year eras.
pub(super) fn rfc3339(at: Timestamp) -> String {
    const DAY_S: u64 = 86_400;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH_DAYS: u64 = 719_468;
    const ERA_DAYS: u64 = 146_097;
    let (days, second) = (at.seconds() / DAY_S + EPOCH_DAYS, at.seconds() % DAY_S);
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    // Years begin in March here, so that a leap day is the last of its year.
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text =
        format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}");
    let nanos = at.0 % 1_000_000_000;
    if nanos != 0 {
        let decimals = format!("{nanos:09}");
        let _ = write!(text, ".{}", decimals.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (nanos, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_500_000_000, "2024-02-29T23:59:59.5Z"),
            (1_735_689_600_000_000_001, "2025-01-01T00:00:00.000000001Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Timestamp(nanos)), want);
        }
    }

    #[test]
    fn lines_look_as_logrus_writes_them() {
        let at = Timestamp(1_735_689_600_999_000_000);
        assert_eq!(
            line(Format::Text, Level::Error, "exec: \"x\"", at),
            "time=\"2025-01-01T00:00:00Z\" level=error msg=\"exec: \\\"x\\\"\"\n"
        );
        assert_eq!(
            line(Format::Json, Level::Warning, "a\nb", at),
            "{\"level\":\"warning\",\"msg\":\"a\\nb\",\"time\":\"2025-01-01T00:00:00Z\"}\n"
        );
    }
}
