//! Frames with descriptors over a unix stream socket.
//!
//! A frame is a length, a JSON body, and up to [`FDS_MAX`] descriptors that travel with its first
//! byte (`SCM_RIGHTS`). [`Conn`] sends and receives them under tokio, [`blocking`] without.
//!
//! Knows neither who talks nor what is said: messages are whatever serde can carry.

pub mod blocking;
mod conn;
mod error;
pub mod frame;
mod socket;

pub use conn::{Conn, Reader, Writer};
pub use error::WireError;
pub use frame::{FDS_MAX, FRAME_BYTES_MAX};
