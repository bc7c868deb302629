//! What a machine is: its record, `machine.json`.

use std::{fmt::Write as _, path::PathBuf};

use hv::Accel;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::{disk::Disk, net::Network};

/// The version of the record. It grows when a reader of the old one could not read the new.
pub(crate) const VERSION: u32 = 1;

/// Most processors of a machine.
pub const CPUS_MAX: u8 = 4;

/// Least memory of a machine: no kernel gets along with less.
pub const MEMORY_MIN: u64 = 4 << 20;

/// Memory comes in steps of 2 MiB, so that large pages fit.
pub const MEMORY_STEP: u64 = 2 << 20;

/// Most disks of a machine.
pub(crate) const DISKS_MAX: usize = 24;

/// A machine, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its identity, which it keeps for life; cloud-init knows an instance by it.
    pub uuid: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// How many processors it has.
    pub cpus: u8,
    /// How much memory it has.
    pub memory_bytes: u64,
    /// What carries out its instructions; the best there is, if none is named.
    pub accel: Option<Accel>,
    /// What it boots.
    pub kernel: Kernel,
    /// How many first root file systems it has: `initrd-0` and on in its directory.
    pub initrds: usize,
    /// Words behind those that every kernel gets.
    pub arguments: String,
    /// Whether its kernel hears of devices by ACPI, or on its command line.
    pub acpi: bool,
    /// Its disks, in the order in which the guest finds them.
    pub disks: Vec<Disk>,
    /// Its network.
    pub network: Network,
}

/// A machine's kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// One that others keep, by its name.
    Named(String),
    /// The file `kernel` in its own directory, and where that came from.
    Own(PathBuf),
}

/// Why a machine cannot be as it was wished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Too few processors, or too many.
    #[error("a machine has 1 to {CPUS_MAX} processors, and not {0}")]
    Cpus(u8),
    /// Too little memory, or too much, or uneven.
    #[error(
        "a machine has {least} MiB of memory or more, up to 1 TiB, in steps of {step} MiB, and not \
         {0} bytes",
        least = MEMORY_MIN >> 20,
        step = MEMORY_STEP >> 20
    )]
    Memory(u64),
    /// Too many disks.
    #[error("a machine has at most {DISKS_MAX} disks")]
    Disks,
    /// A zero ends a command line, a new line is none.
    #[error("the kernel's arguments are one line of text")]
    Arguments,
}

impl Spec {
    /// Whether such a machine can be.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn check(&self) -> Result<(), SpecError> {
        if !(1..=CPUS_MAX).contains(&self.cpus) {
            return Err(SpecError::Cpus(self.cpus));
        }
        let memory = self.memory_bytes;
        if !(MEMORY_MIN..=hv::memory::MEMORY_MAX).contains(&memory)
            || !memory.is_multiple_of(MEMORY_STEP)
        {
            return Err(SpecError::Memory(memory));
        }
        if self.disks.len() > DISKS_MAX {
            return Err(SpecError::Disks);
        }
        match self.arguments.chars().any(char::is_control) {
            true => Err(SpecError::Arguments),
            false => Ok(()),
        }
    }
}

/// A random identity.
///
/// Source: RFC 9562, version 4.
///
/// # Errors
/// If the kernel has no random bytes.
pub(crate) fn uuid() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) fn example() -> Spec {
    use crate::disk::{Format, Place};

    Spec {
        uuid: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned(),
        created: 1_795_305_600,
        cpus: 2,
        memory_bytes: 256 << 20,
        accel: None,
        kernel: Kernel::Named("minimal".to_owned()),
        initrds: 0,
        arguments: "quiet".to_owned(),
        acpi: true,
        disks: vec![Disk {
            place: Place::Own("disk-0".to_owned()),
            format: Format::Raw,
            read_only: false,
            backing: Vec::new(),
            seed: false,
        }],
        network: Network::User { mac: "02:00:00:00:00:01".parse().unwrap(), ports: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_cannot_be_is_refused() {
        assert_eq!(example().check(), Ok(()));
        type Change = fn(&mut Spec);
        let cases: [(Change, SpecError); 6] = [
            (|spec| spec.cpus = 0, SpecError::Cpus(0)),
            (|spec| spec.cpus = 5, SpecError::Cpus(5)),
            (|spec| spec.memory_bytes = 0, SpecError::Memory(0)),
            (|spec| spec.memory_bytes = 5 << 20, SpecError::Memory(5 << 20)),
            (|spec| spec.arguments = "a\nb".to_owned(), SpecError::Arguments),
            (|spec| spec.disks = vec![spec.disks[0].clone(); 25], SpecError::Disks),
        ];
        for (change, error) in cases {
            let mut spec = example();
            change(&mut spec);
            assert_eq!(spec.check(), Err(error));
        }
    }

    #[test]
    fn identities_differ_and_look_like_some() {
        let [a, b] = [uuid().unwrap(), uuid().unwrap()];
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
    }
}
