//! The images that this build brings along.

use std::collections::BTreeMap;

use engine::Embedded;

/// The demo program, compiled by the build script.
pub(crate) const DEMO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo"));

/// Names by which the demo program is called in its image.
const TOOLS: [&str; 28] = [
    "cat", "demo", "echo", "env", "false", "head", "hostname", "httpd", "id", "init", "ip", "kill",
    "ls", "measure", "mkdir", "mount", "nc", "ps", "pwd", "rm", "sh", "sleep", "stress", "touch",
    "true", "tty", "uname", "wc",
];

/// Each by its name.
pub(super) fn images() -> BTreeMap<String, Embedded> {
    let demo = Embedded::new(|| image::demo::archive(DEMO, &TOOLS));
    [("demo".to_owned(), demo)].into()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    fn the_demo_has_the_tools_its_image_names() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("demo");
        std::fs::write(&program, DEMO).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let help = Command::new(&program).arg("help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let names = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        assert_eq!(names.collect::<Vec<_>>(), TOOLS);
    }
}
