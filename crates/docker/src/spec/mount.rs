//! The little languages of `-v`, `--mount` and `--tmpfs`.
//!
//! Source: docker/cli, `cli/compose/loader/volume.go` and `opts/mount.go`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base::ByteSize;
use engine::{MountKind, MountRequest, VolumeMount};
use workload::{IdMap, UserMap};

/// Words of `-v` and `--mount` for how mounts travel between host and container.
pub const PROPAGATIONS: [&str; 6] = ["shared", "slave", "private", "rshared", "rslave", "rprivate"];

/// `source:target[:options]`: a host path, or a volume's name; the target alone is an anonymous
/// volume. Relative sources begin with a dot and lie below `directory`.
///
/// # Errors
/// What would be right.
pub fn volume(text: &str, directory: &Path) -> Result<MountRequest, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, given) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [_, _] | [_, _, _] if parts.first().is_some_and(|source| source.is_empty()) => {
            return Err("the source is empty: write NAME:/container/path or /container/path".into());
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err("write /host/path:/container/path[:options]".to_owned()),
    };
    let mut options = Options { create: true, ..Options::default() };
    let bind = is_path(source);
    for option in given.split(',').filter(|option| !option.is_empty()) {
        options.short(option, bind)?;
    }
    match bind {
        true => options.bind(host_path(source, directory), absolute(target)?),
        false => options.volume(source.to_owned(), absolute(target)?),
    }
}

/// `type=…,source=…,target=…[,…]`, comma-separated, with quotes around what contains a comma.
///
/// # Errors
/// What would be right.
pub fn mount(text: &str, directory: &Path) -> Result<MountRequest, String> {
    let fields = comma_separated(text)?;
    let mut kind = None;
    let mut pairs = Vec::new();
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value,
            key => pairs.push((key.to_owned(), value)),
        }
    }
    match kind.unwrap_or("volume") {
        "bind" => bind_mount(&pairs, directory),
        "tmpfs" => tmpfs_mount(&pairs),
        "volume" => volume_mount(&pairs),
        other => Err(format!("mounts of type {other} are not built: use bind, tmpfs or volume")),
    }
}

/// `/path[:options]`.
///
/// # Errors
/// What would be right.
pub fn tmpfs(text: &str) -> Result<MountRequest, String> {
    let (target, given) = text.split_once(':').unwrap_or((text, ""));
    tmpfs_at(target, given)
}

/// A tmpfs with options as `--tmpfs` has them after the colon.
///
/// # Errors
/// What would be right.
pub fn tmpfs_at(target: &str, given: &str) -> Result<MountRequest, String> {
    let (mut size, mut mode, mut read_only) = (None, None, false);
    let mut options = Vec::new();
    for option in given.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = Some(byte_size(value)?),
            Some(("mode", value)) => mode = Some(octal(value)?),
            None if option == "ro" => read_only = true,
            None if option == "rw" => {}
            _ => options.push(option.to_owned()),
        }
    }
    let kind = MountKind::Tmpfs { size, mode, options };
    Ok(MountRequest { target: absolute(target)?, kind, read_only, idmap: None })
}

/// What binds and volumes take.
#[derive(Default)]
struct Options {
    create: bool,
    read_only: bool,
    non_recursive: bool,
    propagation: Option<String>,
    idmap: Option<UserMap>,
    volume: VolumeMount,
}

impl Options {
    /// A word of `-v`.
    fn short(&mut self, option: &str, bind: bool) -> Result<(), String> {
        match option {
            "ro" | "readonly" => self.read_only = true,
            // SELinux labels and cache consistency are for other hosts than those we run on.
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
            "nocopy" if !bind => self.volume.no_copy = true,
            "nocopy" => return Err("\"nocopy\" is for volumes, not for host paths".to_owned()),
            word if PROPAGATIONS.contains(&word) && bind => {
                self.propagation = Some(word.to_owned())
            }
            word if PROPAGATIONS.contains(&word) => {
                return Err(format!("\"{word}\" is for host paths, not for volumes"));
            }
            "idmap" => self.idmap = Some(UserMap::default()),
            word => match word.strip_prefix("idmap=") {
                Some(map) => self.idmap = idmap(Some(map))?,
                None => return Err(format!("\"{word}\" is not an option: use ro, rw or nocopy")),
            },
        }
        Ok(())
    }

    fn bind(self, source: PathBuf, target: PathBuf) -> Result<MountRequest, String> {
        let Options { create, read_only, non_recursive, propagation, idmap, volume: _ } = self;
        let kind = MountKind::Bind { source, create, non_recursive, propagation };
        not_the_root(MountRequest { target, kind, read_only, idmap })
    }

    fn volume(self, name: String, target: PathBuf) -> Result<MountRequest, String> {
        let kind = MountKind::Volume(VolumeMount { name, ..self.volume });
        not_the_root(MountRequest { target, kind, read_only: self.read_only, idmap: self.idmap })
    }
}

fn not_the_root(mount: MountRequest) -> Result<MountRequest, String> {
    match mount.target == Path::new("/") {
        true => Err("the destination can't be '/'".to_owned()),
        false => Ok(mount),
    }
}

fn bind_mount(pairs: &[(String, Option<&str>)], directory: &Path) -> Result<MountRequest, String> {
    let mut bind = Options::default();
    let (mut source, mut target) = (None, None);
    for (key, value) in pairs {
        match (key.as_str(), value) {
            ("source" | "src", Some(value)) if is_path(value) => {
                source = Some(host_path(value, directory));
            }
            ("source" | "src", Some(value)) => {
                return Err(format!("\"{value}\" is not a path: use an absolute one"));
            }
            ("target" | "dst" | "destination", Some(value)) => target = Some(absolute(value)?),
            ("readonly" | "ro", value) => bind.read_only = switch(*value)?,
            ("bind-nonrecursive", value) => bind.non_recursive = switch(*value)?,
            ("bind-recursive", Some("disabled")) => bind.non_recursive = true,
            // Read-only mounts are so all the way down wherever the kernel can.
            ("bind-recursive", Some("enabled" | "writable" | "readonly")) => {}
            ("bind-create-src", value) => bind.create = switch(*value)?,
            ("bind-propagation", Some(value)) if PROPAGATIONS.contains(value) => {
                bind.propagation = Some((*value).to_owned());
            }
            ("idmap", value) => bind.idmap = idmap(*value)?,
            ("consistency", Some(_)) => {}
            (key, value) => return Err(unexpected(key, *value, "bind")),
        }
    }
    bind.bind(source.ok_or("type=bind needs source=")?, target.ok_or("target= is missing")?)
}

fn volume_mount(pairs: &[(String, Option<&str>)]) -> Result<MountRequest, String> {
    let mut options = Options::default();
    let (mut name, mut target) = (String::new(), None);
    for (key, value) in pairs {
        match (key.as_str(), value) {
            ("source" | "src", Some(value)) => name = (*value).to_owned(),
            ("target" | "dst" | "destination", Some(value)) => target = Some(absolute(value)?),
            ("readonly" | "ro", value) => options.read_only = switch(*value)?,
            ("volume-nocopy", value) => options.volume.no_copy = switch(*value)?,
            ("volume-label", Some(value)) => insert(&mut options.volume.labels, value),
            ("volume-opt", Some(value)) => insert(&mut options.volume.options, value),
            ("volume-driver", Some(value)) => options.volume.driver = Some((*value).to_owned()),
            ("volume-subpath", Some(value)) => {
                if value.starts_with('/') || value.split('/').any(|part| part == "..") {
                    return Err(format!("\"{value}\" must be a path below the volume"));
                }
                options.volume.subpath = Some(PathBuf::from(value));
            }
            ("idmap", value) => options.idmap = idmap(*value)?,
            ("consistency", Some(_)) => {}
            (key, value) => return Err(unexpected(key, *value, "volume")),
        }
    }
    if name.starts_with('/') {
        return Err(format!("\"{name}\" is a path: use type=bind, or a volume's name"));
    }
    if name.is_empty() && options.volume.subpath.is_some() {
        return Err("volume-subpath takes a volume with a name: source= is missing".to_owned());
    }
    options.volume(name, target.ok_or("target= is missing")?)
}

/// `key=value`; a key alone has the empty value.
fn insert(map: &mut BTreeMap<String, String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.insert(key.to_owned(), value.to_owned());
}

/// `true`, `false`, or `uids=ON_DISK-SEEN-COUNT[#…];gids=…`. An empty map is the container's own.
///
/// Source: crun(1), "idmap mount options"; the order is that of user_namespaces(7).
fn idmap(text: Option<&str>) -> Result<Option<UserMap>, String> {
    let text = match text {
        None | Some("true" | "1") => return Ok(Some(UserMap::default())),
        Some("false" | "0") => return Ok(None),
        Some(text) => text,
    };
    let mut map = UserMap::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let ranges = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut map.uids, ranges),
            Some(("gids", ranges)) => (&mut map.gids, ranges),
            _ => return Err(format!("\"{part}\" is neither uids= nor gids=")),
        };
        let (list, ranges) = ranges;
        *list = ranges.split('#').map(id_range).collect::<Result<_, _>>()?;
    }
    Ok(Some(map))
}

fn id_range(text: &str) -> Result<IdMap, String> {
    let bad = || format!("\"{text}\" is not a range of ids: write ON_DISK-SEEN-COUNT, as 0-1000-1");
    let numbers: Result<Vec<u32>, _> = text.split('-').map(str::parse).collect();
    match numbers.map_err(|_| bad())?.as_slice() {
        [inside, outside, count] if *count > 0 => {
            Ok(IdMap { inside: *inside, outside: *outside, count: *count })
        }
        _ => Err(bad()),
    }
}

fn tmpfs_mount(pairs: &[(String, Option<&str>)]) -> Result<MountRequest, String> {
    let (mut target, mut size, mut mode, mut read_only) = (None, None, None, false);
    for (key, value) in pairs {
        match (key.as_str(), value) {
            ("target" | "dst" | "destination", Some(value)) => target = Some(absolute(value)?),
            ("readonly" | "ro", value) => read_only = switch(*value)?,
            ("tmpfs-size", Some(value)) => size = Some(byte_size(value)?),
            ("tmpfs-mode", Some(value)) => mode = Some(octal(value)?),
            (key, value) => return Err(unexpected(key, *value, "tmpfs")),
        }
    }
    let kind = MountKind::Tmpfs { size, mode, options: Vec::new() };
    let target = target.ok_or("target= is missing")?;
    Ok(MountRequest { target, kind, read_only, idmap: None })
}

fn unexpected(key: &str, value: Option<&str>, kind: &str) -> String {
    match value {
        Some(value) => format!("\"{key}={value}\" does not go with type={kind}"),
        None => format!("\"{key}\" does not go with type={kind}"),
    }
}

fn switch(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("\"{other}\" is neither true nor false")),
    }
}

fn byte_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|error: base::SizeError| error.to_string())
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("\"{text}\" is not a mode in octal, such as 1777"))
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    match path.starts_with('/') {
        true => Ok(PathBuf::from(path)),
        false => Err(format!("\"{path}\" is not an absolute path inside the container")),
    }
}

/// Whether a source is a path of the host, and not a volume's name.
pub fn is_path(source: &str) -> bool {
    let relative = source == "." || source == ".." || source.starts_with("./");
    source.starts_with('/') || relative || source.starts_with("../")
}

fn host_path(source: &str, directory: &Path) -> PathBuf {
    // What is absolute takes the directory's place.
    directory.join(source)
}

/// The fields of one CSV record (RFC 4180).
fn comma_separated(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is one field from the start");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted { Err("a quote is not closed".to_owned()) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bind(source: &str, target: &str, create: bool) -> MountRequest {
        let kind = MountKind::Bind {
            source: source.into(),
            create,
            non_recursive: false,
            propagation: None,
        };
        MountRequest { target: target.into(), kind, read_only: false, idmap: None }
    }

    fn named(name: &str, target: &str) -> MountRequest {
        let kind =
            MountKind::Volume(VolumeMount { name: name.to_owned(), ..VolumeMount::default() });
        MountRequest { target: target.into(), kind, read_only: false, idmap: None }
    }

    fn in_home<T>(parse: fn(&str, &Path) -> T, text: &str) -> T {
        parse(text, Path::new("/home/me"))
    }

    #[test]
    fn a_source_is_a_path_or_a_name() {
        let ro = MountRequest { read_only: true, ..bind("/srv", "/srv", true) };
        for (text, want) in [
            ("/a:/b", bind("/a", "/b", true)),
            ("./a:/b", bind("/home/me/./a", "/b", true)),
            (".:/b", bind("/home/me/.", "/b", true)),
            ("/srv:/srv:ro", ro.clone()),
            ("/srv:/srv:ro,z", ro),
            ("/data", named("", "/data")),
            ("data:/data", named("data", "/data")),
            ("data:/data:ro", MountRequest { read_only: true, ..named("data", "/data") }),
        ] {
            assert_eq!(in_home(volume, text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("data", "not an absolute path"),
            (":/data", "source is empty"),
            ("/a:/b:nocopy", "is for volumes"),
            ("data:/b:rslave", "is for host paths"),
            ("data:/b:idmap=0-1-2", "neither uids= nor gids="),
            ("data:/b:idmap=uids=0-1", "not a range"),
            ("/a:b", "not an absolute path"),
            ("/a:/", "can't be '/'"),
            ("/a:/b:fast", "not an option"),
            ("/a:/b:ro:rw", "write /host"),
        ] {
            let error = in_home(volume, text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn mounts_are_read_field_by_field() {
        let ro = MountRequest { read_only: true, ..bind("/a,b", "/c", false) };
        let tmpfs = MountKind::Tmpfs {
            size: Some(ByteSize(1 << 20)),
            mode: Some(0o1770),
            options: Vec::new(),
        };
        let tmpfs =
            MountRequest { target: "/t".into(), kind: tmpfs, read_only: false, idmap: None };
        for (text, want) in [
            ("type=bind,source=/a,target=/b", bind("/a", "/b", false)),
            ("type=bind,src=/a,dst=/b,bind-create-src", bind("/a", "/b", true)),
            ("type=bind,\"source=/a,b\",target=/c,readonly", ro),
            ("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", tmpfs),
            ("type=volume,source=v,target=/b", named("v", "/b")),
            ("dst=/b", named("", "/b")),
        ] {
            assert_eq!(in_home(mount, text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("type=volume,source=/v,target=/b", "use type=bind"),
            ("source=v", "target= is missing"),
            ("source=v,target=/b,volume-subpath=../c", "below the volume"),
            ("target=/b,volume-subpath=c", "with a name"),
            ("type=bind,source=v,target=/b", "not a path"),
            ("type=npipe,source=v,target=/b", "not built"),
            ("type=bind,target=/b", "needs source="),
            ("type=bind,source=/a", "target= is missing"),
            ("type=bind,source=/a,target=/b,tmpfs-size=1", "does not go with"),
            ("type=bind,source=/a,target=/b,readonly=maybe", "neither true nor false"),
            ("type=bind,\"source=/a", "not closed"),
        ] {
            let error = in_home(mount, text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_volume_takes_what_it_is_made_with() {
        let text = "src=v,dst=/b,ro,volume-nocopy,volume-label=a=b,volume-label=c,\
                    volume-driver=local,\"volume-opt=o=size=1m,uid=7\",volume-subpath=x/y,\
                    idmap=uids=0-1000-1#5-6-7";
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let volume = VolumeMount {
            name: "v".to_owned(),
            driver: Some("local".to_owned()),
            labels: own(&[("a", "b"), ("c", "")]),
            options: own(&[("o", "size=1m,uid=7")]),
            no_copy: true,
            subpath: Some("x/y".into()),
            ..VolumeMount::default()
        };
        let range = |inside, outside, count| IdMap { inside, outside, count };
        let uids = vec![range(0, 1000, 1), range(5, 6, 7)];
        let want = MountRequest {
            target: "/b".into(),
            kind: MountKind::Volume(volume),
            read_only: true,
            idmap: Some(UserMap { uids, ..UserMap::default() }),
        };
        assert_eq!(in_home(mount, text), Ok(want));
    }

    #[test]
    fn a_tmpfs_takes_options_after_a_colon() {
        let kind = MountKind::Tmpfs {
            size: Some(ByteSize(64 << 20)),
            mode: Some(0o755),
            options: vec!["noexec".to_owned(), "uid=7".to_owned()],
        };
        let want = MountRequest { target: "/run".into(), kind, read_only: false, idmap: None };
        assert_eq!(tmpfs("/run:rw,noexec,size=64m,mode=755,uid=7"), Ok(want));
        assert!(tmpfs("run").is_err());
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text in "[a-z=,\"/:.]{0,40}") {
            let _ = in_home(volume, &text);
            let _ = in_home(mount, &text);
            let _ = tmpfs(&text);
        }
    }
}
