//! Where the fuzz targets get in; not an interface for anybody else.

use std::path::Path;

use oci_spec::runtime::Spec;

use super::convert;

/// A bundle's `config.json`: taken apart for the driver, or refused.
pub fn config(json: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<Spec>(json) else { return };
    let id = "box".parse().expect("it is an id");
    let _ = convert::convert(&spec, &id, Path::new("/bundle"));
}
