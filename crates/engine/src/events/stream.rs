//! One who listens.

use std::{sync::Arc, time::Duration};

use base::clock::Timestamp;
use tokio::sync::watch;

use super::{Bus, Event, EventQuery};
use crate::EngineError;

/// Events as they happen, after those that are kept and were asked for.
#[derive(Debug)]
pub struct EventStream {
    bus: Arc<Bus>,
    query: EventQuery,
    /// The next one to look at.
    position: u64,
    told: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
}

/// What a look at the ring came to.
enum Look {
    Found(Arc<Event>),
    /// There will be no more that is early enough.
    Over,
    Nothing,
}

impl EventStream {
    pub(super) fn new(
        bus: Arc<Bus>,
        query: EventQuery,
        closing: watch::Receiver<bool>,
    ) -> EventStream {
        let told = bus.told.subscribe();
        let replay = query.since.is_some() || query.until.is_some();
        let position = {
            let ring = bus.ring();
            if replay { ring.dropped } else { ring.end() }
        };
        EventStream { bus, query, position, told, closing }
    }

    /// The next one; `None` when the time is up or the engine closes.
    ///
    /// # Errors
    /// [`EngineError::EventsLost`] if this listener is too slow: it may miss no event without
    /// knowing, so it hears no more.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, EngineError> {
        loop {
            // Before the look: what comes meanwhile is seen in the next round, and the last words
            // of an engine that closes are heard.
            self.told.borrow_and_update();
            let closing = *self.closing.borrow_and_update();
            match self.look()? {
                Look::Found(event) => return Ok(Some(event)),
                Look::Over => return Ok(None),
                Look::Nothing if closing => return Ok(None),
                Look::Nothing => {}
            }
            let now = Timestamp::now().0;
            let left =
                self.query.until.map(|until| Duration::from_nanos(until.saturating_sub(now)));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let more = tokio::select! {
                told = self.told.changed() => told.is_ok(),
                closing = self.closing.changed() => closing.is_ok(),
                () = sleep(left) => true,
            };
            if !more {
                return Ok(None);
            }
        }
    }

    fn look(&mut self) -> Result<Look, EngineError> {
        let ring = self.bus.ring();
        let events = match ring.from(self.position) {
            Ok(events) => events,
            Err(missed) => return Err(EngineError::EventsLost { missed }),
        };
        for event in events {
            self.position += 1;
            if self.query.until.is_some_and(|until| event.at.0 > until) {
                return Ok(Look::Over);
            }
            let early = self.query.since.is_some_and(|since| event.at.0 < since);
            if !early && self.query.filter.wants(&event) {
                return Ok(Look::Found(event));
            }
        }
        Ok(Look::Nothing)
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
