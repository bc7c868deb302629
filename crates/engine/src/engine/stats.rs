//! Counting what containers use.

use std::{sync::Arc, time::Duration};

use base::Deadline;
use tokio::task::JoinSet;

use super::Engine;
use crate::{
    ContainerState, ContainerStats, EngineError, HostStats, Stats, StatsQuery, actor::within,
    registry::Entry,
};

/// How long a container may take to be counted. One that takes longer is told of without figures,
/// so that it holds up the others no longer.
const COUNT_WAIT: Duration = Duration::from_secs(2);

impl Engine {
    /// What containers use now: one look at all of them at the same time.
    ///
    /// # Errors
    /// [`EngineError::Files`] if the host's own figures cannot be read.
    pub async fn stats(&self, query: &StatsQuery) -> Result<Stats, EngineError> {
        let entries = self.counted(query);
        let mut counting = JoinSet::new();
        for (at, entry) in entries.iter().enumerate() {
            let Some(sandbox) = entry.live().sandbox else { continue };
            counting.spawn(async move {
                let by = Deadline::after(COUNT_WAIT);
                (at, within(by, "counting", sandbox.usage()).await)
            });
        }
        let mut usages = vec![None; entries.len()];
        while let Some(counted) = counting.join_next().await {
            if let Ok((at, Ok(usage))) = counted {
                usages[at] = Some(usage);
            }
        }
        let host = HostStats::read()?;
        let told = entries.iter().zip(usages).map(|(entry, usage)| {
            let container = entry.container();
            let (id, name) = (container.id.clone(), container.name.clone());
            ContainerStats { id, name, state: container.state.state, usage }
        });
        Ok(Stats { host, containers: told.collect() })
    }

    fn counted(&self, query: &StatsQuery) -> Vec<Arc<Entry>> {
        if !query.who.is_empty() {
            return query.who.iter().filter_map(|who| self.find(who).ok()).collect();
        }
        let list = self.list();
        let shown = list.iter().filter(|container| match container.state.state {
            ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => true,
            ContainerState::Created
            | ContainerState::Exited
            | ContainerState::Removing
            | ContainerState::Dead => query.all,
        });
        shown.filter_map(|container| self.find(container.id.as_str()).ok()).collect()
    }
}
