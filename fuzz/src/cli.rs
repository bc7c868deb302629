//! What people and scripts type. Words are separated by zero bytes.

fn words(bytes: &[u8]) -> Option<Vec<&str>> {
    Some(std::str::from_utf8(bytes).ok()?.split('\0').collect())
}

/// A whole command line.
pub(crate) fn command_line(bytes: &[u8]) {
    words(bytes).iter().for_each(|words| wythe::fuzzing::command_line(words));
}

/// The words after `run`: sizes, ports, mounts and the like.
pub(crate) fn run_flags(bytes: &[u8]) {
    words(bytes).iter().for_each(|words| wythe::fuzzing::run_flags(words));
}

/// A `--format` template.
pub(crate) fn format(bytes: &[u8]) {
    std::str::from_utf8(bytes).iter().for_each(|text| wythe::fuzzing::format(text));
}
