//! Work that blocks: on a thread of the runtime's pool, or where there may be no more threads, here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

/// Runs what blocks; `None` if it panicked.
///
/// The pool panics where it has no thread and gets none. That must not cost a container that is
/// being started or cleared away, so the work is done on this thread then: it holds others up for
/// a moment, on a host that has other troubles.
pub(crate) fn run<T, F>(work: F) -> Pin<Box<dyn Future<Output = Option<T>> + Send>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let ours = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&ours);
    let pooled =
        catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(move || take(&theirs)())));
    let done = match pooled {
        Ok(task) => Ok(task),
        Err(_) => Err(catch_unwind(AssertUnwindSafe(|| take(&ours)())).ok()),
    };
    // In a box: what is carried may be large, and callers' own futures hold this one.
    Box::pin(async move {
        match done {
            Ok(task) => task.await.ok(),
            Err(done) => done,
        }
    })
}

fn take<F>(work: &Mutex<Option<F>>) -> F {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    work.expect("it is run once, by the pool or by us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_nothing_and_the_rest_is_done() {
        assert_eq!(run(|| 7).await, Some(7));
        assert_eq!(run(|| -> u8 { panic!("as it should") }).await, None);
    }
}
