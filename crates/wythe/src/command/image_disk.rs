//! `image to-disk`: an image's files as a disk with an ext4 file system.
//!
//! ```text
//! daemon: layers, one over the other ──tar, by a pipe──▶ ext4::Filling ──▶ raw file, or qcow2
//! ```

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _, PipeReader, Read, Seek as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use base::{ByteSize, Digest};
use engine::Progress;
use ext4::{Disk, Filling, Identity, Size, TarFillError};
use rustix::fs::{CWD, Mode, OFlags, openat};
use virtio::blk::{
    SECTOR,
    qcow2::{CreateError, Packing},
};

use super::save::Part;
use crate::{connect::Endpoint, error::CliError, output::progress::Bar};

/// Bytes of the archive that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the disk's file is [default: what its name ends with]
    #[arg(long, value_enum, value_name = "string")]
    format: Option<Format>,
    /// Take the image for this platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// How large the disk is [default: what its files take, with a quarter of that free, and
    /// 64 MiB at least]
    #[arg(long, value_name = "bytes")]
    size: Option<ByteSize>,
    /// Which image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where the disk is written, or - for standard output
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

/// What a disk's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The disk's bytes and nothing else; zeros are holes
    Raw,
    /// A qcow2 image, version 3
    Qcow2,
}

/// Why no disk was made.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    #[error(transparent)]
    Fill(#[from] TarFillError),
    #[error(transparent)]
    Pack(#[from] CreateError),
    #[error("cannot set the length of the disk")]
    Length(#[source] io::Error),
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let size = self.size()?;
        if self.file.as_os_str() != "-" {
            let format = self.format.or_else(|| by_name(&self.file)).ok_or_else(no_format)?;
            let part = Part::create(&self.file)?;
            let file = part.file.try_clone();
            let file = file.map_err(|error| CliError::io("use the file", error));
            let written = match file {
                Ok(file) => self.write(to, size, format, file.into()).await,
                Err(error) => Err(error),
            };
            return part.end(written).map(|()| 0);
        }
        let format = self.format.ok_or_else(no_format)?;
        if io::stdout().is_terminal() {
            let why = "cowardly refusing to write a disk to a terminal: name a file or redirect";
            return Err(CliError::Usage(why.to_owned()));
        }
        // A disk is not written from its beginning to its end, and a pipe cannot be otherwise.
        let failed = |error| CliError::io("write the disk to standard output", error);
        let mut file = nameless().map_err(failed)?;
        self.write(to, size, format, file.try_clone().map_err(failed)?).await?;
        file.rewind().map_err(failed)?;
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        io::copy(&mut file, &mut File::from(out)).map_err(failed)?;
        Ok(0)
    }

    fn size(&self) -> Result<Size, CliError> {
        match self.size {
            None => Ok(Size::Fitting),
            Some(ByteSize(bytes)) if bytes.is_multiple_of(SECTOR) => Ok(Size::Exactly(bytes)),
            Some(ByteSize(bytes)) => {
                let why = format!("a disk of {bytes} bytes: it is a multiple of {SECTOR}");
                Err(CliError::Usage(why))
            }
        }
    }

    /// Has the daemon send the image's files, and makes the disk of them meanwhile.
    async fn write(
        &self,
        to: &Endpoint,
        size: Size,
        format: Format,
        file: File,
    ) -> Result<(), CliError> {
        let platform = self.platform.as_ref().map(ToString::to_string);
        let mut client = to.connect().await?;
        let image = client.image_inspect(&self.image, platform.clone()).await?;
        let identity = identity(&image.id)?;
        let pipe = io::pipe().map_err(|error| CliError::io("make a pipe", error))?;
        let (reader, writer) = (pipe.0, OwnedFd::from(pipe.1));
        let make = move || make(reader, file, identity, size, format);
        let making = tokio::task::spawn_blocking(make);
        let sent = client.export_image(&self.image, platform, &writer).await;
        // Nothing more comes, whatever the daemon has said.
        drop(writer);
        let made = making.await.map_err(|error| CliError::io("make the disk", error))?;
        match (sent, made) {
            // That the archive is cut off is what follows from it.
            (Err(error), Ok(()) | Err(DiskError::Fill(TarFillError::Tar(_)))) => Err(error.into()),
            (_, Err(error)) => {
                Err(CliError::io(format!("make a disk of {}", self.image), io::Error::other(error)))
            }
            (Ok(()), Ok(())) => Ok(()),
        }
    }
}

/// The format that a file's name ends with.
fn by_name(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()? {
        "raw" | "img" => Some(Format::Raw),
        "qcow2" => Some(Format::Qcow2),
        _ => None,
    }
}

fn no_format() -> CliError {
    let why = "the file's name ends neither with .qcow2 nor with .raw or .img: say --format";
    CliError::Usage(why.to_owned())
}

/// A file for what is not kept, without a name.
fn nameless() -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(CWD, std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// The disk's identity is the image's: the same image is the same disk.
///
/// Source: RFC 9562, "UUID Version 8".
fn identity(image: &str) -> Result<Identity, CliError> {
    let digest: Result<Digest, _> = image.parse();
    let digest =
        digest.map_err(|error| CliError::io("read the image's id", io::Error::other(error)))?;
    let (uuid, seed) = digest.as_bytes().split_at(16);
    let take =
        |from: &[u8]| -> [u8; 16] { std::array::from_fn(|n| from.get(n).copied().unwrap_or(0)) };
    let (mut uuid, hash_seed) = (take(uuid), take(seed));
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(Identity { uuid, hash_seed })
}

fn make(
    from: PipeReader,
    file: File,
    identity: Identity,
    size: Size,
    format: Format,
) -> Result<(), DiskError> {
    let bar = Bar::new(false, &from);
    let counting = Counting { from, done: 0, bar };
    match format {
        Format::Raw => {
            let (_, bytes) = fill(counting, &file, identity, size)?;
            file.set_len(bytes).map_err(DiskError::Length)
        }
        Format::Qcow2 => {
            let (packed, bytes) = fill(counting, Packed(Packing::new(file)), identity, size)?;
            packed.0.finish(bytes)?;
            Ok(())
        }
    }
}

fn fill<D: Disk>(
    from: Counting,
    disk: D,
    identity: Identity,
    size: Size,
) -> Result<(D, u64), TarFillError> {
    let mut filling = Filling::new(disk, identity, size)?;
    let from = BufReader::with_capacity(BUFFER_BYTES, from);
    // What is in an image was within limits when it came; all of it together may be more.
    let limits = archive::Limits {
        entries: u64::MAX,
        content_bytes: u64::MAX,
        tar_bytes: u64::MAX,
        ..archive::Limits::default()
    };
    filling.add_tar(&mut archive::tar::Archive::new(from, &limits))?;
    Ok(filling.finish()?)
}

/// A qcow2 image as a disk.
struct Packed(Packing);

impl Disk for Packed {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_at(bytes, at)
    }
}

/// What comes from the daemon, with a bar that shows how much.
struct Counting {
    from: PipeReader,
    done: u64,
    bar: Bar,
}

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.done += read as u64;
        self.bar.show(Progress {
            doing: "writing the disk".to_owned(),
            done: self.done,
            total: None,
        });
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_what_it_is() {
        assert_eq!(by_name(Path::new("a.qcow2")), Some(Format::Qcow2));
        assert_eq!(by_name(Path::new("/x/a.img")), Some(Format::Raw));
        assert_eq!(by_name(Path::new("a.vmdk")), None);
        assert_eq!(by_name(Path::new("qcow2")), None);
    }

    #[test]
    fn an_identity_is_a_uuid_and_always_the_same() {
        let id = format!("sha256:{}", "f7".repeat(32));
        let one = identity(&id).unwrap();
        assert_eq!((one.uuid[6] >> 4, one.uuid[8] >> 6), (8, 2));
        assert_eq!(one, identity(&id).unwrap());
        assert!(identity("nonsense").is_err());
    }
}
