//! What ps(1) of the host says of a container's processes, with options of the user's own.
//!
//! Source: moby, `daemon/top_unix.go`: what is asked of ps and how its lines are read.

use std::process::Command;

use super::{Table, TopError};

/// The table of these processes.
pub(super) fn table(options: &[String], pids: &[u32]) -> Result<Table, TopError> {
    check(options)?;
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    // Not every ps can be asked for some processes alone, nor with any option.
    let some = ["-q".to_owned(), list.join(",")];
    let text = ps(&[options, &some].concat()).or_else(|_| ps(options))?;
    pick(&text, pids)
}

fn ps(options: &[String]) -> Result<String, TopError> {
    let output = Command::new("ps").args(options).output().map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        if missing { TopError::NoPs } else { TopError::Run(error) }
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().next().map_or(output.status.to_string(), str::to_owned);
        return Err(TopError::Failed(why));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Refuses options that give the heading of process ids to something else.
fn check(options: &[String]) -> Result<(), TopError> {
    for (at, option) in options.iter().enumerate() {
        let Some((column, heading)) = option.rsplit_once('=') else { continue };
        let next = options.get(at + 1).filter(|_| heading.is_empty());
        let column = column.trim_start_matches("-o").trim_start_matches("--format");
        if next.map_or(heading, String::as_str).starts_with("PID") && column != "pid" {
            return Err(TopError::Mistaken(column.to_owned()));
        }
    }
    Ok(())
}

/// The heading and the lines of these processes, each cut into the heading's columns.
fn pick(text: &str, pids: &[u32]) -> Result<Table, TopError> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let Some(pid_column) = titles.iter().position(|title| *title == "PID") else {
        return Err(TopError::NoPids);
    };
    let mut rows = Vec::new();
    let mut wanted = false;
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        wanted = match cells.get(pid_column).copied() {
            // A thread (`ps -m`), below its process.
            Some("-") => wanted,
            Some(cell) => cell.parse().is_ok_and(|pid| pids.contains(&pid)),
            None => false,
        };
        if wanted {
            // The last column has the rest: a command has blanks.
            let (first, rest) = cells.split_at(cells.len().min(titles.len() - 1));
            let rest = rest.join(" ");
            let cells = first.iter().copied().chain([rest.as_str()]);
            rows.push(cells.map(str::to_owned).collect());
        }
    }
    Ok(Table { titles: titles.into_iter().map(str::to_owned).collect(), rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_picked_by_number_and_the_last_column_has_blanks() {
        let text = "USER   PID COMMAND\nroot    12 sh -c  x\nroot   123 other\n  -      - thread\n\
                    www     7 web\n   -     - its thread\n";
        let table = pick(text, &[12, 7]).unwrap();
        assert_eq!(table.titles, ["USER", "PID", "COMMAND"]);
        let rows = [["root", "12", "sh -c x"], ["www", "7", "web"], ["-", "-", "its thread"]];
        assert_eq!(table.rows, rows);
        assert_eq!(pick("PID\n1\n2\n", &[2]).unwrap().rows, [["2"]]);
        assert!(pick("COMMAND\nx\n", &[1]).is_err());
        assert!(pick("", &[1]).is_err());
    }

    #[test]
    fn nothing_else_may_be_called_pid() {
        for good in ["-eo pid,comm", "aux", "-o pid=PID,comm", "-o pid=", "-o ppid=PARENT"] {
            assert!(check(&words(good)).is_ok(), "{good}");
        }
        for bad in ["-o ppid=PID", "-e -oppid= PID", "-o pid,ppid=PID", "-o ppid=PIDS"] {
            assert!(check(&words(bad)).is_err(), "{bad}");
        }
    }
}
