//! A progress bar on standard error, if that is a terminal.

use std::io::IsTerminal as _;

use engine::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for one piece of long work; takes itself away when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar, unless there is no terminal or `quiet` was asked.
    pub(crate) fn new(quiet: bool) -> Bar {
        if quiet || !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Bar(Some(bar))
    }

    /// Shows how far it has come.
    pub(crate) fn show(&self, progress: Progress) {
        const KNOWN: &str =
            "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
        const UNKNOWN: &str = "{msg} {decimal_bytes} {decimal_bytes_per_sec}";
        let Some(bar) = &self.0 else { return };
        let template = if progress.total.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_message(progress.doing);
        bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
