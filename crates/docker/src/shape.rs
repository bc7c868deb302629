//! Docker's JSON, and the words that go into it.
//!
//! The types with serde derives are wire types: exactly the shape of Docker's Engine API.

pub mod container;
mod health;
pub mod host_config;
pub mod image;
pub(crate) mod listed;
pub mod network;
pub mod pattern;
pub mod ports;
pub mod stats;
pub mod status;
pub mod volume;
