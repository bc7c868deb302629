//! What a snapshot keeps of a server: what the guest knew and had open, by directories and names.
//!
//! It is found again where it was, in whatever directory is exported then. What is not there any
//! more is stale for the guest, as if it had been removed under it: so are files without a name.

use std::fs::File;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::{Server, files::open_flags, is_file, reopen};
use crate::fs::{
    handles, inodes,
    inodes::{NUMBER_MAX, look},
};

/// What is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    begun: bool,
    inodes: Vec<inodes::Saved>,
    handles: Vec<handles::Saved>,
}

impl Server {
    /// What the guest knows and has open.
    pub fn save(&self) -> State {
        State { begun: self.begun, inodes: self.inodes.saved(), handles: self.handles.saved() }
    }

    /// Takes over what was saved, as far as it is still there; gives how much of it is not.
    pub fn restore(&mut self, state: &State) -> usize {
        self.reset();
        self.begun = state.begun;
        let mut lost = 0;
        for saved in &state.inodes {
            lost += usize::from(self.inodes.restore(saved).is_err());
        }
        for saved in &state.handles {
            lost += usize::from(self.reopen_handle(saved).is_none());
        }
        lost
    }

    fn reopen_handle(&mut self, saved: &handles::Saved) -> Option<()> {
        self.handles.check_room().ok()?;
        if !(1..NUMBER_MAX).contains(&saved.handle) {
            return None;
        }
        let descriptor = self.inodes.get(saved.node).ok()?;
        if saved.directory {
            let directory = reopen(&descriptor, OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
            self.handles.add_directory(directory, saved.node).ok()?;
        } else {
            let flags = open_flags(saved.flags).ok()?;
            let writes = flags.intersects(OFlags::RWMODE);
            if !is_file(&look(&*descriptor).ok()?) || (self.read_only && writes) {
                return None;
            }
            let file = File::from(reopen(&descriptor, flags).ok()?);
            self.handles.add_file(file, saved.node, flags).ok()?;
        }
        self.handles.renumber(saved.handle);
        Some(())
    }
}
