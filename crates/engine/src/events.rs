//! What happened, told to everybody who listens and kept for a while for those who come later.
//!
//! ```text
//!  publish ──▶ one ring in memory ◀── a position ── listener
//!                                 ◀── a position ── listener …
//! ```
//!
//! A listener is a position in the ring and nothing else: a thousand of them cost no more memory
//! than one, and none of them can hold up whoever publishes. One that reads so slowly that the
//! ring has gone past its position is told so, and ends: it never misses an event unknowingly.

mod filter;
mod packed;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base::clock::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use filter::{EventFilter, EventQuery, EventScope, LabelFilter};
pub use stream::EventStream;

use crate::Container;
use packed::Packed;

/// Most events that are kept, for replay and for listeners that are not as fast as they come.
/// Docker keeps 256 and drops silently.
pub(crate) const KEPT_MAX: usize = 4096;

/// Most bytes of text that all kept events may have together: labels can be long.
pub(crate) const KEPT_BYTES_MAX: usize = 4 << 20;

/// Most events that are kept as they are; older ones are packed.
const YOUNG_MAX: usize = 64;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A container, or an exec in one.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The daemon itself.
    Daemon,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 5] = [
        EventKind::Container,
        EventKind::Image,
        EventKind::Volume,
        EventKind::Network,
        EventKind::Daemon,
    ];

    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::Container => "container",
            EventKind::Image => "image",
            EventKind::Volume => "volume",
            EventKind::Network => "network",
            EventKind::Daemon => "daemon",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Names and values that tell more about an event.
pub type Attributes = BTreeMap<String, String>;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What it is about.
    pub kind: EventKind,
    /// What happened, as Docker names it: `create`, `die`, `exec_start: sh -c true`.
    pub action: String,
    /// Id of the container or image, name of the volume, …
    pub actor: String,
    /// More about it, as Docker has it: `image`, `name`, labels, `exitCode`, `signal`.
    #[serde(default)]
    pub attributes: Attributes,
}

impl Event {
    /// Bytes of text in it.
    fn weight(&self) -> usize {
        let attributes: usize =
            self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.action.len() + self.actor.len() + attributes
    }
}

/// Where events are published and listened to. Cloning it gives another handle to the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    bus: Arc<Bus>,
}

#[derive(Debug)]
struct Bus {
    ring: Mutex<Ring>,
    /// How many events there have been.
    told: watch::Sender<u64>,
}

impl Default for Bus {
    fn default() -> Bus {
        Bus { ring: Mutex::default(), told: watch::Sender::new(0) }
    }
}

/// The youngest events, oldest first.
#[derive(Debug, Default)]
struct Ring {
    /// Those that few will still ask for.
    old: VecDeque<Packed>,
    /// Those that listeners are about to hear.
    young: VecDeque<Arc<Event>>,
    /// How many came before those that are kept.
    dropped: u64,
    /// Of text in all that are kept.
    bytes: usize,
}

impl Ring {
    /// Takes an event in; how many there have been with it.
    fn push(&mut self, event: Event) -> u64 {
        self.bytes += event.weight();
        self.young.push_back(Arc::new(event));
        if self.young.len() > YOUNG_MAX
            && let Some(event) = self.young.pop_front()
        {
            self.old.push_back(Packed::of(&event));
        }
        while self.kept() > KEPT_MAX || (self.bytes > KEPT_BYTES_MAX && self.kept() > 1) {
            let packed = self.old.pop_front().map(|packed| packed.unpack().weight());
            let oldest = packed.or_else(|| self.young.pop_front().map(|event| event.weight()));
            let Some(weight) = oldest else { break };
            self.bytes -= weight;
            self.dropped += 1;
        }
        self.end()
    }

    /// How many are kept.
    fn kept(&self) -> usize {
        self.old.len() + self.young.len()
    }

    /// Position of the oldest that is not packed.
    fn middle(&self) -> u64 {
        self.dropped + u64::try_from(self.old.len()).unwrap_or(u64::MAX)
    }

    /// Position behind the youngest.
    fn end(&self) -> u64 {
        self.middle() + u64::try_from(self.young.len()).unwrap_or(u64::MAX)
    }

    /// Those at a position and behind it; how many are missing before the first of them.
    fn from(&self, position: u64) -> Result<impl Iterator<Item = Arc<Event>>, u64> {
        let Some(skipped) = position.checked_sub(self.dropped) else {
            return Err(self.dropped - position);
        };
        let old = usize::try_from(skipped).unwrap_or(usize::MAX);
        let young = usize::try_from(position.saturating_sub(self.middle())).unwrap_or(usize::MAX);
        let old = self.old.range(old.min(self.old.len())..);
        let young = self.young.range(young.min(self.young.len())..);
        Ok(old.map(|packed| Arc::new(packed.unpack())).chain(young.cloned()))
    }
}

impl Events {
    /// Tells everybody. It waits for nobody.
    pub(crate) fn publish(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: Attributes,
    ) {
        let (action, actor) = (action.into(), actor.into());
        let event = Event { at: Timestamp::now(), kind, action, actor, attributes };
        let count = self.bus.ring().push(event);
        // Two who publish at once may come here in either order.
        self.bus.told.send_modify(|told| *told = count.max(*told));
    }

    /// Tells of a container: with its image, its name and its labels, as Docker has them.
    pub(crate) fn container(
        &self,
        container: &Container,
        action: impl Into<String>,
        more: &[(&str, &str)],
    ) {
        let attributes = about(container, more);
        self.publish(EventKind::Container, action, container.id.as_str(), attributes);
    }

    /// How many events there have been, as they come.
    pub(crate) fn told(&self) -> watch::Receiver<u64> {
        self.bus.told.subscribe()
    }

    /// How many listeners there are: whoever waits for news but the engine itself.
    pub(crate) fn listeners(&self) -> usize {
        self.bus.told.receiver_count().saturating_sub(1)
    }

    /// A listener.
    pub(crate) fn listen(&self, query: EventQuery, closing: watch::Receiver<bool>) -> EventStream {
        EventStream::new(Arc::clone(&self.bus), query, closing)
    }
}

impl Bus {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every event of a container says of it. What a label says does not hide what we say.
fn about(container: &Container, more: &[(&str, &str)]) -> Attributes {
    let mut attributes = container.config.labels.clone();
    attributes.insert("image".to_owned(), container.config.image.clone());
    attributes.insert("name".to_owned(), container.name.to_string());
    if container.config.isolation != workload::Isolation::Container {
        attributes.insert("isolation".to_owned(), container.config.isolation.to_string());
    }
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    attributes.extend(more);
    attributes
}
