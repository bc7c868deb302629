//! What a kernel may be called.

/// Longest name.
const NAME_BYTES_MAX: usize = 128;

/// Why a name is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a kernel: up to {NAME_BYTES_MAX} letters, digits, \".\", \"_\", \"+\", \
     \"~\" and \"-\", a letter or digit first"
)]
pub struct NameError(String);

/// Checks a name.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    let right = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && name.len() <= NAME_BYTES_MAX && name.chars().all(right) {
        return Ok(());
    }
    Err(NameError(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for right in ["a", "6.1.0-56-cloud-amd64", "debian-6.1~rc1+b2", "Minimal_1"] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for wrong in ["", "-a", ".a", "a/b", "a b", "ä", &"a".repeat(129)] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
