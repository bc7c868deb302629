//! The daemon's own socket: what our command line asks, and how the daemon answers.
//!
//! One connection carries one request at a time: a client says [`Hello`], is told [`Hello`], sends
//! a [`Request`] and reads [`Reply`]s until one that [ends](Reply::ends) the answer. Who wants two
//! things at once opens two connections. Bytes of containers do not pass through here: a client
//! hands over one end of a socket pair, or an open file, and the daemon hands it on.
//!
//! [`Server`] adapts an [`engine::Engine`]; it knows no driver. [`Client`] knows no engine, only
//! its requests and views.

mod client;
mod log;
mod message;
mod network;
mod server;
mod suggest;
mod volume;

pub use client::{Client, ClientError, Socket};
pub use log::{LogReadError, LogReader};
pub use message::{Failure, Hello, PROTOCOL, Reply, Request};
pub use network::{NetworkReply, NetworkRequest};
pub use server::{Server, listen};
pub use suggest::closest;
pub use volume::{VolumeReply, VolumeRequest};
