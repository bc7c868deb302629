//! Containers and images in Docker's words: the rows of tables. The JSON of `inspect` is
//! `docker::shape`.

pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod row;
pub(crate) mod stats;
pub(crate) mod usage;
pub(crate) mod volume;

#[cfg(test)]
pub(crate) use docker::fixture;
pub(crate) use docker::shape::{container, host_config, image::familiar, ports, status};

/// The first twelve digits of an image id.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}
