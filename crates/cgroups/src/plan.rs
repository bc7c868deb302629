//! Limits as a list of writes, for version 1 and version 2. Pure.

mod v1;
mod v2;

use std::borrow::Cow;

use base::ByteSize;
use workload::{BlockRate, Limits, MemoryLimits, MemorySwap};

pub(crate) use self::{v1::writes as v1_writes, v2::unified, v2::writes as v2_writes};
use crate::CgroupError;

/// One value that a group's file is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Which limit it is for, as the contract names it.
    pub(crate) what: Cow<'static, str>,
    /// Files and values, of which the first whose file is there is written: kernels and I/O
    /// schedulers differ.
    pub(crate) choices: Vec<(Cow<'static, str>, String)>,
    /// Whether a host without any of the files does what was asked anyway.
    pub(crate) optional: bool,
}

impl Write {
    fn new(
        what: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Write {
        let choices = vec![(file.into(), value.to_string())];
        Write { what: what.into(), choices, optional: false }
    }

    fn or(mut self, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Write {
        self.choices.push((file.into(), value.to_string()));
        self
    }

    fn optional(mut self) -> Write {
        self.optional = true;
        self
    }
}

/// From this many bytes on a limit is none: the kernel counts in signed numbers.
const UNLIMITED: u64 = i64::MAX.unsigned_abs();

/// A number, or the kernel's word for no limit.
fn or_unlimited(value: u64, word: &str) -> String {
    if value >= UNLIMITED { word.to_owned() } else { value.to_string() }
}

/// Memory and swap together, checked against the memory limit; `None` is unlimited.
fn swap_total(memory: &MemoryLimits, total: ByteSize) -> Result<Option<u64>, CgroupError> {
    let invalid = |why: String| CgroupError::Invalid { what: "memory.swap".into(), why };
    if total.bytes() >= UNLIMITED {
        return Ok(None);
    }
    let Some(limit) = memory.limit else {
        return Err(invalid("memory and swap together need a memory limit beside them".into()));
    };
    if total < limit {
        let (total, limit) = (total.bytes(), limit.bytes());
        return Err(invalid(format!(
            "memory and swap together ({total} bytes) are less than the memory limit ({limit})"
        )));
    }
    Ok(Some(total.bytes()))
}

/// The contract's range for block weights.
fn block_weight(weight: u16) -> Result<u16, CgroupError> {
    if (10..=1000).contains(&weight) {
        return Ok(weight);
    }
    let why = format!("{weight} is not within 10 and 1000");
    Err(CgroupError::Invalid { what: "block_weight".into(), why })
}

/// Block weights are relative to one another, so devices and groups share one check.
fn checked_rates(limits: &Limits) -> Result<&[BlockRate], CgroupError> {
    for weight in limits.block_rates.iter().filter_map(|rate| rate.weight) {
        block_weight(weight)?;
    }
    Ok(&limits.block_rates)
}

/// Processor and memory node lists, as cpuset(7) "List format" has them.
fn checked_list<'a>(what: &str, list: &'a str) -> Result<&'a str, CgroupError> {
    let good = !list.is_empty()
        && list.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b':' | b'/'));
    if good {
        return Ok(list);
    }
    let why = format!("\"{}\" is not a list such as 0-3,7", list.escape_default());
    Err(CgroupError::Invalid { what: what.into(), why })
}

/// A huge page size as the kernel writes it in file names: `2MB`.
fn checked_page_size(size: &str) -> Result<&str, CgroupError> {
    let good = size
        .strip_suffix("KB")
        .or_else(|| size.strip_suffix("MB"))
        .or_else(|| size.strip_suffix("GB"))
        .is_some_and(|n| (1..=8).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()));
    if good {
        return Ok(size);
    }
    let why = format!("\"{}\" is not a page size such as 2MB", size.escape_default());
    Err(CgroupError::Invalid { what: "hugepages".into(), why })
}

/// What version 1 can do and version 2 cannot, or the other way round.
fn unsupported(what: &str, why: &str) -> CgroupError {
    CgroupError::Unsupported { what: what.into(), why: why.into() }
}

/// Whether swap has no limit.
fn swap_unlimited(swap: Option<MemorySwap>) -> bool {
    swap == Some(MemorySwap::Unlimited)
}
