//! `vm resize`.

use base::ByteSize;
use machines::{CPUS_MAX, Kept, Machines, Spec, State, StoreError, disk};

use super::{failed, find};
use crate::{error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Memory of the machine; while it runs, at most what it was started with, and until it is
    /// started again
    #[arg(short, long, value_name = "bytes")]
    memory: Option<ByteSize>,
    /// Processors of a machine that does not run
    #[arg(long, value_name = "n", value_parser = clap::value_parser!(u8).range(1..=i64::from(CPUS_MAX)))]
    cpus: Option<u8>,
    /// Larger disk of a machine that does not run, such as 0=20G for the first; may be given
    /// several times
    #[arg(long, value_name = "n=size", value_parser = disk_size)]
    disk: Vec<(usize, u64)>,
    /// Which machine
    #[arg(value_name = "NAME")]
    name: String,
}

/// A disk by its place, and its size.
fn disk_size(text: &str) -> Result<(usize, u64), String> {
    let bad = || "write the number of a disk and its size, such as 0=20G".to_owned();
    let (index, size) = text.split_once('=').ok_or_else(bad)?;
    let bytes = size.parse::<ByteSize>().map_err(|error| error.to_string())?.bytes();
    if bytes == 0 || !bytes.is_multiple_of(512) {
        return Err("the size of a disk is a multiple of 512 bytes".to_owned());
    }
    Ok((index.parse().map_err(|_| bad())?, bytes))
}

impl Args {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        if self.memory.is_none() && self.cpus.is_none() && self.disk.is_empty() {
            return Err(CliError::Usage(
                "say what is to change: --memory, --cpus, --disk".to_owned(),
            ));
        }
        let kept = find(machines, &self.name)?;
        match kept.state().map_err(|error| failed(&error))? {
            State::Running { .. } => self.running(&kept, machines)?,
            State::Created | State::Ended(_) | State::Killed { .. } => self.stopped(kept)?,
        }
        output::line(&self.name)?;
        Ok(0)
    }

    fn running(&self, kept: &Kept, machines: &Machines) -> Result<(), CliError> {
        let (None, true, Some(memory)) = (self.cpus, self.disk.is_empty(), self.memory) else {
            let why = "processors and disks change while the machine does not run: stop it first";
            return Err(CliError::Usage(why.to_owned()));
        };
        kept.running(machines).set_memory(memory.bytes()).map_err(|error| failed(&error))
    }

    fn stopped(&self, mut kept: Kept) -> Result<(), CliError> {
        let refused = |error: StoreError| failed(&error);
        let lock = kept.lock().map_err(refused)?;
        let spec = Spec {
            cpus: self.cpus.unwrap_or(kept.spec.cpus),
            memory_bytes: self.memory.map_or(kept.spec.memory_bytes, ByteSize::bytes),
            ..kept.spec.clone()
        };
        spec.check().map_err(|error| failed(&error))?;
        for (index, bytes) in &self.disk {
            let disks = spec.disks.iter().filter(|disk| !disk.seed);
            let disk = disks.clone().nth(*index).ok_or_else(|| {
                CliError::Usage(format!("{} has {} disks, from 0 on", self.name, disks.count()))
            })?;
            disk::grow(disk, &kept.directory, *bytes).map_err(|error| failed(&error))?;
        }
        kept.change(&lock, spec).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_named_by_its_place() {
        assert_eq!(disk_size("1=8G"), Ok((1, 8 << 30)));
        for bad in ["", "8G", "a=8G", "-1=8G", "0=", "0=0", "0=100"] {
            assert!(disk_size(bad).is_err(), "{bad}");
        }
    }
}
