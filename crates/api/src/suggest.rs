//! What somebody who mistyped a name may have meant.

/// Names longer than this are not compared.
const NAME_CHARS_MAX: usize = 256;

/// The candidate that is fewest keystrokes away from `word`, if that is at most a third of its
/// length; among equals the first.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    if word.len() < 2 || word.len() > NAME_CHARS_MAX {
        return None;
    }
    let most = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count() <= NAME_CHARS_MAX)
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| (1..=most).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `from` into `to`
/// (optimal string alignment distance).
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let width = to.len() + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..width).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column) + usize::from(letter != other);
            let removed = at(&above, column + 1) + 1;
            let added = at(&line, column) + 1;
            let mut best = replaced.min(removed).min(added);
            let swapped = column > 0
                && row > 0
                && to.get(column - 1) == Some(letter)
                && from.get(row - 1) == Some(other);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let names = ["web", "database", "cache"];
        for (typed, meant) in [
            ("wbe", Some("web")),
            ("databse", Some("database")),
            ("cach", Some("cache")),
            ("web", None),
            ("mail", None),
            ("w", None),
        ] {
            assert_eq!(closest(typed, names), meant, "{typed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in "[a-d]{0,12}", b in "[a-d]{0,12}") {
            let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let there = distance(&x, &b);
            proptest::prop_assert_eq!(there, distance(&y, &a));
            proptest::prop_assert!(there <= x.len().max(y.len()));
            proptest::prop_assert!(there >= x.len().abs_diff(y.len()));
            proptest::prop_assert_eq!(there == 0, a == b);
        }
    }
}
