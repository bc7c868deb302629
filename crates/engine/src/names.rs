//! Names for containers that nobody named: an adjective and somebody who advanced computing,
//! mathematics or the sciences around them.

mod words;

use base::ContainerName;
use words::{ADJECTIVES, SURNAMES};

/// A name from a random number. From `attempt` 3 on it ends in a digit, as Docker's does, so that
/// a host with very many containers finds a free one.
pub(crate) fn generate(random: u64, attempt: u32) -> ContainerName {
    let pick = |words: &[&'static str], random: u64| {
        let length = u64::try_from(words.len()).expect("a list's length fits 64 bits");
        let at = usize::try_from(random % length).expect("it is below a list's length");
        words.get(at).copied().expect("it is below the list's length")
    };
    let (adjective, surname) = (pick(ADJECTIVES, random), pick(SURNAMES, random >> 32));
    let name = match attempt {
        0..3 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", (random >> 16) % 10),
    };
    name.parse().expect("the words are letters, and no name is too long")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_makes_a_name() {
        for words in [ADJECTIVES, SURNAMES] {
            for word in words {
                assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
                assert!((2..=20).contains(&word.len()), "{word}");
            }
            let distinct: BTreeSet<_> = words.iter().collect();
            assert_eq!(distinct.len(), words.len(), "a word stands there twice");
        }
        assert!(ADJECTIVES.len() >= 100 && SURNAMES.len() >= 200);
        assert_eq!(generate(0, 0).as_str(), format!("{}_{}", ADJECTIVES[0], SURNAMES[0]));
        assert!(generate(u64::MAX, 3).as_str().ends_with(|c: char| c.is_ascii_digit()));
    }
}
