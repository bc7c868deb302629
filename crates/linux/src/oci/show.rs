//! state, list, ps: what containers are and do, for people and for programs.

use std::{fmt::Write as _, fs, io::Write as _, process::Command};

use serde::Serialize;

use super::{
    Context,
    args::{Parsed, UsageError},
    error::OciError,
    lifecycle, log,
    record::Container,
    status::Status,
};

/// What `state` and `list` print as JSON: the specification's state and runc's additions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    oci_version: String,
    id: String,
    /// 0 when there is none.
    pid: u32,
    status: String,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    owner: String,
}

impl Shown {
    fn of(context: &Context, container: &Container, owner: String) -> Result<Shown, OciError> {
        let status = lifecycle::status(context, container)?;
        let record = &container.record;
        let pid = record.process.filter(|_| status != Status::Stopped);
        Ok(Shown {
            oci_version: record.oci_version.clone(),
            id: record.id.to_string(),
            pid: pid.map_or(0, |process| process.pid),
            status: status.to_string(),
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: log::rfc3339(record.created),
            annotations: record.annotations.clone(),
            owner,
        })
    }
}

/// `state`.
pub(super) fn state(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let container = context.open(arguments.container())?;
    let shown = Shown::of(context, &container, String::new())?;
    context.print(&format!("{}\n", pretty(&shown)))
}

/// `list`.
pub(super) fn list(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let as_json = wants_json(arguments)?;
    let ids = context.store.ids()?;
    if arguments.has("quiet") {
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        return context.print(&lines);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut shown = Vec::new();
    for id in ids {
        match context.store.open(&id) {
            Ok(container) => {
                let owner = user_name(&passwd, container.record.owner);
                shown.push(Shown::of(context, &container, owner)?);
            }
            // It was deleted in between, or is no more than a name.
            Err(OciError::Missing { .. }) => {}
            Err(error) => context.log.warning(&error.chain()),
        }
    }
    if as_json {
        // runc's word for no containers.
        let text = if shown.is_empty() { "null".to_owned() } else { json(&shown) };
        return context.print(&format!("{text}\n"));
    }
    let rows = shown.iter().map(|s| {
        let pid = s.pid.to_string();
        [&s.id, &pid, &s.status, &s.bundle, &s.created, &s.owner].map(|cell| cell.clone())
    });
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    context.print(&table(&rows))
}

/// `ps`.
pub(super) fn ps(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let as_json = wants_json(arguments)?;
    let container = context.open(arguments.container())?;
    let pids = match lifecycle::cgroup(context, &container.record)? {
        Some(group) => group.pids()?,
        None => Vec::new(),
    };
    if as_json {
        return context.print(&format!("{}\n", json(&pids)));
    }
    let options = arguments.operands.get(1..).filter(|rest| !rest.is_empty());
    let mut command = Command::new("ps");
    match options {
        Some(options) => command.args(options),
        None => command.arg("-ef"),
    };
    let output = command.output().map_err(OciError::io("run ps"))?;
    if !output.status.success() {
        // What it said against the options is the best explanation there is.
        let _ = std::io::stderr().write_all(&output.stderr);
        let failed = std::io::Error::other(output.status.to_string());
        return Err(OciError::io("run ps")(failed));
    }
    let listing = String::from_utf8_lossy(&output.stdout);
    match of_processes(&listing, &pids) {
        Some(lines) => context.print(&lines),
        None => Err(OciError::io("run ps")(std::io::Error::other("it prints no column PID"))),
    }
}

/// The lines of a listing by ps(1) that are about these processes, and its header; `None` if
/// it has no column of process ids.
fn of_processes(listing: &str, pids: &[u32]) -> Option<String> {
    let mut lines = listing.lines();
    let header = lines.next()?;
    let column = header.split_whitespace().position(|word| word == "PID")?;
    let mut text = format!("{header}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: u32| pids.contains(&pid)) {
            let _ = writeln!(text, "{line}");
        }
    }
    Some(text)
}

fn wants_json(arguments: &Parsed) -> Result<bool, UsageError> {
    match arguments.value("format") {
        None | Some("table") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(arguments.wrong("format", other, "use table or json")),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers and strings are always JSON")
}

fn pretty<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("numbers and strings are always JSON")
}

/// The name of a user in passwd(5), or the number.
fn user_name(passwd: &str, uid: u32) -> String {
    let uid = uid.to_string();
    let mut lines = passwd.lines().map(|line| line.split(':'));
    let name = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    });
    name.unwrap_or(&uid).to_owned()
}

/// Columns as Go's tabwriter lines them up for runc: at least 12 wide, 3 apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    const WIDTH_MIN: usize = 12;
    const APART: usize = 3;
    let mut widths = [WIDTH_MIN; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + APART);
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_runcs() {
        let rows = [["ID", "PID", "OWNER"], ["a-long-container", "7", "root"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            table(&rows),
            "ID                 PID         OWNER\na-long-container   7           root\n"
        );
    }

    #[test]
    fn owners_have_names_where_the_host_knows_them() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), "alice");
        assert_eq!(user_name(passwd, 7), "7");
    }

    #[test]
    fn a_listing_is_cut_down_to_the_containers_processes() {
        let listing = "UID  PID PPID\nroot   7    1\nroot  70    7\nroot 700    7\n";
        let want = "UID  PID PPID\nroot   7    1\nroot 700    7\n";
        assert_eq!(of_processes(listing, &[7, 700]).as_deref(), Some(want));
        assert_eq!(of_processes("USER COMMAND\nroot sh\n", &[7]), None);
    }
}
