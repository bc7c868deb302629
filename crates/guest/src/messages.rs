//! What the agent has to say goes to the kernel's log, and from there to the console.

use std::{fmt::Write as _, fs::OpenOptions, io::Write as _};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber,
};

/// The kernel's log, as somebody who writes to it.
const LOG: &str = "/dev/kmsg";

/// Longest line; the kernel takes about a thousand bytes.
const LINE_MAX: usize = 900;

/// From now on warnings and errors are heard of.
pub(crate) fn to_the_console() {
    // Nobody else has set one.
    let _ = subscriber::set_global_default(Console);
}

struct Console;

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        // The kernel's own levels: 3 is an error, 4 a warning.
        let level = if *event.metadata().level() == Level::ERROR { 3 } else { 4 };
        let mut line = Line(format!("<{level}>wythe:"));
        event.record(&mut line);
        let mut end = line.0.len().min(LINE_MAX);
        while !line.0.is_char_boundary(end) {
            end -= 1;
        }
        line.0.truncate(end);
        line.0.push('\n');
        if let Ok(mut log) = OpenOptions::new().write(true).open(LOG) {
            // There is nobody to tell that it cannot be told.
            let _ = log.write_all(line.0.as_bytes());
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
