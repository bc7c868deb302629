//! Moments and spans of time as Docker writes and reads them.

use std::time::Duration;

use base::clock::Timestamp;
use jiff::{
    civil,
    tz::{Offset, TimeZone},
};

fn civil(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or(jiff::Timestamp::MAX)
}

/// As `inspect` writes it (RFC 3339); Go's zero time where there is none.
pub fn rfc3339(at: Option<Timestamp>) -> String {
    match at {
        Some(at) => civil(at).to_string(),
        None => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// As `logs --timestamps` writes it: always nine decimals.
pub fn rfc3339_fixed(at: Timestamp) -> String {
    format!("{:.9}", civil(at))
}

/// As tables write it.
pub fn table(at: Timestamp) -> String {
    civil(at).strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// A moment written as in RFC 3339.
pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_nanosecond()).ok().map(Timestamp)
}

/// How long ago, or how long until, roughly and in words.
///
/// Source: docker/go-units, `HumanDuration`.
pub fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// The time from one moment to another, nothing if it runs backwards.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_nanos(to.0.saturating_sub(from.0))
}

/// What `--since` and `--until` take: RFC 3339 with or without zone (then UTC), a date, unix
/// seconds, or a Go duration back from now. Unix nanoseconds.
///
/// # Errors
/// What would be right.
pub fn moment(text: &str, now: Timestamp) -> Result<u64, String> {
    let bad = || {
        format!("\"{text}\" is no time: write 2013-01-02T13:23:37Z, unix seconds, or 42m for ago")
    };
    if let Some(at) = from_rfc3339(text) {
        return Ok(at.0);
    }
    if let Some(at) = in_utc(text) {
        return Ok(at.0);
    }
    if let Some(at) = unix(text) {
        return Ok(at);
    }
    go_duration(text).map(|ago| now.0.saturating_sub(ago)).ok_or_else(bad)
}

fn in_utc(text: &str) -> Option<Timestamp> {
    let whole = match text.parse::<civil::DateTime>() {
        Ok(whole) => whole,
        Err(_) => text.parse::<civil::Date>().ok()?.to_datetime(civil::Time::midnight()),
    };
    let at = whole.to_zoned(TimeZone::fixed(Offset::UTC)).ok()?.timestamp();
    u64::try_from(at.as_nanosecond()).ok().map(Timestamp)
}

/// Seconds since 1970, with up to nine decimals.
fn unix(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    // What is later than can be counted is never.
    Some(seconds.parse::<u64>().ok()?.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// `1h30m`, `1.5s`, `100ms`, in nanoseconds.
///
/// Source: Go's `time.ParseDuration`.
pub fn go_duration(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let fraction = fraction.get(..fraction.len().min(9))?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let digits = format!("{whole}{fraction}");
        let parts: u128 = digits.parse::<u64>().ok()?.into();
        total = total.checked_add(u64::try_from(parts * unit / scale).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_as_docker_tells_them() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (61 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), want, "{seconds}");
        }
    }

    #[test]
    fn moments_are_read_in_every_form() {
        let now = Timestamp(10_000_000_000_000);
        for (text, want) in [
            ("1970-01-01T00:00:01Z", 1_000_000_000),
            ("1970-01-01T01:00:01+01:00", 1_000_000_000),
            ("1970-01-01T00:00:01.5", 1_500_000_000),
            ("1970-01-02", 86_400_000_000_000),
            ("12", 12_000_000_000),
            ("12.000000001", 12_000_000_001),
            ("1h30m", 4_600_000_000_000),
            ("1.5s", 9_998_500_000_000),
            ("100h", 0),
        ] {
            assert_eq!(moment(text, now), Ok(want), "{text}");
        }
        for bad in ["", "soon", "5x", "-5m", "1.2.3", "m"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_written_as_go_writes_them() {
        let at = Timestamp(1_500_000_000);
        assert_eq!(rfc3339(Some(at)), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339_fixed(at), "1970-01-01T00:00:01.500000000Z");
        assert_eq!(table(at), "1970-01-01 00:00:01 +0000 UTC");
        assert_eq!(from_rfc3339("1970-01-01T00:00:01.5Z"), Some(at));
    }
}
