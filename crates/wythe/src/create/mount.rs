//! The little languages of `-v`, `--mount` and `--tmpfs`.
//!
//! Source: docker/cli, `cli/compose/loader/volume.go` and `opts/mount.go`.

use std::path::{Path, PathBuf};

use base::ByteSize;
use engine::{MountKind, MountRequest};

/// Words of `-v` and `--mount` for how mounts travel between host and container.
const PROPAGATIONS: [&str; 6] = ["shared", "slave", "private", "rshared", "rslave", "rprivate"];

/// `source:target[:options]`. Relative sources begin with a dot and lie below `directory`.
pub(super) fn volume(text: &str, directory: &Path) -> Result<MountRequest, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => {
            return Err(format!("anonymous volumes are not built yet: write /host/path:{target}"));
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err("write /host/path:/container/path[:options]".to_owned()),
    };
    let mut bind = BindOptions { create: true, ..BindOptions::default() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        bind.volume_option(option)?;
    }
    bind.mount(host_path(source, directory)?, absolute(target)?)
}

/// `type=…,source=…,target=…[,…]`, comma-separated, with quotes around what contains a comma.
pub(super) fn mount(text: &str, directory: &Path) -> Result<MountRequest, String> {
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
        "volume" => Err("volumes are not built yet: use type=bind or type=tmpfs".to_owned()),
        other => Err(format!("mounts of type {other} are not built: use bind or tmpfs")),
    }
}

/// `/path[:options]`.
pub(super) fn tmpfs(text: &str) -> Result<MountRequest, String> {
    let (target, given) = text.split_once(':').unwrap_or((text, ""));
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
    Ok(MountRequest { target: absolute(target)?, kind, read_only })
}

#[derive(Default)]
struct BindOptions {
    create: bool,
    read_only: bool,
    non_recursive: bool,
    propagation: Option<String>,
}

impl BindOptions {
    fn volume_option(&mut self, option: &str) -> Result<(), String> {
        match option {
            "ro" | "readonly" => self.read_only = true,
            // SELinux labels and cache consistency are for other hosts than those we run on.
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
            "nocopy" => return Err("nocopy is for volumes, which are not built yet".to_owned()),
            word if PROPAGATIONS.contains(&word) => self.propagation = Some(word.to_owned()),
            word => return Err(format!("\"{word}\" is not an option: use ro, rw or rslave")),
        }
        Ok(())
    }

    fn mount(self, source: PathBuf, target: PathBuf) -> Result<MountRequest, String> {
        if target == Path::new("/") {
            return Err("the destination can't be '/'".to_owned());
        }
        let BindOptions { create, read_only, non_recursive, propagation } = self;
        let kind = MountKind::Bind { source, create, non_recursive, propagation };
        Ok(MountRequest { target, kind, read_only })
    }
}

fn bind_mount(pairs: &[(String, Option<&str>)], directory: &Path) -> Result<MountRequest, String> {
    let mut bind = BindOptions::default();
    let (mut source, mut target) = (None, None);
    for (key, value) in pairs {
        match (key.as_str(), value) {
            ("source" | "src", Some(value)) => source = Some(host_path(value, directory)?),
            ("target" | "dst" | "destination", Some(value)) => target = Some(absolute(value)?),
            ("readonly" | "ro", value) => bind.read_only = switch(*value)?,
            ("bind-nonrecursive", value) => bind.non_recursive = switch(*value)?,
            ("bind-recursive", Some("disabled")) => bind.non_recursive = true,
            ("bind-recursive", Some("enabled")) => {}
            ("bind-create-src", value) => bind.create = switch(*value)?,
            ("bind-propagation", Some(value)) if PROPAGATIONS.contains(value) => {
                bind.propagation = Some((*value).to_owned());
            }
            ("consistency", Some(_)) => {}
            (key, value) => return Err(unexpected(key, *value, "bind")),
        }
    }
    bind.mount(source.ok_or("type=bind needs source=")?, target.ok_or("target= is missing")?)
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
    Ok(MountRequest { target: target.ok_or("target= is missing")?, kind, read_only })
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

fn host_path(source: &str, directory: &Path) -> Result<PathBuf, String> {
    if source.starts_with('/') {
        return Ok(PathBuf::from(source));
    }
    let relative = source == "." || source == ".." || source.starts_with("./");
    if relative || source.starts_with("../") {
        return Ok(directory.join(source));
    }
    Err(format!("named volumes are not built yet: write a host path, such as /srv/{source}"))
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
        MountRequest { target: target.into(), kind, read_only: false }
    }

    fn in_home<T>(parse: fn(&str, &Path) -> T, text: &str) -> T {
        parse(text, Path::new("/home/me"))
    }

    #[test]
    fn volumes_are_binds() {
        let ro = MountRequest { read_only: true, ..bind("/srv", "/srv", true) };
        for (text, want) in [
            ("/a:/b", bind("/a", "/b", true)),
            ("./a:/b", bind("/home/me/./a", "/b", true)),
            (".:/b", bind("/home/me/.", "/b", true)),
            ("/srv:/srv:ro", ro.clone()),
            ("/srv:/srv:ro,z", ro),
        ] {
            assert_eq!(in_home(volume, text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("/data", "anonymous volumes"),
            ("data:/data", "named volumes"),
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
        let tmpfs = MountRequest { target: "/t".into(), kind: tmpfs, read_only: false };
        for (text, want) in [
            ("type=bind,source=/a,target=/b", bind("/a", "/b", false)),
            ("type=bind,src=/a,dst=/b,bind-create-src", bind("/a", "/b", true)),
            ("type=bind,\"source=/a,b\",target=/c,readonly", ro),
            ("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", tmpfs),
        ] {
            assert_eq!(in_home(mount, text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("type=volume,source=v,target=/b", "not built yet"),
            ("source=v,target=/b", "not built yet"),
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
    fn a_tmpfs_takes_options_after_a_colon() {
        let kind = MountKind::Tmpfs {
            size: Some(ByteSize(64 << 20)),
            mode: Some(0o755),
            options: vec!["noexec".to_owned(), "uid=7".to_owned()],
        };
        let want = MountRequest { target: "/run".into(), kind, read_only: false };
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
