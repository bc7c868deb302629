//! A machine that is to be made: from wishes to files and a record.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base::clock::Timestamp;
use hv::Accel;
use virtio::blk::qcow2::{self, CreateError};

use crate::{
    copy::copy,
    disk::{self, Disk, DiskError, Format, Place, Wish},
    name::Name,
    net::{ADDRESS, Mac, Network, PORTS_MAX, Port},
    seed::{self, Seed, SeedError},
    spec::{self, Kernel, Spec, SpecError},
};

/// Most first root file systems of a machine.
const INITRDS_MAX: usize = 8;

/// What a machine is to be.
#[derive(Clone, Debug)]
pub struct Draft {
    /// See [`Spec`].
    pub cpus: u8,
    /// See [`Spec`].
    pub memory_bytes: u64,
    /// See [`Spec`].
    pub accel: Option<Accel>,
    /// What it boots.
    pub kernel: KernelWish,
    /// Archives of its first root file system, which are copied.
    pub initrds: Vec<PathBuf>,
    /// See [`Spec`].
    pub arguments: String,
    /// See [`Spec`].
    pub acpi: bool,
    /// Its disks.
    pub disks: Vec<Wish>,
    /// What cloud-init is told.
    pub seed: Option<SeedWish>,
    /// Its network.
    pub network: NetworkWish,
}

/// A kernel for a machine.
#[derive(Clone, Debug)]
pub enum KernelWish {
    /// One that others keep.
    Named(String),
    /// A file, which is copied.
    File(PathBuf),
}

/// What cloud-init is to be told; what is missing is made up.
#[derive(Clone, Debug)]
pub struct SeedWish {
    /// See [`Seed`].
    pub user_data: PathBuf,
    /// See [`Seed`].
    pub meta_data: Option<PathBuf>,
    /// See [`Seed`].
    pub network_config: Option<PathBuf>,
}

/// A network for a machine.
#[derive(Clone, Debug)]
pub enum NetworkWish {
    /// None.
    None,
    /// One of its own.
    User {
        /// The address of its card; a random one, if none is named.
        mac: Option<Mac>,
        /// What of the host's leads to it.
        ports: Vec<Port>,
    },
}

/// Why a machine was not made.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// It cannot be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A disk cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Cloud-init cannot be told that.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A disk was not made.
    #[error("cannot make a disk of {bytes} bytes")]
    Made {
        /// Of how many.
        bytes: u64,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// A file was not read or copied.
    #[error("cannot {doing} {}", path.display())]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too many first root file systems.
    #[error("a machine has at most {INITRDS_MAX} initrds")]
    Initrds,
    /// Too many published ports.
    #[error("a machine has at most {PORTS_MAX} published ports")]
    Ports,
    /// The same one twice.
    #[error("port {0} is published twice")]
    PortTwice(Port),
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DraftError + 'a {
    move |source| DraftError::Host { doing, path: path.to_owned(), source }
}

impl Draft {
    /// Makes all files of the machine in its directory, but the record.
    pub(crate) fn make(&self, name: &Name, directory: &Path) -> Result<Spec, DraftError> {
        if self.initrds.len() > INITRDS_MAX {
            return Err(DraftError::Initrds);
        }
        let mut spec = Spec {
            uuid: spec::uuid().map_err(failed("name", directory))?,
            created: Timestamp::now().seconds(),
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            accel: self.accel,
            kernel: self.kernel(directory)?,
            initrds: self.initrds.len(),
            arguments: self.arguments.trim().to_owned(),
            acpi: self.acpi,
            disks: Vec::new(),
            network: self.network(directory)?,
        };
        spec.check()?;
        for (index, initrd) in self.initrds.iter().enumerate() {
            copy(initrd, &initrd_file(directory, index)).map_err(failed("copy", initrd))?;
        }
        for (index, wish) in self.disks.iter().enumerate() {
            spec.disks.push(wish.fulfil(index, directory)?);
            spec.check()?;
        }
        if let Some(wish) = &self.seed {
            spec.disks.push(wish.fulfil(name, &spec, directory)?);
            spec.check()?;
        }
        // Opened once as the machine will: what cannot be is said now.
        let opened: Result<Vec<_>, _> =
            spec.disks.iter().map(|disk| disk::open(disk, directory)).collect();
        opened?;
        Ok(spec)
    }

    fn kernel(&self, directory: &Path) -> Result<Kernel, DraftError> {
        match &self.kernel {
            KernelWish::Named(name) => Ok(Kernel::Named(name.clone())),
            KernelWish::File(path) => {
                copy(path, &kernel_file(directory)).map_err(failed("copy", path))?;
                Ok(Kernel::Own(absolute(path)?))
            }
        }
    }

    fn network(&self, directory: &Path) -> Result<Network, DraftError> {
        let NetworkWish::User { mac, ports } = &self.network else { return Ok(Network::None) };
        if ports.len() > PORTS_MAX {
            return Err(DraftError::Ports);
        }
        for (index, port) in ports.iter().enumerate() {
            if ports[..index].iter().any(|before| before.host == port.host) {
                return Err(DraftError::PortTwice(*port));
            }
        }
        let mac = match mac {
            Some(mac) => *mac,
            None => Mac::random().map_err(failed("name", directory))?,
        };
        Ok(Network::User { mac, ports: ports.clone() })
    }
}

/// A machine's own kernel, and its first root file systems.
pub(crate) fn kernel_file(directory: &Path) -> PathBuf {
    directory.join("kernel")
}

pub(crate) fn initrd_file(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("initrd-{index}"))
}

impl Wish {
    fn fulfil(&self, index: usize, directory: &Path) -> Result<Disk, DraftError> {
        match self {
            Wish::There { path, format, read_only, backing } => Ok(Disk {
                format: format.map_or_else(|| disk::recognise(path), Ok)?,
                place: Place::Outside(absolute(path)?),
                read_only: *read_only,
                backing: backing.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
                seed: false,
            }),
            Wish::Made { bytes, format } => {
                let name = disk::own_name(index);
                let path = directory.join(&name);
                let file = own_file(&path).map_err(failed("make", &path))?;
                let made = match format {
                    Format::Raw => file.set_len(*bytes).map_err(CreateError::Write),
                    Format::Qcow2 => qcow2::create(&file, *bytes, None),
                };
                made.map_err(|source| DraftError::Made { bytes: *bytes, source })?;
                let place = Place::Own(name);
                Ok(Disk {
                    place,
                    format: *format,
                    read_only: false,
                    backing: Vec::new(),
                    seed: false,
                })
            }
        }
    }
}

impl SeedWish {
    fn fulfil(&self, name: &Name, spec: &Spec, directory: &Path) -> Result<Disk, DraftError> {
        let own = usernet::Addresses::default();
        let meta_data = match &self.meta_data {
            Some(path) => read(path)?,
            None => seed::meta_data(&spec.uuid, &name.host_name()),
        };
        let network_config = match (&self.network_config, &spec.network) {
            (Some(path), _) => Some(read(path)?),
            (None, Network::User { mac, .. }) => {
                let way = [own.gateway(), own.resolver()];
                Some(seed::network_config(*mac, ADDRESS, own.prefix(), way))
            }
            (None, Network::None) => None,
        };
        let all = Seed { user_data: read(&self.user_data)?, meta_data, network_config };
        let path = directory.join(disk::SEED);
        let mut file = own_file(&path).map_err(failed("make", &path))?;
        io::Write::write_all(&mut file, &all.disk()?).map_err(failed("write", &path))?;
        let place = Place::Own(disk::SEED.to_owned());
        Ok(Disk { place, format: Format::Raw, read_only: true, backing: Vec::new(), seed: true })
    }
}

/// Reads a file for cloud-init, one byte more than it may have at most.
fn read(path: &Path) -> Result<Vec<u8>, DraftError> {
    let mut bytes = Vec::new();
    let most = seed::FILE_BYTES_MAX as u64 + 1;
    let file = File::open(path).map_err(failed("open", path))?;
    io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes)
        .map_err(failed("read", path))?;
    Ok(bytes)
}

fn own_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The path from the root on: the machine's process is elsewhere.
fn absolute(path: &Path) -> Result<PathBuf, DraftError> {
    fs::canonicalize(path).map_err(failed("find", path))
}
