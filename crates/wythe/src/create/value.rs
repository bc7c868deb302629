//! Values that several flags take.

use std::{collections::BTreeMap, time::Duration};

use base::ByteSize;
use workload::{MemorySwap, Signal};

use crate::time;

/// `key=value` each; a key alone has the empty value.
pub(crate) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| "use a name such as TERM or a number from 1 to 64".to_owned())
}

/// A duration as Go writes it: `30s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("it cannot be negative".to_owned());
    }
    let bad = || "write a duration such as 30s or 1m30s".to_owned();
    time::go_duration(text).map(Duration::from_nanos).ok_or_else(bad)
}

/// A size; 0 is as if the flag were not there.
pub(crate) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|error: base::SizeError| error.to_string())
}

/// Memory and swap together; -1 is without limit.
pub(crate) fn memory_swap(text: &str) -> Result<MemorySwap, String> {
    match text {
        "-1" => Ok(MemorySwap::Unlimited),
        _ => size(text).map(MemorySwap::Total),
    }
}

/// A decimal number of processors, in billionths.
///
/// Source: docker/cli, `opts.ParseCPUs`.
pub(crate) fn nano_cpus(text: &str) -> Result<u64, String> {
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
