//! Identifiers: who is meant, in a form that is safe in paths, cgroup names and DNS labels.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a string is not an id or a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} \"{given}\" is not valid: {rule}")]
pub struct IdError {
    /// Which kind of id was meant.
    pub what: &'static str,
    /// What was given.
    pub given: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { what: $what, given: text.chars().take(256).collect(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Name of a sandbox, unique on one node.
    ///
    /// Invariant: 1..=128 bytes of `[A-Za-z0-9_.+-]` not beginning with `.` or `-`, so it is safe
    /// as a file name and a cgroup name. The engine's own ids are 64 hexadecimal digits, as
    /// Docker's are; the OCI command line takes what its callers choose, as runc does.
    SandboxId, "sandbox id",
    |text| is_word(text, 1, 128, b"_.+-"),
    "it must be 1 to 128 of [A-Za-z0-9_.+-], beginning with a letter, a digit or _"
}

id! {
    /// Name of a process within its sandbox: the container's own, or an exec's.
    ///
    /// Invariant: as [`SandboxId`].
    ProcessId, "process id",
    |text| is_word(text, 1, 128, b"_.+-"),
    "it must be 1 to 128 of [A-Za-z0-9_.+-], beginning with a letter, a digit or _"
}

id! {
    /// Id of a container: 64 lower-case hexadecimal digits, as Docker's.
    ContainerId, "container id",
    |text| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
    "it must be 64 lower-case hexadecimal digits"
}

id! {
    /// Name that a user gave a container, unique on one node.
    ///
    /// Invariant: Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, and at most 128 bytes.
    ContainerName, "container name",
    |text| is_word(text, 2, 128, b"_.-") && !text.starts_with('_'),
    "it must be 2 to 128 of [a-zA-Z0-9_.-], beginning with a letter or a digit"
}

fn is_word(text: &str, min: usize, max: usize, extra: &[u8]) -> bool {
    let first = text.bytes().next().unwrap_or(b'.');
    (min..=max).contains(&text.len())
        && (first.is_ascii_alphanumeric() || first == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
}

impl ProcessId {
    /// The process that a sandbox's container was made for; every exec has another id.
    pub fn main() -> ProcessId {
        ProcessId("main".into())
    }
}

impl ContainerId {
    /// An id from 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> ContainerId {
        ContainerId(crate::Digest::from_sha256(bytes).hex().into())
    }

    /// The first twelve digits, as tables show them.
    pub fn short(&self) -> &str {
        self.0.get(..12).expect("an id has 64 ASCII digits")
    }

    /// The sandbox that holds this container: one of its own, of the same name.
    pub fn sandbox(&self) -> SandboxId {
        SandboxId(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "-rf", "a\0", &"a".repeat(129), "ü"] {
            assert!(bad.parse::<SandboxId>().is_err(), "{bad:?}");
        }
        assert!("web-1.a_b".parse::<SandboxId>().is_ok());
    }

    #[test]
    fn container_names_follow_dockers_rule() {
        assert!("web".parse::<ContainerName>().is_ok());
        for bad in ["w", "_web", "-web", "we b", "web!"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
        }
    }
}
