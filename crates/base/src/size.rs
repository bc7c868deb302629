//! Sizes in bytes, as people write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Why a string is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("size \"{given}\" is not valid: write a number and b, k, m, g or t, such as 256m")]
pub struct SizeError {
    /// What was given.
    pub given: String,
}

impl ByteSize {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// Reads what Docker's flags take: a decimal number and an optional unit (`b`, `k`, `kb`, `kib`,
/// … `t`), in either case, where every unit is a power of 1024.
///
/// Source: docker/go-units, `RAMInBytes`.
impl FromStr for ByteSize {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<ByteSize, SizeError> {
        let bad = || SizeError { given: text.chars().take(64).collect() };
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(bad()),
        };
        scaled(number, 1 << shift).map(ByteSize).ok_or_else(bad)
    }
}

/// `number × unit` with at most nine decimals kept, or nothing if it does not fit.
fn scaled(number: &str, unit: u128) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let fraction = fraction.get(..fraction.len().min(9))?;
    let parts: u128 = fraction.parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    u64::try_from(u128::from(whole) * unit + parts * unit / scale).ok()
}

/// Writes at most three significant digits in powers of 1024, cut and not rounded, for messages:
/// `1.50GiB`, `256MiB`, `15.9EiB`. Tables that look like Docker's have their own way (`1.5GiB`).
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let step = (u64::BITS - self.0.leading_zeros()).saturating_sub(1) / 10;
        let unit = UNITS.get(usize::try_from(step).unwrap_or(0)).copied().unwrap_or("EiB");
        if step == 0 {
            return write!(f, "{}{unit}", self.0);
        }
        let hundredths = (u128::from(self.0) * 100) >> (10 * step);
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        match (whole, rest) {
            (_, 0) => write!(f, "{whole}{unit}"),
            (0..10, _) => write!(f, "{whole}.{rest:02}{unit}"),
            (10..100, _) => write!(f, "{whole}.{}{unit}", rest / 10),
            _ => write!(f, "{whole}{unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_dockers_flags_do() {
        let cases = [
            ("0", 0),
            ("12", 12),
            ("1k", 1024),
            ("256m", 256 << 20),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1..2", "99999999999999t", ".5"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_print_in_powers_of_1024() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.50KiB"),
            (256 << 20, "256MiB"),
            (u64::MAX, "15.9EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
