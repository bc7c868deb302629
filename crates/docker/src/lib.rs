//! The Docker Engine API: Docker's formats end here.
//!
//! ```text
//! bytes ──▶ server ──▶ route ──▶ an endpoint's module ──▶ engine
//!           (HTTP)     (table)   (Docker's JSON ⇄ engine's values)
//! ```
//!
//! It knows the engine and nothing below it. The streams of a container that somebody is attached
//! to do not pass through here: the client's own socket is handed down (see [`hijack`]).
//!
//! Source: the Docker Engine API 1.52, and moby's `daemon/server` for what it leaves open.

// `/info` is one long `json!`.
#![recursion_limit = "256"]

mod body;
mod call;
#[cfg(test)]
mod compat;
mod containers;
mod endpoint;
mod error;
mod events;
mod execs;
mod fields;
#[doc(hidden)]
pub mod fixture;
#[doc(hidden)]
pub mod fuzzing;
mod hijack;
mod images;
mod networks;
mod pipe;
mod platform;
mod query;
mod reply;
mod route;
mod server;
pub mod shape;
pub mod spec;
mod system;
#[cfg(test)]
mod table;
pub mod time;
pub mod top;
mod volumes;

pub use server::Server;
