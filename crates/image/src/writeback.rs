//! Large files that go to the disk while they are being written, so that little is left to wait for
//! when they have to be there.

use std::{fs::File, os::fd::AsFd as _};

/// How much is written before it is sent to the disk.
const BYTES: u64 = 8 << 20;

/// How far a file that is written from front to back is on its way.
#[derive(Debug, Default)]
pub(crate) struct Writeback {
    begun: u64,
}

impl Writeback {
    /// All before this position was written.
    pub(crate) fn reached(&mut self, file: &File, position: u64) {
        let bytes = position.saturating_sub(self.begun);
        if bytes < BYTES {
            return;
        }
        // Where it cannot be begun now, the file's own sync does it, or says why not.
        sys::writeback::begin(file.as_fd(), self.begun, bytes).ok();
        self.begun = position;
    }
}
