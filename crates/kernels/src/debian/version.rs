//! Which of two versions is the later one.
//!
//! Source: Debian Policy 4.7, section 5.6.12; deb-version(7).

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a) = epoch(a);
    let (b_epoch, b) = epoch(b);
    let (a, a_revision) = a.rsplit_once('-').unwrap_or((a, ""));
    let (b, b_revision) = b.rsplit_once('-').unwrap_or((b, ""));
    by_number(a_epoch, b_epoch).then_with(|| part(a, b)).then_with(|| part(a_revision, b_revision))
}

fn epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("0", version))
}

/// Runs of other characters and runs of digits in turn.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, b_text);
        (a_text, a) = split(a, |byte| !byte.is_ascii_digit());
        (b_text, b) = split(b, |byte| !byte.is_ascii_digit());
        let (a_digits, b_digits);
        (a_digits, a) = split(a, |byte| byte.is_ascii_digit());
        (b_digits, b) = split(b, |byte| byte.is_ascii_digit());
        let order = by_text(a_text, b_text).then_with(|| by_number(a_digits, b_digits));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn split(text: &str, belongs: impl Fn(&u8) -> bool) -> (&str, &str) {
    let count = text.bytes().take_while(|byte| belongs(byte)).count();
    text.split_at_checked(count).unwrap_or((text, ""))
}

/// A tilde before the end, the end before letters, letters before everything else.
fn by_text(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(other) => i32::from(other) + 256,
    };
    let (mut a, mut b) = (a.bytes(), b.bytes());
    loop {
        let pair = (a.next(), b.next());
        if pair == (None, None) {
            return Ordering::Equal;
        }
        let order = weight(pair.0).cmp(&weight(pair.1));
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Digits of any number.
fn by_number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let in_order = [
            "5.10-1",
            "6.1~rc1-1",
            "6.1~rc1-2",
            "6.1-1",
            "6.1-1+b1",
            "6.1.9-1",
            "6.1.10-1",
            "6.1.187-1",
            "6.1.192-1",
            "6.1.192-2",
            "6.1.192-2a",
            "6.1.192-2+deb12u1",
            "6.12.1-1~bpo12+1",
            "6.12.1-1",
            "1:1.0-1",
            "2:0",
        ];
        for pair in in_order.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (a, b) in [("1.0", "1.0-0"), ("0:1", "1"), ("1.00", "1.0"), ("1.0-", "1.0")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[0-9a~.+:é-]{0,9}", b in "[0-9a~.+:é-]{0,9}", c in "[0-9a~.-]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }
    }
}
