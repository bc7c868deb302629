//! What a container has said.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use base::clock::Timestamp;
use bytes::Bytes;
use engine::{EngineError, LogEntry, LogQuery, LogSource, LogStream};

use crate::{
    body::{self, Broken},
    call::Call,
    error::ApiError,
    hijack,
    query::Query,
    reply::{self, Answer},
    time,
};

/// Records go out together up to this many bytes.
const BATCH_BYTES: usize = 64 << 10;

/// How records are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// As they are, and not in frames.
    pub(super) raw: bool,
    pub(super) timestamps: bool,
}

/// `GET /containers/{}/logs`.
pub(crate) async fn logs(call: &Call) -> Answer {
    let container = call.engine().inspect(&call.name)?;
    let wanted = wanted(&call.query, Timestamp::now())?;
    let raw = container.config.terminal;
    let form = Form { raw, timestamps: call.query.flag("timestamps") };
    let records = call.engine().logs(&call.name, wanted).await?;
    let body = body::parts(Some(records), move |records| batch(records, form));
    Ok(reply::streamed(hijack::content_type(raw, call.version), body))
}

fn wanted(query: &Query, now: Timestamp) -> Result<LogQuery, ApiError> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad("Bad parameters: you must choose at least one stream"));
    }
    let moment = |name| {
        let text = query.some(name).filter(|text| *text != "0");
        text.map(|text| time::moment(text, now).map_err(ApiError::bad)).transpose()
    };
    // As with Docker, what is no number is all there is.
    let tail = query.some("tail").and_then(|text| text.parse().ok());
    let (since, until) = (moment("since")?, moment("until")?);
    Ok(LogQuery { stdout, stderr, follow: query.flag("follow"), tail, since, until })
}

/// As many records as there are, up to a batch.
async fn batch(
    records: Option<LogStream>,
    form: Form,
) -> Option<(Result<Bytes, Broken>, Option<LogStream>)> {
    let mut records = records?;
    let mut batch = Vec::new();
    while batch.len() < BATCH_BYTES {
        let next = {
            // The same future is looked at and then waited for, so that no record is lost.
            let mut next = pin!(records.next());
            match peek(next.as_mut()) {
                Poll::Ready(next) => next,
                Poll::Pending if batch.is_empty() => next.await,
                Poll::Pending => break,
            }
        };
        match next {
            Ok(Some(record)) => write(&record, form, &mut batch),
            Ok(None) if batch.is_empty() => return None,
            Ok(None) => return Some((Ok(batch.into()), None)),
            Err(failure) => return Some((Err(broken(failure)), None)),
        }
    }
    Some((Ok(batch.into()), Some(records)))
}

fn broken(failure: EngineError) -> Broken {
    failure.into()
}

/// Whether the future is done already. Who finds it pending waits for it in earnest, or drops it.
fn peek<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// One record.
pub(super) fn write(record: &LogEntry, form: Form, to: &mut Vec<u8>) {
    let stamp = if form.timestamps { time::rfc3339_fixed(record.at) + " " } else { String::new() };
    if !form.raw {
        let stream = match record.stream {
            LogSource::Stdout => 1,
            LogSource::Stderr => 2,
        };
        let length = u32::try_from(stamp.len() + record.bytes.len()).unwrap_or(u32::MAX);
        to.extend([stream, 0, 0, 0]);
        to.extend(length.to_be_bytes());
    }
    to.extend(stamp.as_bytes());
    to.extend(&record.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_and_stamped() {
        let at = Timestamp(1_500_000_000);
        let record = LogEntry { at, stream: LogSource::Stderr, bytes: b"hi\n".to_vec() };
        let written = |raw, timestamps| {
            let mut bytes = Vec::new();
            write(&record, Form { raw, timestamps }, &mut bytes);
            bytes
        };
        assert_eq!(written(true, false), b"hi\n");
        assert_eq!(written(false, false), b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(written(true, true), b"1970-01-01T00:00:01.500000000Z hi\n");
        assert_eq!(written(false, true)[7], 34);
    }

    #[test]
    fn a_stream_has_to_be_chosen() {
        let of = |text: &str| wanted(&Query::parse(text), Timestamp(0));
        assert!(of("follow=1").is_err());
        let all = of("stdout=1&tail=all&since=0").unwrap();
        assert_eq!((all.tail, all.since, all.stderr), (None, None, false));
        assert_eq!(of("stderr=1&tail=7&since=12.5").unwrap().since, Some(12_500_000_000));
    }
}
