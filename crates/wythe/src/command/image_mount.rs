//! `image mount` and `image unmount`: an image's files at a directory of the host, read-only.
//!
//! The daemon, whose mounts nobody else sees, hands over an overlay that is mounted nowhere; it is
//! put into its place here, in the namespace of whoever asks.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use engine::ImageMount;
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, UnmountFlags, move_mount, unmount},
};
use serde::Serialize;

use crate::{
    cli,
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Column, Format, print_list},
    },
    show::short_id,
    template::Value,
};

const COLUMNS: [Column; 3] = [("ID", "IMAGE ID"), ("Image", "IMAGE"), ("Target", "MOUNTED ON")];
const TABLE: &str = "{{.Image}}\t{{.ID}}\t{{.Target}}";

#[derive(Debug, clap::Args)]
pub(crate) struct MountArgs {
    /// Format the list using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Mount the image for this platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// Which image; without one, those that are mounted are listed
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// On which directory; without one, one is made and printed
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnmountArgs {
    /// Unmount every image
    #[arg(short, long, conflicts_with = "directories")]
    all: bool,
    /// Unmount although files are in use: they go when nobody has them open any more
    #[arg(short, long)]
    force: bool,
    /// Which directories
    #[arg(required_unless_present = "all", value_name = "DIR")]
    directories: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    target: String,
}

impl MountArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let Some(image) = self.image else { return show(to, self.format.as_deref()).await };
        let own = own_directories(to);
        let (target, made) = match &self.directory {
            Some(directory) => (existing(directory)?, false),
            None => (make_directory(&own)?, true),
        };
        let platform = self.platform.map(|platform| platform.to_string());
        match mount(to, &image, platform, &target).await {
            Ok(()) => {
                output::line(&target.display().to_string())?;
                Ok(0)
            }
            Err(error) => {
                if made {
                    let _ = fs::remove_dir(&target);
                }
                Err(error)
            }
        }
    }
}

/// Has the image mounted on the directory, or leaves nothing.
async fn mount(
    to: &Endpoint,
    image: &str,
    platform: Option<String>,
    target: &Path,
) -> Result<(), CliError> {
    let mut client = to.connect().await?;
    let namespace = fs::read_link("/proc/self/ns/mnt")
        .map_err(|error| CliError::io("look up the mount namespace", error))?;
    let mounted = client.mount_image(image, platform, target.to_owned(), namespace).await;
    let (mount, overlay) = mounted?;
    let from = overlay.as_fd();
    let moved = move_mount(from, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    drop(overlay);
    if let Err(error) = moved {
        client.image_unmounted(&mount.id).await?;
        return Err(CliError::io(format!("mount on {}", target.display()), error));
    }
    let kept = client.image_mounted(&mount.id).await;
    if kept.is_err() {
        let _ = unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    Ok(kept?)
}

async fn show(to: &Endpoint, format: Option<&str>) -> Result<u8, CliError> {
    let mounts = to.connect().await?.image_mounts().await?;
    let row = |mount: &ImageMount| {
        Value::of(&Row {
            id: short_id(&mount.image).to_owned(),
            image: mount.name.clone(),
            target: mount.target.display().to_string(),
        })
    };
    let rows: Vec<_> = mounts.iter().map(row).collect();
    print_list(&Format::parse(format), TABLE, &COLUMNS, &rows)?;
    Ok(0)
}

impl UnmountArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let mounts = client.image_mounts().await?;
        let directories = match self.all {
            true => mounts.iter().map(|mount| mount.target.clone()).collect(),
            false => self.directories,
        };
        let own = own_directories(to);
        let mut failed = false;
        for directory in directories {
            match take_down(&mounts, &directory, self.force) {
                Ok(mount) => {
                    client.image_unmounted(&mount.id).await?;
                    if mount.target.parent() == Some(&own) {
                        let _ = fs::remove_dir(&mount.target);
                    }
                    output::line(&mount.target.display().to_string())?;
                }
                Err(error) => {
                    cli::tell(&error);
                    failed = true;
                }
            }
        }
        if failed { Err(CliError::Said) } else { Ok(0) }
    }
}

/// Unmounts what is on top of the directory, if it is one of these.
fn take_down<'m>(
    mounts: &'m [ImageMount],
    directory: &Path,
    force: bool,
) -> Result<&'m ImageMount, CliError> {
    let target = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| CliError::io("read the mount table", error))?;
    let source = top_source(&table, &target);
    let mount = mounts.iter().find(|mount| Some(mount.source.as_str()) == source.as_deref());
    let Some(mount) = mount else {
        let shown = directory.display();
        return Err(CliError::Usage(match mounts.iter().any(|mount| mount.target == target) {
            true => format!("{shown} was mounted in another mount namespace, or is covered"),
            false => format!("no image is mounted on {shown}"),
        }));
    };
    let how = if force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    unmount(&target, how | UnmountFlags::NOFOLLOW)
        .map_err(|error| CliError::io(format!("unmount {}", target.display()), error))?;
    Ok(mount)
}

/// What the mount table names as source of the uppermost mount on a directory.
///
/// Source: proc_pid_mountinfo(5): mounts stand in the order in which they were made, and behind
/// the dash type and source.
fn top_source(table: &str, target: &Path) -> Option<String> {
    let mut on_it = table.lines().filter(|line| {
        let point = line.split(' ').nth(4).unwrap_or_default();
        Path::new(&unescape(point)) == target
    });
    let (_, behind) = on_it.next_back()?.split_once(" - ")?;
    behind.split(' ').nth(1).map(unescape)
}

/// Blanks and the like stand in the mount table as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, means)| text.replace(code, means))
}

/// Where directories are made for those who name none.
fn own_directories(to: &Endpoint) -> PathBuf {
    to.roots.run.join("images")
}

fn existing(directory: &Path) -> Result<PathBuf, CliError> {
    let failed = |error| CliError::io(format!("mount on {}", directory.display()), error);
    let target = directory.canonicalize().map_err(failed)?;
    if !target.is_dir() {
        return Err(failed(std::io::ErrorKind::NotADirectory.into()));
    }
    Ok(target)
}

fn make_directory(own: &Path) -> Result<PathBuf, CliError> {
    let failed = |error| CliError::io(format!("make a directory in {}", own.display()), error);
    fs::create_dir_all(own).map_err(failed)?;
    let own = own.canonicalize().map_err(failed)?;
    for number in 1_u32.. {
        let target = own.join(number.to_string());
        match fs::create_dir(&target) {
            Ok(()) => return Ok(target),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(std::io::ErrorKind::StorageFull.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mount_on_a_directory_counts() {
        let table = "30 1 0:40 / /mnt/a rw - overlay wythe-image-1 ro\n\
                     31 1 0:41 / /mnt/b\\040c rw shared:3 - overlay wythe-image-2 ro\n\
                     32 30 0:42 / /mnt/a rw - tmpfs none rw\n";
        assert_eq!(top_source(table, Path::new("/mnt/a")).as_deref(), Some("none"));
        assert_eq!(top_source(table, Path::new("/mnt/b c")).as_deref(), Some("wythe-image-2"));
        assert_eq!(top_source(table, Path::new("/mnt")), None);
    }
}
