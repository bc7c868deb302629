//! The little languages that Docker's command line and its API share: what is text in both is read
//! here, for both.

pub mod host;
pub mod mount;
pub mod namespace;
pub mod port;
pub mod security;
pub mod selection;
