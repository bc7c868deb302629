//! `top`: the processes of a container, as the host sees them.
//!
//! What `ps -ef` shows is read from /proc and needs no ps; other options are the host's ps's.

mod ps;

use std::{collections::BTreeMap, fs, io, time::Duration};

use base::clock::Timestamp;

/// The columns of `ps -ef`.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// Processes, one a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What the columns are.
    pub titles: Vec<String>,
    /// As many cells as columns, or fewer.
    pub rows: Vec<Vec<String>>,
}

/// Why processes are not shown.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// Their options need the host's ps.
    #[error("the host has no ps; without options, top needs none")]
    NoPs,
    /// It cannot be started.
    #[error("cannot run the host's ps")]
    Run(#[source] io::Error),
    /// It refused its options.
    #[error("the host's ps failed: {0}")]
    Failed(String),
    /// A column would be mistaken for that of process ids.
    #[error("specifying \"{0}=PID\" is not allowed")]
    Mistaken(String),
    /// Nothing tells whose line it is.
    #[error("ps does not show process ids this way: its output needs a column PID")]
    NoPids,
    /// The host tells nothing of itself.
    #[error("cannot read /proc/stat")]
    Stat(#[source] io::Error),
}

/// The table of these processes, with options as ps(1) has them.
///
/// # Errors
/// [`TopError`].
pub fn table(options: &[String], pids: &[u32]) -> Result<Table, TopError> {
    if !options.is_empty() && options != ["-ef"] {
        return ps::table(options, pids);
    }
    let users = users(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    let host = Host::read(&users)?;
    // One that has ended since is no longer there to be shown.
    let rows = pids.iter().filter_map(|pid| host.row(*pid)).collect();
    Ok(Table { titles: TITLES.map(str::to_owned).to_vec(), rows })
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
    fn read(users: &BTreeMap<u32, String>) -> Result<Host<'_>, TopError> {
        let stat = fs::read_to_string("/proc/stat").map_err(TopError::Stat)?;
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
        Ok(Host {
            users,
            ticks: rustix::param::clock_ticks_per_second().max(1),
            booted_s: booted.unwrap_or(0),
            now: Timestamp::now(),
        })
    }

    fn row(&self, pid: u32) -> Option<Vec<String>> {
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
        Some(vec![
            self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
            pid.to_string(),
            stat.parent.to_owned(),
            (used_s * 100 / age_s).min(99).to_string(),
            clock(started_s % 86_400, false),
            terminal(stat.terminal),
            clock(used_s, true),
            command,
        ])
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
        let row = Host::read(&users).unwrap().row(std::process::id()).unwrap();
        assert_eq!(row.len(), TITLES.len());
    }
}
