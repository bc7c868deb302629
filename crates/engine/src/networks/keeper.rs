//! Keeps the default network as it should be while it is up: what others flush or remove of it is
//! made again, without anybody asking.
//!
//! A thread waits for the kernel to tell of a loss (`net::Watch`), lets whoever is at it come to
//! an end, and writes everything anew. Own changes are not told, so nothing goes round in circles;
//! with somebody who takes ours away again and again, the pauses grow.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use net::{Host, Watch, Watching};
use tracing::{info, warn};

use super::state::{State, Up};
use crate::{EngineError, error::chain};

/// What others do to a rule set takes several steps.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause: for so long ports may lead nowhere where somebody does not let be.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After so long without a loss, the next one is a new story.
const CALM: Duration = Duration::from_secs(30);

/// Begins to watch over the network that is up. Where that cannot be, the network works without.
pub(super) fn keep(
    host: &Arc<Host>,
    state: &Arc<Mutex<State>>,
    default: &str,
    id: &str,
    up: &Up,
) -> Option<Watching> {
    let (watch, watching) = host
        .watch(&up.network)
        .inspect_err(|error| {
            warn!(error = chain(error), "what others do to the network is not noticed");
        })
        .ok()?;
    let (host, state) = (Arc::clone(host), Arc::clone(state));
    let which = Which { id: id.to_owned(), number: up.number, default: default.to_owned() };
    let thread = thread::Builder::new().name("network".to_owned());
    thread.spawn(move || work(watch, &host, &state, &which)).ok()?;
    Some(watching)
}

/// The network that is kept.
struct Which {
    id: String,
    number: u64,
    /// The default network's id.
    default: String,
}

fn work(mut watch: Watch, host: &Host, state: &Mutex<State>, which: &Which) {
    let (mut pause, mut last) = (PAUSE, None::<Instant>);
    while let Some(heard) = watch.wait() {
        if heard.rules {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.changes += 1;
            state.up.values_mut().for_each(|up| up.passage = None);
        }
        if !heard.loss {
            continue;
        }
        pause = next_pause(pause, last.map(|last| last.elapsed()));
        if !watch.settle(pause) {
            return;
        }
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = |up: &&Up| up.number == which.number && up.watching.is_some();
        let Some(up) = state.up.get(&which.id).filter(ours) else { return };
        let mended = mend(host, &state, &which.id, &which.default);
        // What was mended is watched from here on; a bridge that is gone again is told of.
        let heeded = host.heed(&watch, &up.network);
        match mended.and_then(|()| Ok(heeded?)) {
            Ok(_) => info!("the network was changed by others and is whole again"),
            Err(error) => warn!(error = chain(&error), "the network was changed by others"),
        }
        last = Some(Instant::now());
    }
}

/// Pauses double while one loss follows the other.
fn next_pause(pause: Duration, since_last: Option<Duration>) -> Duration {
    match since_last {
        Some(since) if since < CALM => (pause * 2).min(PAUSE_MAX),
        Some(_) | None => PAUSE,
    }
}

/// Makes everything of the network anew that is missing.
pub(super) fn mend(host: &Host, state: &State, id: &str, default: &str) -> Result<(), EngineError> {
    let Some(up) = state.up.get(id) else { return Ok(()) };
    let ids = state.endpoints(id, default);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    Ok(host.restore(&up.network, &ids, &state.bridged(), &state.forwards())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_one_who_does_not_let_be_and_only_then() {
        let second = Duration::from_secs(1);
        assert_eq!(next_pause(PAUSE, None), PAUSE);
        assert_eq!(next_pause(PAUSE, Some(second)), PAUSE * 2);
        assert_eq!(next_pause(PAUSE_MAX, Some(second)), PAUSE_MAX);
        assert_eq!(next_pause(PAUSE_MAX, Some(CALM)), PAUSE);
    }
}
