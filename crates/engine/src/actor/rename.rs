//! Gives a container another name.

use base::ContainerName;

use super::Actor;
use crate::{EngineError, record::Record, step::Phase};

impl Actor {
    /// Gives the container another name, unless somebody has it.
    pub(super) fn rename(&mut self, name: ContainerName) -> Result<(), EngineError> {
        if matches!(self.state.phase, Phase::Removing | Phase::Dead | Phase::Gone) {
            return Err(EngineError::Removing(self.record.name.to_string()));
        }
        let registry = &self.shared.registry;
        registry.rename(&self.entry.id, &self.record.name, &name)?;
        let old = format!("/{}", self.record.name);
        let record = Record { name, ..self.record.clone() };
        if let Err(failure) = self.shared.records.put(&record) {
            // The old name has just been given up, so it is free but for a race.
            registry.rename(&self.entry.id, &record.name, &self.record.name)?;
            return Err(failure.into());
        }
        self.record = record;
        self.shared.networks.rename(&self.entry.id, self.record.name.as_str());
        self.publish();
        self.tell("rename", &[("oldName", &old)]);
        Ok(())
    }
}
