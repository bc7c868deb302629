//! A progress bar on standard error, if that is a terminal.

use std::{io::IsTerminal as _, os::fd::AsFd};

use engine::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bytes done of bytes to do.
const KNOWN: &str =
    "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
/// Bytes done.
const UNKNOWN: &str = "{msg} {decimal_bytes} {decimal_bytes_per_sec}";
/// A step that is over in one.
const STEP: &str = "{msg}";

/// A bar for one piece of long work; takes itself away when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    /// Length of what is read, where it is a file.
    source_bytes: Option<u64>,
}

impl Bar {
    /// A bar for work on this source, unless there is no terminal or `quiet` was asked.
    pub(crate) fn new(quiet: bool, source: impl AsFd) -> Bar {
        if quiet || !std::io::stderr().is_terminal() {
            return Bar { bar: None, source_bytes: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let length = rustix::fs::fstat(source).ok().and_then(|stat| stat.st_size.try_into().ok());
        Bar { bar: Some(bar), source_bytes: length.filter(|length| *length > 0) }
    }

    /// Shows how far it has come.
    pub(crate) fn show(&self, progress: Progress) {
        let Some(bar) = &self.bar else { return };
        let total = progress.total.or(self.source_bytes);
        let template = match total {
            Some(0..=1) => STEP,
            Some(_) => KNOWN,
            None => UNKNOWN,
        };
        if bar.message() != progress.doing {
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.reset();
            bar.set_message(progress.doing);
        }
        bar.update(|state| {
            state.set_pos(progress.done);
            state.set_len(total.unwrap_or(progress.done));
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
