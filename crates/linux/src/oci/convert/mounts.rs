//! `mounts`: mount(8)'s options to the contract's flags.

use std::path::Path;

use base::ByteSize;
use oci_spec::runtime::{Mount as OciMount, Spec};
use workload::{
    Bind, Filesystem, Mount, MountFlags, MountSource, Propagation, PropagationKind, Tmpfs, UserMap,
};

use super::{ConvertError, sandbox::id_maps};

/// What a devpts is mounted with anyway, as far as the ids inside allow.
const DEVPTS_OPTIONS: [&str; 5] =
    ["newinstance", "ptmxmode=0666", "mode=0620", "mode=620", "gid=5"];

pub(super) fn mounts(spec: &Spec, bundle: &Path) -> Result<Vec<Mount>, ConvertError> {
    spec.mounts().iter().flatten().map(|m| mount(m, bundle)).collect()
}

/// `linux.rootfsPropagation`; the words without `r` are recursive too, as in runc.
pub(super) fn root_propagation(word: &str) -> Result<Propagation, ConvertError> {
    let known = propagation(word);
    known.map(|p| Propagation { recursive: true, ..p }).ok_or_else(|| {
        let why = format!("\"{word}\" is not shared, slave, private or unbindable");
        ConvertError::invalid("linux.rootfsPropagation", why)
    })
}

/// What the options of a mount come to.
#[derive(Debug, Default)]
struct Options {
    flags: MountFlags,
    propagation: Option<Propagation>,
    /// `Some(recursive)` for a bind.
    bind: Option<bool>,
    /// Whether the mount's ids are mapped.
    idmap: bool,
    /// Options for the file system itself.
    data: Vec<String>,
}

fn mount(mount: &OciMount, bundle: &Path) -> Result<Mount, ConvertError> {
    let target = mount.destination().clone();
    let property = format!("mounts: {}", target.display());
    let options = options(mount.options().iter().flatten(), &property)?;
    let (flags, propagation) = (options.flags, options.propagation);
    let source = source(mount, options, bundle, &property)?;
    // An absolute path, whatever was written (config.md lets it be relative to "/").
    Ok(Mount { target: Path::new("/").join(target), source, flags, propagation })
}

fn source(
    mount: &OciMount,
    options: Options,
    bundle: &Path,
    property: &str,
) -> Result<MountSource, ConvertError> {
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let maps = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
    if options.bind.is_some() || fstype == "bind" {
        let path = mount.source().as_ref();
        let path =
            path.ok_or_else(|| ConvertError::invalid(property, "a bind mount needs a source"))?;
        if let Some(option) = options.data.first() {
            let why = format!("\"{option}\" is not an option of bind mounts");
            return Err(ConvertError::invalid(property, why));
        }
        let map = |given: &Option<Vec<_>>| id_maps(given.as_deref().unwrap_or_default());
        let (uids, gids) = (map(mount.uid_mappings()), map(mount.gid_mappings()));
        if options.idmap && !maps {
            return Err(ConvertError::unsupported(format!(
                "{property}: idmap without uidMappings"
            )));
        }
        let idmap = maps.then_some(UserMap { uids, gids, join: None });
        let recursive = options.bind.unwrap_or(false);
        return Ok(MountSource::Bind(Bind { path: bundle.join(path), recursive, idmap }));
    }
    if maps {
        return Err(ConvertError::unsupported(format!("{property}: uidMappings on type {fstype}")));
    }
    let kernel = |fs| Ok(MountSource::Kernel(fs));
    let plain = options.data.is_empty();
    match fstype {
        "proc" if plain => kernel(Filesystem::Proc),
        "sysfs" if plain => kernel(Filesystem::Sysfs),
        "cgroup" | "cgroup2" if plain => kernel(Filesystem::Cgroup),
        "cgroup" | "cgroup2" => {
            Err(ConvertError::unsupported(format!("{property}: option {}", options.data.join(","))))
        }
        "mqueue" if plain => kernel(Filesystem::Mqueue),
        "devpts" if options.data.iter().all(|o| DEVPTS_OPTIONS.contains(&o.as_str())) => {
            kernel(Filesystem::Devpts)
        }
        "tmpfs" => Ok(MountSource::Tmpfs(tmpfs(options.data, property)?)),
        "" => Err(ConvertError::invalid(property, "it has no type and is no bind mount")),
        other => Ok(MountSource::Other {
            fstype: other.to_owned(),
            source: mount
                .source()
                .as_ref()
                .map_or_else(|| other.to_owned(), |s| s.display().to_string()),
            options: options.data,
        }),
    }
}

fn tmpfs(data: Vec<String>, property: &str) -> Result<Tmpfs, ConvertError> {
    let mut tmpfs = Tmpfs::default();
    for option in data {
        match option.split_once('=') {
            // A share of memory is left to the kernel, which knows how much there is.
            Some(("size", size)) if !size.ends_with('%') => {
                let size: ByteSize = size
                    .parse()
                    .map_err(|error| ConvertError::invalid(property, format!("{error}")))?;
                tmpfs.size = Some(size);
            }
            Some(("mode", mode)) => {
                let number = u32::from_str_radix(mode, 8).map_err(|_| {
                    ConvertError::invalid(property, format!("mode \"{mode}\" is not octal"))
                })?;
                tmpfs.mode = Some(number);
            }
            _ => tmpfs.options.push(option),
        }
    }
    Ok(tmpfs)
}

fn options<'a>(
    given: impl Iterator<Item = &'a String>,
    property: &str,
) -> Result<Options, ConvertError> {
    let mut options = Options::default();
    for option in given {
        let word = option.as_str();
        if flag(&mut options.flags, word) {
            continue;
        }
        match word {
            "bind" => options.bind = Some(options.bind.unwrap_or(false)),
            "rbind" => options.bind = Some(true),
            "idmap" | "ridmap" => options.idmap = true,
            // What the driver does anyway, or what changes nothing on the file systems it makes.
            "defaults" | "async" | "relatime" | "norelatime" | "nolazytime" | "nomand" | "loud"
            | "silent" | "noiversion" => {}
            "mand" | "remount" | "iversion" => {
                return Err(ConvertError::unsupported(format!("{property}: option {word}")));
            }
            _ => match propagation(word) {
                Some(found) => options.propagation = Some(found),
                None if is_recursive_attribute(word) => {
                    return Err(ConvertError::unsupported(format!("{property}: option {word}")));
                }
                None => options.data.push(option.clone()),
            },
        }
    }
    Ok(options)
}

/// Sets or clears the flag that this option names, if it names one.
fn flag(flags: &mut MountFlags, word: &str) -> bool {
    let (place, value) = match word {
        "ro" => (&mut flags.read_only, true),
        "rw" => (&mut flags.read_only, false),
        "rro" => (&mut flags.recursive_read_only, true),
        "suid" => (&mut flags.nosuid, false),
        "nosuid" => (&mut flags.nosuid, true),
        "dev" => (&mut flags.nodev, false),
        "nodev" => (&mut flags.nodev, true),
        "exec" => (&mut flags.noexec, false),
        "noexec" => (&mut flags.noexec, true),
        "atime" => (&mut flags.noatime, false),
        "noatime" => (&mut flags.noatime, true),
        "diratime" => (&mut flags.nodiratime, false),
        "nodiratime" => (&mut flags.nodiratime, true),
        "strictatime" => (&mut flags.strictatime, true),
        "nostrictatime" => (&mut flags.strictatime, false),
        "symfollow" => (&mut flags.nosymfollow, false),
        "nosymfollow" => (&mut flags.nosymfollow, true),
        _ => return false,
    };
    *place = value;
    true
}

fn propagation(word: &str) -> Option<Propagation> {
    let (recursive, plain) = match word.strip_prefix('r') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let kind = match plain {
        "shared" => PropagationKind::Shared,
        "slave" => PropagationKind::Slave,
        "private" => PropagationKind::Private,
        "unbindable" => PropagationKind::Unbindable,
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

/// Recursive forms of attributes (`rnosuid`), of which only `rro` is carried out.
fn is_recursive_attribute(word: &str) -> bool {
    let known = |plain: &str| flag(&mut MountFlags::default(), plain);
    word.strip_prefix('r').is_some_and(|plain| known(plain) && plain != "o" && plain != "w")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Mount, ConvertError> {
        mount(&serde_json::from_str(json).unwrap(), Path::new("/bundle"))
    }

    #[test]
    fn binds_carry_their_flags_and_propagation() {
        let mount = of(
            r#"{"destination": "/data", "type": "none", "source": "rel", "options": ["rbind", "ro", "nosuid", "rslave"]}"#,
        );
        let bind = Bind { path: "/bundle/rel".into(), recursive: true, idmap: None };
        let want = Mount {
            target: "/data".into(),
            source: MountSource::Bind(bind),
            flags: MountFlags { read_only: true, nosuid: true, ..MountFlags::default() },
            propagation: Some(Propagation { kind: PropagationKind::Slave, recursive: true }),
        };
        assert_eq!(mount.unwrap(), want);
    }

    #[test]
    fn a_tmpfs_has_a_size_a_mode_and_options_of_its_own() {
        let mount = of(r#"{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k", "uid=5"]}"#).unwrap();
        let want = Tmpfs {
            size: Some(ByteSize(64 << 20)),
            mode: Some(0o755),
            options: vec!["uid=5".into()],
        };
        assert_eq!(mount.source, MountSource::Tmpfs(want));
    }

    #[test]
    fn file_systems_of_the_kernel_keep_options_of_their_own() {
        let source = |fstype: &str, options: &str| {
            let json = format!(
                r#"{{"destination": "/x", "type": "{fstype}", "source": "{fstype}", "options": [{options}]}}"#
            );
            of(&json).map(|mount| mount.source)
        };
        let kernel = |fs| Ok::<_, String>(MountSource::Kernel(fs));
        let plain = |fstype, options| source(fstype, options).map_err(|error| error.to_string());
        assert_eq!(plain("proc", r#""nosuid", "ro""#), kernel(Filesystem::Proc));
        assert_eq!(
            plain("devpts", r#""newinstance", "mode=0620", "gid=5""#),
            kernel(Filesystem::Devpts)
        );
        for (fstype, option) in [("proc", "hidepid=2"), ("devpts", "max=3"), ("sysfs", "sync")] {
            let want = MountSource::Other {
                fstype: fstype.into(),
                source: fstype.into(),
                options: vec![option.into()],
            };
            assert_eq!(source(fstype, &format!("\"{option}\"")).unwrap(), want);
        }
        let error = plain("cgroup", r#""none""#).unwrap_err();
        assert!(error.contains("option none"), "{error}");
    }

    #[test]
    fn options_that_are_not_carried_out_are_named() {
        for option in ["sync", "remount", "rnosuid"] {
            let json = format!(
                r#"{{"destination": "/x", "type": "bind", "source": "/y", "options": ["bind", "{option}"]}}"#
            );
            let error = of(&json).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains("/x"), "{error}");
        }
        assert!(of(r#"{"destination": "/x", "type": "bind", "source": "/y", "options": ["bind", "size=1"]}"#).is_err());
    }
}
