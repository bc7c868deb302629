//! What is mounted in a container, all who have a say taken together. Pure.
//!
//! Source: moby, `daemon/volumes.go`, `registerMountPoints`, and `daemon/create_unix.go`.

use std::path::{Component, Path, PathBuf};

use crate::{
    Create, EngineError, ImageConfig, MountKind, MountRequest, VolumeMount, plan::invalid,
};

/// Mounts of another container that `--volumes-from` names.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    pub(crate) mounts: Vec<MountRequest>,
    pub(crate) read_only: bool,
}

/// The container, and whether its volumes are mounted read-only: `NAME[:ro|rw|z|Z]`.
pub(crate) fn parse_from(text: &str) -> Result<(&str, bool), EngineError> {
    let (who, mode) = text.split_once(':').unwrap_or((text, ""));
    if who.is_empty() {
        let why = "volumes-from specification cannot be an empty string".to_owned();
        return Err(invalid("volumes-from", why));
    }
    let mut read_only = false;
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => read_only = true,
            "rw" | "z" | "Z" => {}
            _ => return Err(invalid("volumes-from", format!("invalid mode: {mode}"))),
        }
    }
    Ok((who, read_only))
}

/// Other containers' volumes and binds first, what was asked for in their place, then what the
/// image wants where nothing is mounted. Volumes without a name get one from `name`.
pub(crate) fn settle(
    config: &Create,
    image: &ImageConfig,
    others: &[Others],
    mut name: impl FnMut() -> Result<String, EngineError>,
) -> Result<Vec<MountRequest>, EngineError> {
    let mut mounts: Vec<MountRequest> = Vec::new();
    let inherited = others
        .iter()
        .flat_map(|other| other.mounts.iter().filter_map(|mount| inherit(mount, other.read_only)));
    for mount in inherited.chain(config.mounts.iter().cloned()) {
        mounts.retain(|earlier| !same(&earlier.target, &mount.target));
        mounts.push(mount);
    }
    for path in &image.volumes {
        let target = clean(path)?;
        if !mounts.iter().any(|mount| same(&mount.target, &target)) {
            let kind = MountKind::Volume(VolumeMount::default());
            mounts.push(MountRequest { target, kind, read_only: false, idmap: None });
        }
    }
    for mount in &mut mounts {
        if let MountKind::Volume(volume) = &mut mount.kind
            && volume.name.is_empty()
        {
            volume.name = name()?;
            volume.anonymous = true;
        }
    }
    Ok(mounts)
}

/// Memory is not shared.
fn inherit(mount: &MountRequest, read_only: bool) -> Option<MountRequest> {
    let mut mount = mount.clone();
    mount.read_only |= read_only;
    match &mut mount.kind {
        MountKind::Volume(volume) => volume.no_copy = true,
        MountKind::Bind { .. } => {}
        MountKind::Tmpfs { .. } => return None,
    }
    Some(mount)
}

fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

/// A path that an image's configuration has under `Volumes`.
fn clean(path: &str) -> Result<PathBuf, EngineError> {
    let path = Path::new(path);
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if !path.is_absolute() || clean.parent().is_none() {
        let why = format!("the image wants a volume at {path:?}, which is no path for one");
        return Err(invalid("volume", why));
    }
    Ok(clean)
}
