//! Where output is recorded: files of one form or the other, or a syslog server.

use std::task::Context;

use base::clock::Timestamp;
use workload::{LogDriver, LogSpec};

use super::{KeeperError, syslog::Syslog};
use crate::log::{JsonWriter, Stream, Writer};

#[derive(Debug)]
pub(super) enum Sink {
    Local(Writer),
    Json(JsonWriter),
    Syslog(Box<Syslog>),
}

impl Sink {
    pub(super) fn open(spec: &LogSpec) -> Result<Sink, KeeperError> {
        Ok(match &spec.driver {
            LogDriver::Local => Sink::Local(Writer::open(spec)?),
            LogDriver::Json { attributes, .. } => Sink::Json(JsonWriter::open(spec, attributes)?),
            LogDriver::Syslog(server) => {
                let failed = |source| KeeperError::Io { doing: "reach the syslog server", source };
                Sink::Syslog(Box::new(Syslog::open(server).map_err(failed)?))
            }
        })
    }

    /// Records a piece of output. It cannot fail and waits for nobody.
    pub(super) fn append(&mut self, at: Timestamp, stream: Stream, output: &[u8]) {
        match self {
            Sink::Local(writer) => writer.append(at, stream, output),
            Sink::Json(writer) => writer.append(at, stream, output),
            Sink::Syslog(syslog) => syslog.append(at, stream, output),
        }
    }

    /// Records beginnings of lines that otherwise wait for their ends.
    pub(super) fn write_partial(&mut self, at: Timestamp) {
        match self {
            Sink::Json(writer) => writer.write_partial(at),
            // It has no lines.
            Sink::Local(_) => {}
            // Nobody reads it here.
            Sink::Syslog(_) => {}
        }
    }

    /// Records what is left: no more output comes.
    pub(super) fn finish(&mut self, at: Timestamp) {
        match self {
            Sink::Local(writer) => writer.tell_loss(at),
            Sink::Json(writer) => writer.finish(at),
            Sink::Syslog(syslog) => syslog.finish(at),
        }
    }

    /// Sends on what waits; whether anything came of it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Sink::Local(_) | Sink::Json(_) => false,
            Sink::Syslog(syslog) => syslog.poll_send(cx),
        }
    }

    /// Whether something is left to be sent after the end.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self, Sink::Syslog(_))
    }
}
