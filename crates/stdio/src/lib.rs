//! Keeps the standard streams of one process: records its output, serves those who attach.
//!
//! [`Keeper`] stands between a process and everybody who reads its output or writes its input.
//! [`log`] is the form in which output is recorded, and how it is read back.
//!
//! Knows neither drivers nor sandboxes: it is handed descriptors and hands descriptors out.

mod descriptor;
mod keeper;
pub mod log;
mod terminal;

pub use keeper::{ATTACHED_BYTES_MAX, ATTACHED_MAX, ChildStreams, Keeper, KeeperError, StreamSpec};
pub use terminal::read_master;
