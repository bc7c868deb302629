//! Names of groups: paths relative to a hierarchy's root that cannot leave it.

use std::{fmt, str::FromStr};

use crate::CgroupError;

/// Most levels that a name may have. The kernel's own limit is `cgroup.max.depth`.
const DEPTH_MAX: usize = 32;
/// Longest name in bytes; leaves room for a file name within `PATH_MAX`.
const NAME_BYTES_MAX: usize = 2048;
/// Longest level in bytes (`NAME_MAX`).
const LEVEL_BYTES_MAX: usize = 255;

/// Where a group stands, from the root of each hierarchy.
///
/// Invariant: 1..=32 levels joined by `/`, none empty, `.` or `..`, no control characters, no
/// leading or trailing slash; so joining it to a directory stays beneath that directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupName(Box<str>);

impl GroupName {
    /// The name without a leading slash: `wythe/1f2e`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The groups above it, nearest last: `a`, `a/b` for `a/b/c`.
    pub(crate) fn ancestors(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

/// Leading slashes are taken as written for "from the root", which a name always is.
impl FromStr for GroupName {
    type Err = CgroupError;

    fn from_str(given: &str) -> Result<GroupName, CgroupError> {
        let name = given.trim_start_matches('/');
        match fault(name) {
            None => Ok(GroupName(name.into())),
            Some(rule) => Err(CgroupError::Name { given: given.chars().take(256).collect(), rule }),
        }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it must name a group below the root");
    }
    if name.len() > NAME_BYTES_MAX || name.split('/').count() > DEPTH_MAX {
        return Some("it must be at most 2048 bytes and 32 levels");
    }
    if name.chars().any(char::is_control) {
        return Some("it must not contain control characters");
    }
    let bad = |level: &str| matches!(level, "" | "." | "..") || level.len() > LEVEL_BYTES_MAX;
    name.split('/').any(bad).then_some("its levels must be 1 to 255 bytes and none of them . or ..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_could_leave_the_hierarchy_are_refused() {
        for bad in ["", "/", "..", "/a/../b", "a//b", "a/", "./a", "a\nb", "a\0", &"a/".repeat(40)]
        {
            assert!(bad.parse::<GroupName>().is_err(), "{bad:?}");
        }
        assert_eq!("/a/b/c".parse::<GroupName>().unwrap().as_str(), "a/b/c");
    }

    #[test]
    fn ancestors_come_from_the_root_down() {
        let name: GroupName = "/a/b/c".parse().unwrap();
        assert_eq!(name.ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    proptest! {
        #[test]
        fn an_accepted_name_stays_beneath(text in "[a./\\x00-\\x20é]{0,12}") {
            if let Ok(name) = text.parse::<GroupName>() {
                let path = std::path::Path::new(name.as_str());
                prop_assert!(path
                    .components()
                    .all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }
}
