//! Containers that stand still only while something is done with their files.

use std::{fs, future::Future, time::Duration};

use base::ContainerId;
use tracing::warn;

use super::Engine;
use crate::{EngineError, error::chain, files::failed, registry::Entry};

/// A file in the directory of a container that stands still only while something is done with it. A
/// daemon that finds it lets the container go on.
pub(super) const STANDS_STILL: &str = "committing";

/// How often it is tried to let a container go on, and how long apart.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

impl Engine {
    /// Does something while a container that runs stands still.
    ///
    /// # Errors
    /// What the work says, and [`EngineError`] if the container does not stand still or go on.
    pub(super) async fn while_still<T>(
        &self,
        entry: &Entry,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mark = self.inner.shared.files.directory(&entry.id).join(STANDS_STILL);
        fs::write(&mark, []).map_err(failed("write", &mark))?;
        let done = match self.pause(entry.id.as_str()).await {
            Ok(()) => {
                let done = work.await;
                self.let_go_on(&entry.id).await.and(done)
            }
            Err(failure) => Err(failure),
        };
        // One that stays is looked at once more by the next daemon, and does no harm.
        fs::remove_file(&mark).ok();
        done
    }

    /// Pauses containers and takes them out of the list; all go on again if one will not.
    pub(super) async fn hold_still(
        &self,
        running: &mut Vec<ContainerId>,
    ) -> Result<Vec<ContainerId>, EngineError> {
        let mut paused = Vec::new();
        while let Some(id) = running.pop() {
            match self.pause(id.as_str()).await {
                Ok(()) => paused.push(id),
                // It has just ended, or stands still already.
                Err(EngineError::NotRunning(_) | EngineError::AlreadyPaused(_)) => {}
                Err(failure) => {
                    for id in &paused {
                        self.let_go_on(id).await.ok();
                    }
                    return Err(failure);
                }
            }
        }
        Ok(paused)
    }

    /// Lets one go on that nobody asked to pause: what refuses once may do it the next time.
    pub(super) async fn let_go_on(&self, id: &ContainerId) -> Result<(), EngineError> {
        for _ in 1..TRIES {
            match self.resume_held(id).await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    warn!(container = %id, error = chain(&failure), "it does not go on yet");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.resume_held(id).await
    }

    async fn resume_held(&self, id: &ContainerId) -> Result<(), EngineError> {
        match self.resume(id.as_str()).await {
            // It was killed, removed or resumed by somebody else meanwhile.
            Err(
                EngineError::NotRunning(_)
                | EngineError::NotPaused(_)
                | EngineError::NoSuchContainer(_),
            ) => Ok(()),
            other => other,
        }
    }
}

/// Does it to its end, even if whoever asked stops listening: a container must not stand still
/// for ever because a client was interrupted.
pub(super) async fn to_its_end<T: Send + 'static>(
    doing: &'static str,
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::spawn(work).await.unwrap_or(Err(EngineError::Failed { doing }))
}
