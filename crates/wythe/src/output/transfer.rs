//! Images on their way: a line for each layer on a terminal, a line for each step elsewhere, in
//! Docker's words.

use std::{collections::BTreeMap, io::IsTerminal as _};

use engine::TransferEvent;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A layer that is on its way.
const MOVING: &str = "{prefix}: {msg} [{bar:50}] {decimal_bytes}/{decimal_total_bytes}";
/// A layer that is not.
const STILL: &str = "{prefix}: {msg}";

/// What is shown of a pull or push.
#[derive(Debug)]
pub(crate) struct Transfers {
    quiet: bool,
    stdout: bool,
    /// On a terminal.
    bars: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
}

impl Transfers {
    /// Shown on standard output.
    pub(crate) fn to_stdout(quiet: bool) -> Transfers {
        let terminal = std::io::stdout().is_terminal();
        Transfers::new(quiet, true, terminal, ProgressDrawTarget::stdout())
    }

    /// Shown on standard error.
    pub(crate) fn to_stderr(quiet: bool) -> Transfers {
        let terminal = std::io::stderr().is_terminal();
        Transfers::new(quiet, false, terminal, ProgressDrawTarget::stderr())
    }

    fn new(quiet: bool, stdout: bool, terminal: bool, target: ProgressDrawTarget) -> Transfers {
        let bars = (terminal && !quiet)
            .then(|| (MultiProgress::with_draw_target(target), BTreeMap::new()));
        Transfers { quiet, stdout, bars }
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, event: &TransferEvent) {
        if self.quiet {
            return;
        }
        match step(event) {
            Step::Line(text) => self.line(&text),
            Step::Layer { id, text, bytes } => self.layer(id, text, bytes),
        }
    }

    fn line(&self, text: &str) {
        match (&self.bars, self.stdout) {
            (Some((bars, _)), _) => drop(bars.println(text)),
            // A reader who is gone is noticed by the last line.
            (None, true) => drop(super::line(text)),
            (None, false) => super::complain(text),
        }
    }

    fn layer(&mut self, id: &str, text: &str, bytes: Option<(u64, u64)>) {
        let Some((all, bars)) = &mut self.bars else {
            if bytes.is_none() {
                self.line(&format!("{id}: {text}"));
            }
            return;
        };
        let bar = bars
            .entry(id.to_owned())
            .or_insert_with(|| all.add(ProgressBar::no_length().with_prefix(id.to_owned())));
        if bar.message() != text {
            let template = if bytes.is_some() { MOVING } else { STILL };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(text.to_owned());
        }
        if let Some((done, total)) = bytes {
            bar.set_length(total);
            bar.set_position(done);
        }
        bar.tick();
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        let Some((_, bars)) = &self.bars else { return };
        // The lines stay as they are.
        bars.values().for_each(ProgressBar::abandon);
    }
}

/// How an event is shown.
#[derive(Debug, PartialEq, Eq)]
enum Step<'e> {
    Line(String),
    Layer { id: &'e str, text: &'e str, bytes: Option<(u64, u64)> },
}

fn step(event: &TransferEvent) -> Step<'_> {
    let layer = |id, text| Step::Layer { id, text, bytes: None };
    match event {
        TransferEvent::Resolving { repository, tag } => {
            Step::Line(format!("{tag}: Pulling from {repository}"))
        }
        TransferEvent::Served { host, mirror: false } => Step::Line(format!("Served by {host}")),
        TransferEvent::Served { host, mirror: true } => {
            Step::Line(format!("Served by mirror {host}"))
        }
        TransferEvent::Note { text } => Step::Line(text.clone()),
        TransferEvent::Waiting { id } => layer(id, "Pulling fs layer"),
        TransferEvent::Exists { id } => layer(id, "Already exists"),
        TransferEvent::Downloading { id, done, total } => {
            Step::Layer { id, text: "Downloading", bytes: Some((*done, *total)) }
        }
        TransferEvent::Downloaded { id } => layer(id, "Download complete"),
        TransferEvent::Extracting { id, done, total } => {
            Step::Layer { id, text: "Extracting", bytes: Some((*done, *total)) }
        }
        TransferEvent::Complete { id } => layer(id, "Pull complete"),
        TransferEvent::Refers { repository } => {
            Step::Line(format!("The push refers to repository [{repository}]"))
        }
        TransferEvent::Pushing { id, done, total } => {
            Step::Layer { id, text: "Pushing", bytes: Some((*done, *total)) }
        }
        TransferEvent::Pushed { id } => layer(id, "Pushed"),
        TransferEvent::PushExists { id } => layer(id, "Layer already exists"),
        TransferEvent::Mounted { id, from } => Step::Line(format!("{id}: Mounted from {from}")),
        TransferEvent::Digest { digest } => Step::Line(format!("Digest: {digest}")),
        TransferEvent::Tagged { tag, digest, size } => {
            Step::Line(format!("{tag}: digest: {digest} size: {size}"))
        }
        TransferEvent::Status { text } => Step::Line(format!("Status: {text}")),
    }
}
