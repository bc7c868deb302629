//! `Binds`, `Mounts`, `Tmpfs` and `Volumes`.
//!
//! Source of words: moby, `volume/mounts`.

use std::{collections::BTreeMap, path::Path};

use base::ByteSize;
use engine::{Create, MountKind, MountRequest, VolumeMount};

use crate::{error::ApiError, fields::Fields, spec::mount};

pub(super) fn read(given: &mut Fields<'_>) -> Result<Vec<MountRequest>, ApiError> {
    let mut mounts = Vec::new();
    for text in given.take::<Vec<String>>("Binds")? {
        let bad =
            |why| given.wrong("Binds", format!("invalid volume specification: '{text}': {why}"));
        if text.starts_with('.') {
            return Err(bad("a path of the host is absolute".to_owned()));
        }
        mounts.push(mount::volume(&text, Path::new("/")).map_err(bad)?);
    }
    for one in given.objects("Mounts")? {
        mounts.push(self::one(one)?);
    }
    for (target, options) in given.take::<BTreeMap<String, Option<String>>>("Tmpfs")? {
        let made = mount::tmpfs_at(&target, &options.unwrap_or_default());
        mounts.push(made.map_err(|why| given.wrong("Tmpfs", format!("{target}: {why}")))?);
    }
    Ok(mounts)
}

/// Paths that want a volume, unless something is mounted there.
pub(super) fn anonymous(
    paths: impl Iterator<Item = String>,
    create: &mut Create,
) -> Result<(), ApiError> {
    for path in paths {
        let target = Path::new(&path);
        if create.mounts.iter().any(|mount| mount.target.components().eq(target.components())) {
            continue;
        }
        let made = mount::volume(&path, Path::new("/"))
            .map_err(|why| ApiError::bad(format!("Volumes: {path:?}: {why}")))?;
        create.mounts.push(made);
    }
    Ok(())
}

/// One of `Mounts`.
fn one(mut given: Fields<'_>) -> Result<MountRequest, ApiError> {
    let kind: String = given.take("Type")?;
    let source = given.text("Source")?;
    let target = given.text("Target")?;
    let read_only = given.take("ReadOnly")?;
    given.ignore(&["Consistency"]);
    let invalid = |name: &str, why: &str| {
        ApiError::bad(format!("invalid mount config for type \"{kind}\": field {name} {why}"))
    };
    let target = target.ok_or_else(|| invalid("Target", "must not be empty"))?;
    if !target.starts_with('/') {
        return Err(invalid("Target", "must be an absolute path"));
    }
    let made = match kind.as_str() {
        "bind" => {
            let source = source.ok_or_else(|| invalid("Source", "must not be empty"))?;
            if !source.starts_with('/') {
                return Err(invalid("Source", "must be an absolute path"));
            }
            bind(&mut given, source)?
        }
        "volume" => volume(&mut given, source.unwrap_or_default())?,
        "tmpfs" if source.is_some() => return Err(invalid("Source", "must not be specified")),
        "tmpfs" => tmpfs(&mut given)?,
        "image" | "cluster" | "npipe" => {
            return Err(given.unbuilt("Type", format!("mounts of type {kind}")));
        }
        _ => return Err(given.wrong("Type", format!("mount type unknown: \"{kind}\""))),
    };
    for name in ["BindOptions", "VolumeOptions", "TmpfsOptions", "ImageOptions", "ClusterOptions"] {
        if !given.object(name)?.is_empty() {
            return Err(invalid(name, "must not be specified"));
        }
    }
    given.done()?;
    Ok(MountRequest { target: target.into(), kind: made, read_only, idmap: None })
}

fn bind(given: &mut Fields<'_>, source: String) -> Result<MountKind, ApiError> {
    let mut options = given.object("BindOptions")?;
    let propagation = options.text("Propagation")?;
    if let Some(word) = propagation.as_deref().filter(|word| !mount::PROPAGATIONS.contains(word)) {
        return Err(options.wrong("Propagation", format!("invalid propagation mode: {word}")));
    }
    let kind = MountKind::Bind {
        source: source.into(),
        create: options.take("CreateMountpoint")?,
        non_recursive: options.take("NonRecursive")?,
        propagation,
    };
    let all = "read-only mounts are so all the way down wherever the kernel can";
    options.refuse("ReadOnlyNonRecursive", all)?;
    options.ignore(&["ReadOnlyForceRecursive"]);
    options.done()?;
    Ok(kind)
}

fn volume(given: &mut Fields<'_>, name: String) -> Result<MountKind, ApiError> {
    let mut options = given.object("VolumeOptions")?;
    let mut driver = options.object("DriverConfig")?;
    let subpath = options.text("Subpath")?;
    if let Some(path) = subpath.as_deref()
        && (path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        return Err(options.wrong("Subpath", "must be a path below the volume"));
    }
    let volume = VolumeMount {
        name,
        driver: driver.text("Name")?,
        options: driver.take("Options")?,
        labels: options.take("Labels")?,
        no_copy: options.take("NoCopy")?,
        subpath: subpath.map(Into::into),
        ..VolumeMount::default()
    };
    if volume.name.is_empty() && volume.subpath.is_some() {
        return Err(options.wrong("Subpath", "it takes a volume with a name"));
    }
    driver.done()?;
    options.done()?;
    Ok(MountKind::Volume(volume))
}

fn tmpfs(given: &mut Fields<'_>) -> Result<MountKind, ApiError> {
    let mut options = given.object("TmpfsOptions")?;
    let size = options.above_zero("SizeBytes")?.map(ByteSize);
    let mode = options.some::<u32>("Mode")?.filter(|mode| *mode != 0);
    if mode.is_some_and(|mode| mode > 0o7777) {
        return Err(options.wrong("Mode", "it has more bits than a mode has"));
    }
    // Each is a word alone, or a name and a value.
    let words: Vec<Vec<String>> = options.take("Options")?;
    options.done()?;
    let options = words.iter().map(|words| words.join("=")).collect();
    Ok(MountKind::Tmpfs { size, mode, options })
}
