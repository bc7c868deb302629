//! Memory that was needed for a moment goes back to the host.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::pool;

/// So long after the last event it is quiet.
const QUIET: Duration = Duration::from_millis(500);

/// Gives memory back whenever it has become quiet. While nothing happens, nothing is done; it ends
/// with the engine.
pub(crate) async fn tidy(mut told: watch::Receiver<u64>) {
    while told.changed().await.is_ok() {
        while timeout(QUIET, told.changed()).await.is_ok_and(|told| told.is_ok()) {}
        pool::run(sys::fork::trim_memory).await;
    }
}
