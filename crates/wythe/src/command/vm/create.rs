//! `vm create`.

use std::path::PathBuf;

use base::ByteSize;
use machines::{
    CPUS_MAX, Draft, KernelWish, Machines, Name, NetworkWish, SeedWish, disk,
    net::{Mac, Port},
};

use super::{accel::Accel, failed};
use crate::{
    command::kernel,
    connect::Endpoint,
    error::{CliError, chain},
    output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A kernel of "wythe kernel ls", or a file (bzImage or ELF), which is copied; without it, the
    /// one that is used unless another is named
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// An archive of the first root file system (cpio), which is copied; may be given several
    /// times
    #[arg(long, value_name = "file")]
    initrd: Vec<PathBuf>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "words", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// A disk: a file, or path=FILE with format=raw|qcow2, ro and backing=FILE, or size=SIZE for a
    /// new one; may be given several times
    #[arg(long, value_name = "disk")]
    disk: Vec<disk::Wish>,
    /// What cloud-init is to do (user-data); it gets a disk with the label CIDATA
    #[arg(long, value_name = "file")]
    cloud_init: Option<PathBuf>,
    /// Who the machine is, for cloud-init; its name and identity, if not given
    #[arg(long, value_name = "file", requires = "cloud_init")]
    meta_data: Option<PathBuf>,
    /// What its network is, for cloud-init; that of --network, if not given
    #[arg(long, value_name = "file", requires = "cloud_init")]
    network_config: Option<PathBuf>,
    /// Memory of the machine
    #[arg(short, long, value_name = "bytes", default_value = "256m")]
    memory: ByteSize,
    /// Processors of the machine
    #[arg(long, value_name = "n", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(CPUS_MAX)))]
    cpus: u8,
    /// What carries out its instructions
    #[arg(long, value_enum, value_name = "accelerator", default_value_t)]
    accel: Accel,
    /// Tell the kernel of its devices on its command line instead of by ACPI
    #[arg(long)]
    no_acpi: bool,
    /// The machine's network: "user", its own that leads to the world, or "none"
    #[arg(long, value_name = "network", default_value = "user")]
    network: String,
    /// Lead a TCP port of the host's to the machine ([ADDRESS:]HOST:GUEST); may be given several
    /// times
    #[arg(short, long, value_name = "ports")]
    publish: Vec<Port>,
    /// The address of its network card; a random one, if not given
    #[arg(long, value_name = "address")]
    mac: Option<Mac>,
    /// What the machine is called
    #[arg(value_name = "NAME")]
    name: Name,
}

impl Args {
    pub(super) fn run(self, endpoint: &Endpoint, machines: &Machines) -> Result<u8, CliError> {
        let name = self.name.clone();
        let draft = self.draft(endpoint)?;
        machines.create(&name, &draft).map_err(|error| failed(&error))?;
        output::line(name.as_str())?;
        Ok(0)
    }

    fn draft(self, endpoint: &Endpoint) -> Result<Draft, CliError> {
        let network = network(&self.network, self.mac, self.publish).map_err(CliError::Usage)?;
        let (meta_data, network_config) = (self.meta_data, self.network_config);
        let seed =
            self.cloud_init.map(|user_data| SeedWish { user_data, meta_data, network_config });
        Ok(Draft {
            cpus: self.cpus,
            memory_bytes: self.memory.bytes(),
            accel: self.accel.choice(),
            kernel: kernel_wish(self.kernel, endpoint)?,
            initrds: self.initrd,
            arguments: self.append,
            acpi: !self.no_acpi,
            disks: self.disk,
            seed,
            network,
        })
    }
}

/// The network that a word means.
fn network(word: &str, mac: Option<Mac>, ports: Vec<Port>) -> Result<NetworkWish, String> {
    match word {
        "user" => Ok(NetworkWish::User { mac, ports }),
        "none" if mac.is_none() && ports.is_empty() => Ok(NetworkWish::None),
        "none" => Err("a machine without a network has no card and publishes no port".to_owned()),
        "bridge" | "host" => Err(format!(
            "--network {word}: a machine of its own is not on a network of containers; it has \
             \"user\" or \"none\""
        )),
        other => Err(format!(
            "--network {other}: machines are not on the networks of \"wythe network ls\" yet; they \
             have \"user\" or \"none\""
        )),
    }
}

/// The kernel that was named: in the store, or else a file. The default is recorded by its name,
/// so that the machine keeps its kernel when another becomes the default.
fn kernel_wish(named: Option<String>, endpoint: &Endpoint) -> Result<KernelWish, CliError> {
    let store = kernel::store(&endpoint.roots);
    let found = match named {
        Some(name) if name.contains('/') => return Ok(KernelWish::File(name.into())),
        Some(name) => match store.find(&name) {
            Err(kernels::StoreError::NotFound(_)) if std::path::Path::new(&name).is_file() => {
                return Ok(KernelWish::File(name.into()));
            }
            found => found.map(Some),
        },
        None => store.default(),
    };
    match found.map_err(|error| CliError::Usage(chain(&error)))? {
        Some(kernel) => Ok(KernelWish::Named(kernel.manifest.name)),
        None => {
            Err(CliError::Usage("there is no kernel: wythe kernel pull fetches one".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_containers_are_refused_by_name() {
        assert!(matches!(network("user", None, Vec::new()), Ok(NetworkWish::User { .. })));
        assert!(matches!(network("none", None, Vec::new()), Ok(NetworkWish::None)));
        let published = vec!["80:80".parse().unwrap()];
        assert!(network("none", None, published).is_err());
        for word in ["bridge", "front", "host"] {
            let error = network(word, None, Vec::new()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
