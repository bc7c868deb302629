//! Which bytes: of a blob that is read (`Range`), and of one that is sent (`Content-Range`). Pure.

/// What of a blob is wanted. Ends are inclusive, as in the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, which are there.
    Part {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// None that are there.
    Nothing,
}

/// Reads `Range`. What is not understood, several ranges included, is ignored, as it may be.
///
/// Source: RFC 9110, section 14.2.
pub fn wanted(header: Option<&str>, bytes: u64) -> Wanted {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    let end = bytes.checked_sub(1);
    match (first, last, end) {
        ("", last, _) => match (number(last), end) {
            (None, _) => Wanted::Whole,
            (Some(0), _) | (_, None) => Wanted::Nothing,
            (Some(count), Some(end)) => {
                Wanted::Part { first: bytes.saturating_sub(count), last: end }
            }
        },
        (first, last, end) => {
            let Some(first) = number(first) else { return Wanted::Whole };
            let last = match last {
                "" => Some(u64::MAX),
                last => number(last),
            };
            match (last, end) {
                (None, _) => Wanted::Whole,
                (Some(last), _) if last < first => Wanted::Whole,
                (Some(last), Some(end)) if first <= end => {
                    Wanted::Part { first, last: last.min(end) }
                }
                (Some(_), _) => Wanted::Nothing,
            }
        }
    }
}

/// The bytes of an upload that a request brings, both ends inclusive.
///
/// Source: distribution-spec 1.1, "Pushing a blob in chunks": `<first>-<last>`; RFC 9110's form
/// `bytes <first>-<last>/<length>` is understood too.
pub fn brought(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range =
        range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches([' ', '=']));
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// What `Range` says of an upload that has so many bytes. Of an empty one it is `0-0`, as clients
/// know it.
pub fn standing(bytes: u64) -> String {
    format!("0-{}", bytes.saturating_sub(1))
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let part = |first, last| Wanted::Part { first, last };
        for (header, bytes, want) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=3-", 10, part(3, 9)),
            ("bytes=3-99", 10, part(3, 9)),
            ("bytes=-4", 10, part(6, 9)),
            ("bytes=-40", 10, part(0, 9)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("bytes=5-4", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("lines=0-1", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), bytes), want, "{header} of {bytes}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
    }

    #[test]
    fn what_is_brought_has_a_beginning_and_an_end() {
        assert_eq!(brought("0-99"), Some((0, 99)));
        assert_eq!(brought("bytes 5-6/7"), Some((5, 6)));
        assert_eq!(brought("bytes=5-6"), Some((5, 6)));
        for bad in ["", "-", "1-", "-1", "2-1", "+1-2", "0x1-2", "0-18446744073709551615", "1-2-3"]
        {
            assert_eq!(brought(bad), None, "{bad}");
        }
        assert_eq!(
            (standing(0), standing(1), standing(10)),
            ("0-0".into(), "0-0".into(), "0-9".into())
        );
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_blob(header in "bytes=[0-9]{0,4}-[0-9]{0,4}|\\PC{0,20}", bytes in 0_u64..2000) {
            if let Wanted::Part { first, last } = wanted(Some(&header), bytes) {
                prop_assert!(first <= last && last < bytes);
            }
        }

        #[test]
        fn what_is_brought_does_not_overflow(header in "[0-9]{1,20}-[0-9]{1,20}|\\PC{0,20}") {
            if let Some((first, last)) = brought(&header) {
                prop_assert!(first <= last && (last - first).checked_add(1).is_some());
            }
        }
    }
}
