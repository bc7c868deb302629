//! What happens while images come and go, for whoever draws it.

use base::Digest;

/// One step of a long operation, given to the caller's callback in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of the archive were read; how many will come is not known.
    Reading {
        /// Bytes so far, as they come (compressed).
        bytes: u64,
    },
    /// A layer is being written.
    Layer {
        /// The compressed layer.
        blob: Digest,
        /// Bytes of it read so far.
        bytes: u64,
        /// Its length.
        total: u64,
    },
    /// A layer is in place, written or already there.
    LayerReady {
        /// The compressed layer.
        blob: Digest,
        /// Whether it was there before.
        reused: bool,
    },
    /// So many bytes of the outgoing archive were written, of `total`.
    Writing {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in the end, but for the archive's own headers.
        total: u64,
    },
}

/// Where progress is told.
pub type Tell<'a> = &'a mut (dyn FnMut(Progress) + Send);
