//! Values that several flags take.

use base::ByteSize;
use workload::{MemorySwap, Signal};

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| "use a name such as TERM or a number from 1 to 64".to_owned())
}

/// A size; 0 is as if the flag were not there.
pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|error: base::SizeError| error.to_string())
}

/// Memory and swap together; -1 is without limit.
pub(super) fn memory_swap(text: &str) -> Result<MemorySwap, String> {
    match text {
        "-1" => Ok(MemorySwap::Unlimited),
        _ => size(text).map(MemorySwap::Total),
    }
}

/// A decimal number of processors, in billionths.
///
/// Source: docker/cli, `opts.ParseCPUs`.
pub(super) fn nano_cpus(text: &str) -> Result<u64, String> {
    const DECIMALS: usize = 9;
    let bad = || "write a number of processors such as 1.5".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > DECIMALS {
        return Err("too precise: at most nine decimals".to_owned());
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(bad());
    }
    format!("{whole}{fraction:0<DECIMALS$}").parse().map_err(|_| bad())
}
