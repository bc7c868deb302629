//! What bears an instance's name on the host: every run root has a bridge and a control group of
//! its own, so that several daemons live side by side and each knows what is its own.

use std::path::Path;

use net::InterfaceName;

/// The run root whose instance has the plain names.
const USUAL: &str = "/run/wythe";

/// `wythe0` for the usual run root; for others a name that depends on the path alone.
pub(super) fn bridge(run: &Path) -> InterfaceName {
    let name = match run == Path::new(USUAL) {
        true => "wythe0".to_owned(),
        false => format!("wy-{:08x}", hash(run)),
    };
    name.parse().expect("eleven letters and digits are an interface's name")
}

/// The control group below which an instance's sandboxes have theirs: `/wythe`, or the like.
pub(super) fn group(run: &Path) -> String {
    match run == Path::new(USUAL) {
        true => "/wythe".to_owned(),
        false => format!("/wythe-{:08x}", hash(run)),
    }
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
    fn instances_have_names_of_their_own() {
        assert_eq!(bridge(Path::new(USUAL)).to_string(), "wythe0");
        assert_eq!(group(Path::new(USUAL)), "/wythe");
        let (a, b) = (Path::new("/tmp/a"), Path::new("/tmp/b"));
        assert_ne!(bridge(a).to_string(), bridge(b).to_string());
        assert_ne!(group(a), group(b));
        assert_eq!(group(a), group(Path::new("/tmp/a")));
    }
}
