//! The words every other crate uses: ids, names, references, digests, sizes, deadlines, error kinds.
//!
//! Everything here is a checked value. Nothing here reads a file, a clock other than
//! [`clock`], or the environment.

pub mod clock;
mod deadline;
mod digest;
mod error;
mod ids;
pub mod reference;
mod size;

pub use deadline::Deadline;
pub use digest::{Digest, DigestError};
pub use error::{ErrorKind, chain};
pub use ids::{ContainerId, ContainerName, IdError, ProcessId, SandboxId};
pub use reference::Reference;
pub use size::{ByteSize, SizeError};
