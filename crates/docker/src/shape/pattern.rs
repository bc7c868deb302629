//! Patterns of references, as `images --filter reference=…` has them.
//!
//! Source: Go's `path.Match`, distribution/reference's `FamiliarMatch`.

use super::image::{familiar, split};

/// Whether a pattern with `*` and `?` names the reference: with its tag, or without for every tag.
pub fn matches(reference: &str, pattern: &str) -> bool {
    let short = familiar(reference);
    let (repository, _) = split(reference);
    [reference, short, repository].iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()))
}

/// `*` is any run without a slash, `?` any byte but a slash.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), name.get(n)) {
            (Some(b'*'), _) => {
                back = Some((p + 1, n));
                p += 1;
            }
            (Some(b'?'), Some(byte)) if *byte != b'/' => (p, n) = (p + 1, n + 1),
            (Some(a), Some(b)) if a == b && *a != b'?' => (p, n) = (p + 1, n + 1),
            _ => match back {
                // The last star takes one byte more.
                Some((star, from)) if name.get(from) != Some(&b'/') => {
                    back = Some((star, from + 1));
                    (p, n) = (star, from + 1);
                }
                _ => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_matched_by_pattern() {
        let full = "docker.io/library/debian:bookworm";
        for (pattern, want) in [
            ("debian", true),
            ("debian:bookworm", true),
            ("deb*", true),
            ("*:book*", true),
            ("debian:bulls*", false),
            ("d?bian", true),
            (full, true),
            ("library/debian", false),
            ("", false),
        ] {
            assert_eq!(matches(full, pattern), want, "{pattern}");
        }
        assert!(matches("ghcr.io/a/b:1", "ghcr.io/*/b"));
        assert!(!matches("ghcr.io/a/b:1", "ghcr.io/*"));
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_ends(pattern in "[a*?/]{0,12}", name in "[a/]{0,24}") {
            let found = glob(pattern.as_bytes(), name.as_bytes());
            proptest::prop_assert!(!found || !pattern.is_empty() || name.is_empty());
        }

        #[test]
        fn a_name_matches_itself(name in "[a-z/:.]{0,24}") {
            proptest::prop_assert!(glob(name.as_bytes(), name.as_bytes()));
        }
    }
}
