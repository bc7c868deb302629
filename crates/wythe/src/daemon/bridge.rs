//! The default bridge's name: every instance on a host has one of its own.

use std::path::Path;

use net::InterfaceName;

/// `wythe0` for the usual run root; for others a name that depends on the path alone.
pub(super) fn name(run: &Path) -> InterfaceName {
    let usual = run == Path::new("/run/wythe");
    let name = if usual { "wythe0".to_owned() } else { format!("wy-{:08x}", hash(run)) };
    name.parse().expect("eleven letters and digits are an interface's name")
}

/// FNV-1a, 32 bits: short, and the same in every build.
fn hash(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes
        .iter()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_bridges_of_their_own() {
        assert_eq!(name(Path::new("/run/wythe")).to_string(), "wythe0");
        let (a, b) = (name(Path::new("/tmp/a")), name(Path::new("/tmp/b")));
        assert_ne!(a.to_string(), b.to_string());
        assert_eq!(a.to_string(), name(Path::new("/tmp/a")).to_string());
    }
}
