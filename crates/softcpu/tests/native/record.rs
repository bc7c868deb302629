//! A case with a host's answer, as one line of text.

use std::{fmt, str::FromStr};

use crate::{
    host::{DATA_LEN, Event, Outcome, State},
    integer::{Case, FRESH, FRESH_LEN},
};

/// A case and how it ended on a host.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) case: Case,
    pub(crate) outcome: Outcome,
    /// Bytes of the data pages that are other than before.
    changed: Vec<(usize, u8)>,
}

impl Record {
    /// From the data pages as they are afterwards.
    pub(crate) fn new(case: Case, outcome: Outcome, data: &[u8]) -> Record {
        let was = before(&case);
        let differs = |&(at, byte): &(usize, u8)| was[at] != byte;
        let changed = data.iter().copied().enumerate().filter(differs).collect();
        Record { case, outcome, changed }
    }

    /// Where these data pages are other than the host's: the place, the host's byte and this one.
    pub(crate) fn difference(&self, ours: &[u8]) -> Option<(usize, u8, u8)> {
        let mut theirs = before(&self.case);
        for &(at, byte) in &self.changed {
            theirs[at] = byte;
        }
        let at = theirs.iter().zip(ours).position(|(a, b)| a != b)?;
        Some((at, theirs[at], ours[at]))
    }
}

fn before(case: &Case) -> Vec<u8> {
    let mut data = vec![0; DATA_LEN];
    data[FRESH..FRESH + FRESH_LEN].copy_from_slice(&case.data);
    data
}

/// `code flags fs gs gpr,… data → event rip flags gpr,… at=byte,…`: all in hexadecimal; of the
/// registers afterwards, those that changed, as `number=value`.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { code, gpr, flags, bases: [fs, gs], data } = &self.case;
        hex(f, code)?;
        write!(f, " {flags:x} {fs:x} {gs:x} ")?;
        list(f, gpr.iter().map(|value| format!("{value:x}")))?;
        write!(f, " ")?;
        hex(f, data)?;
        match self.outcome.event {
            Event::Done => write!(f, " -> done")?,
            Event::Signal { number, address, .. } => write!(f, " -> {number:x}@{address:x}")?,
        }
        let after = &self.outcome.state;
        write!(f, " {:x} {:x} ", self.outcome.rip, after.flags)?;
        let pairs = gpr.iter().zip(&after.gpr).enumerate().filter(|(_, (a, b))| a != b);
        list(f, pairs.map(|(n, (_, value))| format!("{n:x}={value:x}")))?;
        write!(f, " ")?;
        list(f, self.changed.iter().map(|(at, byte)| format!("{at:x}={byte:x}")))
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn list(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = String>) -> fmt::Result {
    let items: Vec<_> = items.collect();
    f.write_str(if items.is_empty() { "-" } else { "" })?;
    f.write_str(&items.join(","))
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Record, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [code, flags, fs, gs, gpr, data, "->", event, rip, after, registers, bytes] = words[..]
        else {
            return Err(format!("{} words: {line}", words.len()));
        };
        let values = gpr.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
        let case = Case {
            code: unhex(code)?,
            gpr: values.try_into().map_err(|_| "sixteen registers".to_owned())?,
            flags: number(flags)?,
            bases: [number(fs)?, number(gs)?],
            data: unhex(data)?.try_into().map_err(|_| "the fresh bytes".to_owned())?,
        };
        let mut state =
            State { gpr: case.gpr, flags: number(after)?, bases: case.bases, fpu: None };
        for (n, value) in pairs(registers)? {
            *state.gpr.get_mut(n).ok_or("a register")? = value;
        }
        let changed = pairs(bytes)?
            .into_iter()
            .map(|(at, byte)| Ok((at, u8::try_from(byte).map_err(|_| "a byte")?)))
            .collect::<Result<_, String>>()?;
        let event = match event.split_once('@') {
            None => Event::Done,
            Some((signal, address)) => Event::Signal {
                number: i32::from_str_radix(signal, 16).map_err(|error| error.to_string())?,
                code: 0,
                address: number(address)?,
            },
        };
        let outcome = Outcome { state, rip: number(rip)?, event };
        Ok(Record { case, outcome, changed })
    }
}

fn number(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|error| format!("{text}: {error}"))
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    (0..text.len() / 2)
        .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|error| error.to_string()))
        .collect()
}

fn pairs(text: &str) -> Result<Vec<(usize, u64)>, String> {
    if text == "-" {
        return Ok(Vec::new());
    }
    let pair = |item: &str| {
        let (n, value) = item.split_once('=').ok_or(format!("no pair: {item}"))?;
        Ok((usize::from_str_radix(n, 16).map_err(|error| error.to_string())?, number(value)?))
    };
    text.split(',').map(pair).collect()
}
