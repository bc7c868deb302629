//! Containers and images in Docker's words: the rows of tables, and the JSON of `inspect`.
//!
//! The types with serde derives are wire types: exactly the shape of Docker's Engine API 1.50.

pub(crate) mod container;
mod health;
pub(crate) mod history;
pub(crate) mod host_config;
pub(crate) mod image;
pub(crate) mod ports;
pub(crate) mod row;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod usage;
pub(crate) mod volume;

#[cfg(test)]
pub(crate) mod fixture;

/// An image's reference as people type it: Docker Hub's names are short.
pub(crate) fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    name.strip_prefix("library/").unwrap_or(name)
}

/// The first twelve digits of an image id.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}
