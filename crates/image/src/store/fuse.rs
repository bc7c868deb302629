//! A way to stop the store's disk at any step, as a kill would. Tests prove with it that every
//! step leaves a store that opens.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Steps on the disk that are still allowed. When it has blown, nothing is done any more, tidying
/// up included.
#[derive(Clone, Debug)]
pub(crate) struct Fuse(Option<Arc<AtomicU64>>);

impl Fuse {
    /// Never blows.
    pub(crate) fn never() -> Fuse {
        Fuse(None)
    }

    /// Blows after so many steps.
    #[cfg(test)]
    pub(crate) fn after(steps: u64) -> Fuse {
        Fuse(Some(Arc::new(AtomicU64::new(steps))))
    }

    pub(super) fn step(&self) -> io::Result<()> {
        let Some(left) = &self.0 else { return Ok(()) };
        let took =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        took.map(|_| ()).map_err(|_| io::Error::other("the fuse has blown"))
    }
}
