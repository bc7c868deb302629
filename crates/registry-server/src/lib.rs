//! A registry of images: OCI distribution 1.1, whole, and Docker's version 2 where clients still
//! speak it.
//!
//! ```text
//! request ──▶ who asks ──▶ route (path) ──▶ manifests, blobs, pushes, lists ──▶ store
//!             (htpasswd)                        │
//!                                               └─ upstream: fetched as it is asked for (mirror)
//! ```
//!
//! The store is a directory of blobs, in the form of the engine's own (`image::Blobs`), and a table
//! of who has them. What is pushed is verified while it comes, and has no name before it is whole.
//!
//! It is a process of its own: it knows no daemon, and no daemon knows it.

mod accept;
mod blobs;
mod control;
mod error;
mod htpasswd;
mod lists;
mod manifests;
mod name;
pub mod page;
mod pushes;
pub mod range;
mod reply;
pub mod route;
mod server;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod uploads;
mod upstream;
mod wire;

#[doc(hidden)]
pub mod fuzzing;

pub use control::{Ask, ControlError, ask};
pub use error::{Code, Refusal};
pub use htpasswd::{Htpasswd, HtpasswdError};
pub use name::{Name, NameError, Reference, Tag, UploadId};
pub use server::{COLLECT_EVERY, Server};
pub use store::{Collected, GRACE, Store, StoreError};
pub use table::TableError;
pub use upstream::Upstream;
