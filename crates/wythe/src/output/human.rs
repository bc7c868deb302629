//! Sizes for people, with three significant digits or four.
//!
//! Source: docker/go-units, `HumanSizeWithPrecision` and `BytesSize`.

/// `117MB`, `4.26MB`, `0B`.
pub(crate) fn size(bytes: u64) -> String {
    with_digits(bytes, 3)
}

/// With one digit more, as totals are told: `116.9MB`.
///
/// Source: docker/go-units, `HumanSize`.
pub(crate) fn total(bytes: u64) -> String {
    with_digits(bytes, 4)
}

/// Memory, in powers of 1024: `1.944GiB`.
///
/// Source: docker/go-units, `BytesSize`.
pub(crate) fn memory(bytes: u64) -> String {
    scaled(bytes, 4, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn with_digits(bytes: u64, digits: u32) -> String {
    scaled(bytes, digits, 1000, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn scaled(bytes: u64, digits: u32, base: u64, units: [&str; 7]) -> String {
    let mut scale = 1_u64;
    let mut unit = 0;
    while bytes / scale >= base && unit + 1 < units.len() {
        scale = scale.saturating_mul(base);
        unit += 1;
    }
    // As many decimals as the whole part leaves room for.
    let decimals = match bytes / scale {
        0..10 => digits - 1,
        10..100 => digits - 2,
        100..1000 => digits - 3,
        _ => digits.saturating_sub(4),
    };
    let steps = 10_u128.pow(decimals);
    let rounded = (u128::from(bytes) * steps * 2 / u128::from(scale)).div_ceil(2);
    let (whole, rest) = (rounded / steps, rounded % steps);
    let unit = units.get(unit).copied().unwrap_or_default();
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let rest = format!("{rest:0width$}", width = usize::try_from(decimals).unwrap_or(0));
    format!("{whole}.{}{unit}", rest.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (13_256, "13.3kB"),
            (4_261_574, "4.26MB"),
            (4_500_000, "4.5MB"),
            (116_953_321, "117MB"),
            (1_094_000_000, "1.09GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
        for (bytes, want) in [(0, "0B"), (212, "212B"), (16_430_000, "16.43MB"), (1000, "1kB")] {
            assert_eq!(total(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn memory_is_told_in_powers_of_1024() {
        for (bytes, want) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (1023 << 10 | 1023, "1024KiB"),
            (2_698_000, "2.573MiB"),
            (256 << 20, "256MiB"),
            (2_087_000_000, "1.944GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(memory(bytes), want, "{bytes}");
        }
    }
}
