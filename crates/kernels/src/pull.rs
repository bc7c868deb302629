//! A kernel of Debian's into the store.

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use archive::EntryKind;
use base::ErrorKind;

use crate::{
    Added, Draft, Settings, Source, Staging, Store, StoreError,
    debian::{
        Package, Release, ReleaseError, StanzaError,
        deb::{self, DebError},
        package::{latest, stands_for},
        release::Listed,
    },
    fetch::{FetchError, Fetcher},
    image::is_release,
    openpgp::{self, Keyring, PgpError},
    settings::{Mirror, SettingsError},
    store::is_module,
};

/// The package that stands for the kernel for machines without hardware of their own.
pub const PACKAGE: &str = "linux-image-cloud-amd64";

/// What the names of kernels begin with.
const IMAGE_PREFIX: &str = "linux-image-";

/// Longest list of packages as it is sent. Debian's has 12 MB.
const LIST_BYTES_MAX: u64 = 128 << 20;

/// What it unpacks to at most. Debian's has 50 MB.
const LIST_UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// Longest package. The source of Linux has 140 MB.
const PACKAGE_BYTES_MAX: u64 = 1 << 30;

/// What a kernel's package unpacks to at most.
const FILES_BYTES_MAX: u64 = 4 << 30;

/// What happens while a kernel is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something to know, in a sentence.
    Note(String),
    /// A file comes.
    Fetching {
        /// What it is.
        what: String,
        /// Bytes so far.
        done: u64,
        /// Bytes altogether, 0 if the mirror does not say.
        total: u64,
    },
    /// It came, and is what it should be.
    Fetched {
        /// What it is.
        what: String,
    },
    /// It is being unpacked.
    Unpacking {
        /// What it is.
        what: String,
    },
    /// A kernel is being compiled.
    Building {
        /// What the compiler does.
        line: String,
    },
}

/// Is told what happens.
pub type Tell<'t> = &'t mut (dyn FnMut(Event) + Send);

/// Why no kernel came.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Something did not come, or is not what was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The index is not signed as it should be.
    #[error("the index of {mirror} is not believed")]
    Signature {
        /// Whose.
        mirror: Mirror,
        /// Why.
        #[source]
        source: PgpError,
    },
    /// The index is not what was asked for.
    #[error("cannot use the index of {mirror}")]
    Release {
        /// Whose.
        mirror: Mirror,
        /// Why.
        #[source]
        source: ReleaseError,
    },
    /// The list of packages makes no sense.
    #[error("cannot read the list of packages of {mirror}")]
    List {
        /// Whose.
        mirror: Mirror,
        /// Why.
        #[source]
        source: StanzaError,
    },
    /// There is no such package.
    #[error("no mirror has a package {0}")]
    NoPackage(String),
    /// It is larger than any package.
    #[error("{what} has {bytes} bytes, more than the {most} that are taken")]
    Large {
        /// What.
        what: String,
        /// How many.
        bytes: u64,
        /// How many would be taken.
        most: u64,
    },
    /// The package is damaged, although it is what was signed.
    #[error("cannot unpack {package}")]
    Unpack {
        /// Which.
        package: String,
        /// Why.
        #[source]
        source: DebError,
    },
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PullError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PullError::NoPackage(_) => ErrorKind::NotFound,
            PullError::Settings(_) => ErrorKind::InvalidInput,
            PullError::Store(error) => error.kind(),
            PullError::Fetch(_)
            | PullError::Signature { .. }
            | PullError::Release { .. }
            | PullError::List { .. }
            | PullError::Large { .. }
            | PullError::Unpack { .. } => ErrorKind::Unavailable,
        }
    }
}

/// A package and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) mirror: Mirror,
    pub(crate) package: Package,
}

/// Fetches Debian's kernel for virtual machines into the store, the latest that the mirrors have.
/// One that is there already is not fetched again. Dropped before its end, it leaves nothing.
///
/// `now` is in seconds since 1970.
///
/// # Errors
/// [`PullError`].
pub async fn pull(
    store: &Store,
    settings: &Settings,
    name: Option<&str>,
    now: u64,
    tell: Tell<'_>,
) -> Result<Added, PullError> {
    let fetcher = Fetcher::new()?;
    let found = find(&fetcher, settings, PACKAGE, IMAGE_PREFIX, now, tell).await?;
    let package = &found.package;
    tell(Event::Note(format!("{} {} from {}", package.name, package.version, found.mirror)));
    let known = |source: &Source| {
        matches!(source, Source::Debian { package: of, version, .. }
            if *of == package.name && *version == package.version)
    };
    let here = store.kernels()?.into_iter().find(|kernel| known(&kernel.manifest.source));
    if let Some(kernel) = here.filter(|kernel| store.verify(kernel).is_ok()) {
        let kernel = match name {
            Some(name) => store.rename(&kernel, name)?,
            None => kernel,
        };
        return Ok(Added { kernel, new: false, missing: Vec::new() });
    }
    let staging = store.stage()?;
    let deb = download(&fetcher, &found, &staging, tell).await?;
    tell(Event::Unpacking { what: package.name.clone() });
    let unpacked = unpack(&deb, staging.path());
    let files = unpacked.map_err(|source| failed(&package.name, source))?;
    let draft = Draft {
        vmlinuz: files.vmlinuz,
        config: files.config,
        modules: Some(files.modules),
        name: name.map(str::to_owned),
        source: Source::Debian {
            package: package.name.clone(),
            version: package.version.clone(),
            mirror: found.mirror.to_string(),
        },
        created: now,
    };
    Ok(store.add(staging, &draft)?)
}

pub(crate) fn failed(package: &str, source: DebError) -> PullError {
    PullError::Unpack { package: package.to_owned(), source }
}

/// The latest package that `standing` leads to, of all mirrors.
pub(crate) async fn find(
    fetcher: &Fetcher,
    settings: &Settings,
    standing: &str,
    prefix: &str,
    now: u64,
    tell: Tell<'_>,
) -> Result<Found, PullError> {
    let keys = settings.keys()?;
    let mut all = Vec::new();
    for mirror in &settings.mirrors {
        let index = index(fetcher, mirror, &keys, now, tell).await?;
        let list = packages(fetcher, mirror, &index, tell).await?;
        let list = Package::list(list, |name| name == standing || name.starts_with(prefix));
        let list = list.map_err(|source| PullError::List { mirror: mirror.clone(), source })?;
        all.extend(choose(&list, standing, prefix).map(|package| {
            let (mirror, package) = (mirror.clone(), package.clone());
            Found { mirror, package }
        }));
    }
    let later = |a: &Found, b: &Found| {
        crate::debian::version::compare(&a.package.version, &b.package.version)
    };
    all.into_iter().max_by(later).ok_or_else(|| PullError::NoPackage(standing.to_owned()))
}

/// The package itself, or the one that it stands for.
fn choose<'p>(list: &'p [Package], standing: &str, prefix: &str) -> Option<&'p Package> {
    let found = latest(list, standing)?;
    Some(stands_for(found, prefix, list).unwrap_or(found))
}

/// The index of a suite, signed and in time.
async fn index(
    fetcher: &Fetcher,
    mirror: &Mirror,
    keys: &Keyring,
    now: u64,
    tell: Tell<'_>,
) -> Result<Release, PullError> {
    let what = format!("{} InRelease", mirror.suite);
    let url = format!("{}/dists/{}/InRelease", mirror.url, mirror.suite);
    let mut told = progress(&what, tell);
    let most = openpgp::TEXT_BYTES_MAX as u64;
    let text = fetcher.unknown(&url, most, &mut told).await?;
    drop(told);
    let signed = openpgp::verify(&text, keys, now)
        .map_err(|source| PullError::Signature { mirror: mirror.clone(), source })?;
    let refused = |source| PullError::Release { mirror: mirror.clone(), source };
    let release = Release::parse(&signed.text).map_err(refused)?;
    release.check(&mirror.suite, now).map_err(refused)?;
    tell(Event::Fetched { what });
    let by: Vec<String> = signed.by.iter().map(ToString::to_string).collect();
    tell(Event::Note(format!("{} is signed by {}", mirror.suite, by.join(", "))));
    Ok(release)
}

/// The list of packages of a suite, to be unpacked as it is read.
async fn packages(
    fetcher: &Fetcher,
    mirror: &Mirror,
    release: &Release,
    tell: Tell<'_>,
) -> Result<impl std::io::BufRead, PullError> {
    let paths = ["xz", "gz"].map(|end| format!("main/binary-amd64/Packages.{end}"));
    let refused = |source| PullError::Release { mirror: mirror.clone(), source };
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let (path, listed) = release.one_of(&paths).map_err(refused)?;
    let what = format!("{} {}", mirror.suite, path.rsplit('/').next().unwrap_or(path));
    large(&what, listed, LIST_BYTES_MAX)?;
    let mut bytes = Vec::new();
    let mut told = progress(&what, tell);
    let plain = format!("{}/dists/{}/{path}", mirror.url, mirror.suite);
    let directory = plain.rsplit_once('/').map_or("", |(directory, _)| directory);
    let by_hash = format!("{directory}/by-hash/SHA256/{}", listed.digest.hex());
    let urls = [release.by_hash.then_some(&by_hash), Some(&plain)];
    let mut urls = urls.into_iter().flatten().peekable();
    while let Some(url) = urls.next() {
        bytes.clear();
        let keep = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        match fetcher.listed(url, listed, keep, &mut told).await {
            // Not every mirror has what the index promises.
            Err(FetchError::Status { status: 404, .. }) if urls.peek().is_some() => {}
            fetched => {
                fetched?;
                break;
            }
        }
    }
    drop(told);
    tell(Event::Fetched { what });
    let unpacked = crate::compressed::reader(BufReader::new(std::io::Cursor::new(bytes)));
    let failed =
        |source| PullError::List { mirror: mirror.clone(), source: StanzaError::Read(source) };
    let limited = std::io::Read::take(unpacked.map_err(failed)?, LIST_UNPACKED_BYTES_MAX);
    Ok(BufReader::with_capacity(128 << 10, limited))
}

/// Fetches a package's file.
pub(crate) async fn download(
    fetcher: &Fetcher,
    found: &Found,
    staging: &Staging,
    tell: Tell<'_>,
) -> Result<PathBuf, PullError> {
    let package = &found.package;
    let listed = Listed { digest: package.digest, bytes: package.bytes };
    large(&package.name, listed, PACKAGE_BYTES_MAX)?;
    let url = format!("{}/{}", found.mirror.url, package.path);
    let unwritten = |source| FetchError::Write { url: url.clone(), source };
    let mut file = staging.create("package.deb").map_err(unwritten)?;
    let mut told = progress(&package.name, tell);
    fetcher.file(&url, listed, &mut file, &mut told).await?;
    drop(told);
    tell(Event::Fetched { what: package.name.clone() });
    Ok(staging.path().join("package.deb"))
}

fn progress<'t>(what: &str, tell: Tell<'t>) -> impl FnMut(u64, u64) + Send + use<'t> {
    let what = what.to_owned();
    move |done, total| tell(Event::Fetching { what: what.clone(), done, total })
}

fn large(what: &str, listed: Listed, most: u64) -> Result<(), PullError> {
    if listed.bytes > most {
        let (what, bytes) = (what.to_owned(), listed.bytes);
        return Err(PullError::Large { what, bytes, most });
    }
    Ok(())
}

/// What of a package was unpacked.
struct Unpacked {
    vmlinuz: PathBuf,
    config: Option<PathBuf>,
    modules: PathBuf,
}

/// Unpacks the kernel, its configuration and its modules.
fn unpack(deb: &Path, to: &Path) -> Result<Unpacked, DebError> {
    let source = BufReader::new(File::open(deb).map_err(DebError::Read)?);
    let mut files = deb::files(source)?;
    let modules = to.join("lib");
    std::fs::create_dir(&modules).map_err(DebError::Read)?;
    let (mut vmlinuz, mut config) = (None, None);
    let mut left = FILES_BYTES_MAX;
    while let Some(entry) = files.next_entry().map_err(DebError::Tar)? {
        if !matches!(entry.kind, EntryKind::File { segments: None, .. }) {
            continue;
        }
        let Some(name) = wanted(&entry.path) else { continue };
        let path = match name {
            Wanted::Kernel => vmlinuz.insert(to.join("vmlinuz")).clone(),
            Wanted::Config => config.insert(to.join("config")).clone(),
            Wanted::Module(name) => modules.join(name),
        };
        // A second file of the same name would replace the first.
        let file = File::create_new(path).map_err(DebError::Read)?;
        left = write(&mut files, file, left)?;
    }
    let vmlinuz = vmlinuz.ok_or_else(|| DebError::Missing("kernel".to_owned()))?;
    Ok(Unpacked { vmlinuz, config, modules })
}

fn write(files: &mut deb::Files<'_>, file: File, mut left: u64) -> Result<u64, DebError> {
    let mut file = BufWriter::new(file);
    while let Some(chunk) = files.chunk().map_err(DebError::Tar)? {
        let fits = left.checked_sub(chunk.len() as u64);
        left = fits.ok_or(DebError::Form("it unpacks to more than a kernel can have"))?;
        file.write_all(chunk).map_err(DebError::Read)?;
    }
    file.flush().map_err(DebError::Read)?;
    Ok(left)
}

/// What of a package is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Kernel,
    Config,
    /// A module, or the list of those that are built in.
    Module(&'a str),
}

fn wanted(path: &[u8]) -> Option<Wanted<'_>> {
    let path = str::from_utf8(path).ok()?;
    let path = path.strip_prefix("./").or(path.strip_prefix('/')).unwrap_or(path);
    // Since Debian 13 there is /usr before /lib.
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let (directory, name) = path.rsplit_once('/')?;
    if directory == "boot" {
        let (kind, release) = name.split_once('-')?;
        return match kind {
            _ if !is_release(release) => None,
            "vmlinuz" => Some(Wanted::Kernel),
            "config" => Some(Wanted::Config),
            _ => None,
        };
    }
    let of_modules = directory.starts_with("lib/modules/");
    let right = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let taken = is_module(name) || name == "modules.builtin";
    (of_modules && taken && name.chars().all(right)).then_some(Wanted::Module(name))
}
