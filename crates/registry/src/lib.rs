//! Image registries, as a client: OCI distribution 1.1 and Docker's registry API version 2.
//!
//! ```text
//! reference ──hosts──▶ endpoints in order ──▶ repository ──▶ manifests, blobs, uploads
//!                                                 │
//!                             challenge ──▶ tokens ┘   (each goes to the host it is for)
//! ```
//!
//! What a registry says is not trusted: every length has a limit, digests and lengths are checked
//! here or, where content streams on, by whoever takes it, and a cut connection goes on where it
//! was cut.
//!
//! Knows nothing of where images are kept, or what is in a layer.

mod blob;
pub mod challenge;
mod client;
mod credentials;
mod error;
mod exchange;
mod hosts;
mod manifest;
mod referrers;
mod retry;
mod span;
mod tags;
mod token;
mod trust;
mod upload;

pub use blob::Download;
pub use client::{Client, Repository};
pub use credentials::Credentials;
pub use error::RegistryError;
pub use hosts::{Endpoint, Hosts, HostsError};
pub use manifest::{MANIFEST_BYTES_MAX, Manifest, digest_of};
pub use referrers::Referrer;
pub use trust::{Pem, Trust};
pub use upload::{Pushed, Source};
