//! One row of the table: a piece of work, and what it took whom.

use anyhow::Result;

use super::budget::{Budgets, Goal};

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A piece of work, measured.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What is done, as the table and the budgets name it.
    pub(crate) work: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Everybody's figures, sorted; ours first.
    pub(crate) figures: Vec<(&'static str, Vec<f64>)>,
}

pub(crate) const HEAD: &str =
    "work                               by                median       best     ratio  budget";

impl Row {
    /// A row with one figure of ours.
    pub(crate) fn ours(work: &'static str, unit: &'static str, better: Better, value: f64) -> Row {
        Row { work, unit, better, figures: vec![("wythe", vec![value])] }
    }

    /// The same with a peer's beside it.
    #[must_use]
    pub(crate) fn beside(mut self, by: &'static str, value: Option<f64>) -> Row {
        self.figures.extend(value.map(|value| (by, vec![value])));
        self
    }

    /// The figure of a contender: the median of its rounds.
    pub(crate) fn median_of(&self, by: &str) -> Option<f64> {
        let (_, values) = self.figures.iter().find(|(name, _)| *name == by)?;
        values.get(values.len() / 2).copied()
    }

    fn own(&self) -> f64 {
        self.figures.first().and_then(|(name, _)| self.median_of(name)).unwrap_or(f64::NAN)
    }

    /// How many times better ours is.
    fn ratio(&self, theirs: f64) -> f64 {
        match self.better {
            Better::Lower => theirs / self.own(),
            Better::Higher => self.own() / theirs,
        }
    }

    fn best(&self, values: &[f64]) -> f64 {
        let best = match self.better {
            Better::Lower => values.first(),
            Better::Higher => values.last(),
        };
        best.copied().unwrap_or(f64::NAN)
    }

    /// Whether every goal that can be judged is reached; none without one.
    pub(crate) fn keeps(&self, budgets: &Budgets) -> Option<bool> {
        let judge = |goal: &Goal| match &goal.times {
            None => Some(goal.admits(self.own(), 1.0)),
            // "x of a peer" counts what the figure is worth: twice the rate, half the time.
            Some(by) => self.median_of(by).map(|peer| goal.admits(self.own(), peer)),
        };
        let judged: Vec<bool> = budgets.goals(self.work).iter().filter_map(judge).collect();
        (!judged.is_empty()).then(|| judged.iter().all(|kept| *kept))
    }

    fn verdict(&self, budgets: &Budgets) -> String {
        let text = budgets.text(self.work);
        match self.keeps(budgets) {
            None => String::new(),
            Some(true) => format!("{text}: kept"),
            Some(false) => format!("{text}: MISSED"),
        }
    }

    /// Prints everybody's line.
    pub(crate) fn print(&self, budgets: &Budgets) {
        for (at, (name, values)) in self.figures.iter().enumerate() {
            let (unit, best) = (self.unit, self.best(values));
            let median = self.median_of(name).unwrap_or(f64::NAN);
            let verdict = if at == 0 { self.verdict(budgets) } else { String::new() };
            println!(
                "{:<34} {name:<10} {median:>10.2} {unit:<4} {best:>9.2} {:>8.2}x  {verdict}",
                self.work,
                self.ratio(median)
            );
        }
    }
}

/// All rows for other programs.
pub(crate) fn json(rows: &[Row], budgets: &Budgets) -> Result<String> {
    let list = rows.iter().flat_map(|row| {
        row.figures.iter().map(move |(name, values)| {
            let median = row.median_of(name).unwrap_or(f64::NAN);
            serde_json::json!({
                "work": row.work, "by": name, "unit": row.unit, "median": median,
                "best": row.best(values), "times_better_is_ours": row.ratio(median),
                "rounds": values.len(), "budget": budgets.text(row.work),
                "kept": row.keeps(budgets),
            })
        })
    });
    Ok(serde_json::to_string_pretty(&list.collect::<Vec<_>>())?)
}

/// The table of docs/benchmarks.md.
pub(crate) fn markdown(rows: &[Row], budgets: &Budgets) -> String {
    let mut text =
        "| work | Wythe | peers (how many times better ours is) | budget |\n|---|--:|---|---|\n"
            .to_owned();
    for row in rows {
        let peers = row.figures.iter().skip(1).filter_map(|(name, _)| {
            let median = row.median_of(name)?;
            Some(format!("{name} {} ({:.1} ×)", shown(median, row.unit), row.ratio(median)))
        });
        let peers = peers.collect::<Vec<_>>().join(", ");
        let own = shown(row.own(), row.unit);
        text.push_str(&format!("| {} | {own} | {peers} | {} |\n", row.work, row.verdict(budgets)));
    }
    text
}

/// A figure with as many digits as it is worth.
fn shown(value: f64, unit: &str) -> String {
    let digits = match value {
        v if v.fract() == 0.0 || v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}
