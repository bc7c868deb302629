//! What Linux is built with, and whether it is here.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Something that Linux is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// What it is.
    pub name: &'static str,
    /// The package of Debian's that has it.
    pub package: &'static str,
    probe: Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// It can be run, and knows its version.
    Program,
    /// A C program can use it.
    Header,
}

const fn program(name: &'static str, package: &'static str) -> Tool {
    Tool { name, package, probe: Probe::Program }
}

/// All of them. Source: Linux 6.1 `Documentation/process/changes.rst`; `gelf.h` is for objtool.
const TOOLS: [Tool; 8] = [
    program("make", "make"),
    program("gcc", "gcc"),
    program("ld", "binutils"),
    program("flex", "flex"),
    program("bison", "bison"),
    program("bc", "bc"),
    program("gzip", "gzip"),
    Tool { name: "gelf.h", package: "libelf-dev", probe: Probe::Header },
];

/// Those that are not here.
pub(super) fn absent() -> Vec<Tool> {
    TOOLS.into_iter().filter(|tool| !tool.is_here()).collect()
}

impl Tool {
    fn is_here(&self) -> bool {
        match self.probe {
            Probe::Program => {
                let mut command = Command::new(self.name);
                command.arg("--version").stdin(Stdio::null());
                command.stdout(Stdio::null()).stderr(Stdio::null());
                command.status().is_ok()
            }
            Probe::Header => compiles(&format!("#include <{}>\n", self.name)),
        }
    }
}

/// Whether the C compiler takes a text.
fn compiles(text: &str) -> bool {
    let mut command = Command::new("gcc");
    command.args(["-fsyntax-only", "-x", "c", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut input) = child.stdin.take() {
        // If it does not read, it fails.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.success())
}

pub(super) fn names(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

pub(super) fn packages(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.package).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::BuildError;

    #[test]
    fn what_is_not_here_is_named_with_its_package() {
        assert!(!program("no-such-program-anywhere", "x").is_here());
        assert!(program("true", "coreutils").is_here());
        let missing = TOOLS.into_iter().filter(|tool| ["flex", "gelf.h"].contains(&tool.name));
        let said = BuildError::Tools(missing.collect()).to_string();
        assert_eq!(said, "building a kernel needs flex, gelf.h: apt-get install flex libelf-dev");
    }
}
