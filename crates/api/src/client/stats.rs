//! What containers use.

use engine::{Stats, StatsQuery};

use super::{Client, ClientError};
use crate::{Reply, Request};

impl Client {
    /// One look at what containers use, and at the host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stats(&mut self, query: StatsQuery) -> Result<Stats, ClientError> {
        self.ask(&Request::Stats(query), &[]).await?;
        let mut containers = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::ContainerStats(container) = reply {
            containers.push(*container);
            reply = self.hear().await?;
        }
        Ok(Stats { host: expect!(reply, HostStats)?, containers })
    }
}
