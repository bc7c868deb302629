//! `doctor`: what this host can do, what is wrong, what would mend it, and what a crash left.
//!
//! The daemon looks, as it sees the host as containers get it. Where there is none and none comes
//! up, that is the finding, beside what can be seen without one.

use std::fmt::Write as _;

use engine::{Diagnosis, Outcome};
use serde::Serialize;
use workload::Finding;

use crate::{
    connect::Endpoint,
    error::{CliError, chain},
    output::{self, style},
};

/// Everything is well, but for what nobody needs.
const WELL: u8 = 0;
/// Something is wrong, or left over.
const UNWELL: u8 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove what a crash left
    #[arg(long)]
    repair: bool,
    /// Print the findings in this format ("table", "json")
    #[arg(short, long, value_name = "string", default_value = "table", value_parser = ["table", "json"])]
    format: String,
}

/// As `--format json` shows it.
#[derive(Debug, Serialize)]
struct Shown<'d> {
    healthy: bool,
    #[serde(flatten)]
    diagnosis: &'d Diagnosis,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut diagnosis = match ask(to, self.repair).await {
            Ok(diagnosis) => diagnosis,
            Err(error) => without_daemon(&error),
        };
        diagnosis.findings.push(super::vm::finding());
        let healthy = healthy(&diagnosis);
        if self.format == "json" {
            let shown = Shown { healthy, diagnosis: &diagnosis };
            let json = serde_json::to_string_pretty(&shown).expect("findings are always JSON");
            output::line(&json)?;
        } else {
            output::print(&text(&diagnosis))?;
        }
        Ok(if healthy { WELL } else { UNWELL })
    }
}

async fn ask(to: &Endpoint, repair: bool) -> Result<Diagnosis, CliError> {
    let mut diagnosis = to.connect().await?.doctor(repair).await?;
    let subject = "daemon".to_owned();
    let detail = format!("serves at unix://{}", to.socket().display());
    diagnosis.findings.insert(0, Finding { subject, works: true, detail, mend: None });
    Ok(diagnosis)
}

/// What can be seen by anybody.
fn without_daemon(error: &CliError) -> Diagnosis {
    let daemon = Finding {
        subject: "daemon".to_owned(),
        works: false,
        detail: chain(error),
        mend: Some("wythe daemon, started by hand, says more".to_owned()),
    };
    let mut findings = vec![daemon];
    findings.extend(linux::findings());
    Diagnosis { findings, leftovers: Vec::new() }
}

/// What is missing and would be mended is wrong; what is just not there is not.
fn healthy(diagnosis: &Diagnosis) -> bool {
    let wrong = diagnosis.findings.iter().any(|finding| !finding.works && finding.mend.is_some());
    let left = diagnosis.leftovers.iter().any(|leftover| leftover.outcome != Outcome::Removed);
    !wrong && !left
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    let width = diagnosis.findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    for Finding { subject, works, detail, mend } in &diagnosis.findings {
        let mark = match (works, mend) {
            (true, _) => style::good("ok  "),
            (false, Some(_)) => style::bad("bad "),
            (false, None) => "none".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}  {subject:width$}  {detail}");
        if let Some(mend) = mend.as_ref().filter(|_| !works) {
            let _ = writeln!(text, "      {:width$}  to mend it: {mend}", "");
        }
    }
    for leftover in &diagnosis.leftovers {
        let (mark, what) = match &leftover.outcome {
            Outcome::Found => (style::bad("left"), leftover.what.clone()),
            Outcome::Removed => (style::good("gone"), leftover.what.clone()),
            Outcome::Stays(why) => (style::bad("left"), format!("{}: {why}", leftover.what)),
        };
        let _ = writeln!(text, "{mark}  {what}");
    }
    if diagnosis.leftovers.iter().any(|leftover| leftover.outcome == Outcome::Found) {
        text.push_str("\nwythe doctor --repair removes what is left over.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use engine::Leftover;

    use super::*;

    fn finding(works: bool, mend: Option<&str>) -> Finding {
        let (subject, detail) = ("overlayfs".to_owned(), "it is so".to_owned());
        Finding { subject, works, detail, mend: mend.map(str::to_owned) }
    }

    fn with(findings: Vec<Finding>, outcome: Option<Outcome>) -> Diagnosis {
        let left = |outcome| Leftover { what: "shim abc".to_owned(), outcome };
        Diagnosis { findings, leftovers: outcome.map(left).into_iter().collect() }
    }

    #[test]
    fn what_cannot_be_mended_is_not_wrong() {
        assert!(healthy(&with(vec![finding(true, None), finding(false, None)], None)));
        assert!(!healthy(&with(vec![finding(false, Some("modprobe"))], None)));
        assert!(!healthy(&with(Vec::new(), Some(Outcome::Found))));
        assert!(!healthy(&with(Vec::new(), Some(Outcome::Stays("busy".to_owned())))));
        assert!(healthy(&with(Vec::new(), Some(Outcome::Removed))));
    }

    #[test]
    fn the_text_says_what_to_do() {
        let text =
            text(&with(vec![finding(false, Some("modprobe overlay"))], Some(Outcome::Found)));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "bad   overlayfs  it is so");
        assert_eq!(lines[1].trim_start(), "to mend it: modprobe overlay");
        assert_eq!(lines[2], "left  shim abc");
        assert!(text.ends_with("wythe doctor --repair removes what is left over.\n"));
    }
}
