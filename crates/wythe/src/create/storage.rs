//! Flags about files.

use std::collections::BTreeSet;

use base::ByteSize;
use docker::spec::mount;
use engine::Create;

use super::{FlagError, Surroundings, value};

#[derive(Debug, clap::Args)]
pub(super) struct StorageFlags {
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    volume: Vec<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount")]
    mount: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    tmpfs: Vec<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    volumes_from: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string")]
    volume_driver: Option<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = value::size)]
    shm_size: Option<ByteSize>,
}

impl StorageFlags {
    pub(super) fn apply(
        self,
        create: &mut Create,
        around: &dyn Surroundings,
    ) -> Result<(), FlagError> {
        let here = || {
            around.directory().map_err(|source| FlagError::File {
                flag: "volume",
                path: ".".to_owned(),
                source,
            })
        };
        for text in &self.volume {
            let mount = mount::volume(text, &here()?);
            create.mounts.push(mount.map_err(|why| FlagError::invalid("volume", text, why))?);
        }
        for text in &self.mount {
            let mount = mount::mount(text, &here()?);
            create.mounts.push(mount.map_err(|why| FlagError::invalid("mount", text, why))?);
        }
        for text in &self.tmpfs {
            let mount = mount::tmpfs(text);
            create.mounts.push(mount.map_err(|why| FlagError::invalid("tmpfs", text, why))?);
        }
        let mut targets = BTreeSet::new();
        for mount in &create.mounts {
            if !targets.insert(&mount.target) {
                let twice = format!("two mounts at {}", mount.target.display());
                return Err(FlagError::Conflict(twice));
            }
        }
        create.volumes_from = self.volumes_from;
        create.volume_driver = self.volume_driver;
        create.read_only = self.read_only;
        create.shm_size = self.shm_size.filter(|size| size.bytes() > 0);
        Ok(())
    }
}
