//! `docs/budgets.toml`: what a change may not break quietly.
//!
//! Reads the part of TOML that the file uses: `["work"]`, then `key = "text"` lines.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};

use crate::command::root;

/// One condition of a budget: `<= 20 ms`, `>= 2 x podman`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    at_most: bool,
    number: f64,
    /// The contender whose figure the number multiplies.
    pub(crate) times: Option<String>,
}

impl Goal {
    fn parse(text: &str) -> Option<Goal> {
        let mut words = text.split_whitespace();
        let at_most = match words.next()? {
            "<=" => true,
            ">=" => false,
            _ => return None,
        };
        let number = words.next()?.parse().ok()?;
        let times = match words.next() {
            Some("x") => Some(words.collect::<Vec<_>>().join(" ")),
            Some(_) | None => None,
        };
        Some(Goal { at_most, number, times })
    }

    /// Whether a figure is within the goal, whose number counts `of`.
    pub(crate) fn admits(&self, figure: f64, of: f64) -> bool {
        let limit = self.number * of;
        if self.at_most { figure <= limit } else { figure >= limit }
    }
}

/// All budgets, by the work they are for.
#[derive(Debug)]
pub(crate) struct Budgets(BTreeMap<String, String>);

impl Budgets {
    pub(crate) fn read() -> Result<Budgets> {
        let path = root().join("docs/budgets.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Budgets::parse(&text)
    }

    fn parse(text: &str) -> Result<Budgets> {
        let mut budgets = BTreeMap::new();
        let mut work = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix("[\"").and_then(|l| l.strip_suffix("\"]")) {
                work = Some(name.to_owned());
            } else if let (Some((key, value)), Some(work)) = (line.split_once(" = "), &work) {
                let value = value.trim_matches('"').to_owned();
                if key == "budget" {
                    if value.split(", ").any(|goal| Goal::parse(goal).is_none()) {
                        bail!("docs/budgets.toml: {work}: \"{value}\" is no budget");
                    }
                    budgets.insert(work.clone(), value);
                }
            } else {
                bail!("docs/budgets.toml: \"{line}\" is not understood");
            }
        }
        Ok(Budgets(budgets))
    }

    /// The goals of a piece of work.
    pub(crate) fn goals(&self, work: &str) -> Vec<Goal> {
        self.text(work).split(", ").filter_map(Goal::parse).collect()
    }

    /// The same as it is written.
    pub(crate) fn text(&self, work: &str) -> &str {
        self.0.get(work).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_and_judged() {
        let text = "# a comment\n[\"a\"]\nbudget = \"<= 0.65 x crun\"\nmeasured_by = \"b\"\n\
                    [\"c d\"]\nbudget = \">= 200 MB/s, >= 2 x podman\"\n";
        let budgets = Budgets::parse(text).unwrap();
        let [share] = budgets.goals("a").try_into().unwrap();
        assert_eq!(share.times.as_deref(), Some("crun"));
        assert!(share.admits(6.5, 10.0) && !share.admits(6.6, 10.0));
        let [rate, times] = budgets.goals("c d").try_into().unwrap();
        assert!(rate.admits(200.0, 1.0) && !rate.admits(199.0, 1.0));
        assert!(times.admits(20.0, 10.0) && !times.admits(19.0, 10.0));
        assert!(Budgets::parse("[\"a\"]\nbudget = \"fast\"").is_err());
    }

    #[test]
    fn the_projects_own_budgets_can_be_read() {
        assert!(!Budgets::read().unwrap().0.is_empty());
    }
}
