//! `top`: the processes of a container, as the host sees them.
//!
//! What `ps -ef` shows is read from /proc and needs no ps; other options are the host's ps's.

mod ps;

use std::{collections::BTreeMap, fs, time::Duration};

use base::clock::Timestamp;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, table},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of the host's ps(1)
    #[arg(value_name = "ps OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let pids = to.connect().await?.host_pids(&self.container).await?;
        if !self.options.is_empty() {
            output::print(&table::align(&ps::table(&self.options, &pids)?))?;
            return Ok(0);
        }
        let users = users(&fs::read_to_string("/etc/passwd").unwrap_or_default());
        let host = Host::read(&users)?;
        let mut text = "UID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD\n".to_owned();
        for pid in pids {
            // One that has ended since is no longer there to be shown.
            text += &host.line(pid).unwrap_or_default();
        }
        output::print(&table::align(&text))?;
        Ok(0)
    }
}

/// What lines are computed with.
struct Host<'a> {
    users: &'a BTreeMap<u32, String>,
    ticks: u64,
    booted_s: u64,
    now: Timestamp,
}

/// The fields of /proc/PID/stat that are shown. Source: proc_pid_stat(5).
struct Stat<'a> {
    command: &'a str,
    parent: &'a str,
    terminal: u64,
    ticks: u64,
    started_ticks: u64,
}

impl<'a> Stat<'a> {
    fn parse(text: &'a str) -> Option<Stat<'a>> {
        // The command stands in parentheses and may contain some itself.
        let (before, after) = text.rsplit_once(')')?;
        let (_, command) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            command,
            parent: fields.get(1)?,
            terminal: number(4).unwrap_or(0),
            ticks: number(11)? + number(12)?,
            started_ticks: number(19)?,
        })
    }
}

impl Host<'_> {
    fn read(users: &BTreeMap<u32, String>) -> Result<Host<'_>, CliError> {
        let stat = fs::read_to_string("/proc/stat")
            .map_err(|error| CliError::io("read /proc/stat", error))?;
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
        Ok(Host {
            users,
            ticks: rustix::param::clock_ticks_per_second().max(1),
            booted_s: booted.unwrap_or(0),
            now: Timestamp::now(),
        })
    }

    fn line(&self, pid: u32) -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let stat = Stat::parse(&stat)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let uid: u32 = uid.split_whitespace().nth(1)?.parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        let command = if words.is_empty() { format!("[{}]", stat.command) } else { words };
        let used_s = stat.ticks / self.ticks;
        let started_s = self.booted_s + stat.started_ticks / self.ticks;
        let age_s = self.now.seconds().saturating_sub(started_s).max(1);
        Some(format!(
            "{}\t{pid}\t{}\t{}\t{}\t{}\t{}\t{command}\n",
            self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
            stat.parent,
            (used_s * 100 / age_s).min(99),
            clock(started_s % 86_400, false),
            terminal(stat.terminal),
            clock(used_s, true),
        ))
    }
}

/// `15:04`, or `15:04:05`.
fn clock(seconds: u64, with_seconds: bool) -> String {
    let span = Duration::from_secs(seconds).as_secs();
    let (hours, minutes, seconds) = (span / 3600, span / 60 % 60, span % 60);
    match with_seconds {
        true => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        false => format!("{hours:02}:{minutes:02}"),
    }
}

/// The terminal's name; those of containers are pseudo-terminals, major numbers 136 and up.
fn terminal(number: u64) -> String {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

/// Names by number, of passwd(5).
fn users(passwd: &str) -> BTreeMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    // The first entry of a number is the one that counts.
    passwd.lines().rev().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let text = "7 (a) b (c) S 3 7 7 34817 7 0 0 0 0 0 250 50 0 0 20 0 1 0 900 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.command, stat.parent), ("a) b (c", "3"));
        assert_eq!((stat.ticks, stat.started_ticks), (300, 900));
        assert_eq!(terminal(stat.terminal), "pts/1");
        assert_eq!(terminal(0), "?");
        assert!(Stat::parse("7 (a").is_none());
    }

    #[test]
    fn numbers_have_names() {
        let users = users("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\nbad\nwww:x:33:33::/:\n");
        assert_eq!(users.get(&0).unwrap(), "root");
        assert_eq!(users.get(&33).unwrap(), "www");
    }

    #[test]
    fn our_own_process_is_shown() {
        let users = BTreeMap::new();
        let line = Host::read(&users).unwrap().line(std::process::id()).unwrap();
        assert_eq!(line.split('\t').count(), 8);
    }
}
