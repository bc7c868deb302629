//! Options of the driver `local`: where a volume's content is.
//!
//! Source: moby, `volume/local/local_unix.go`: `type`, `o`, `device`, as mount(8) has them.

use std::{collections::BTreeMap, path::PathBuf};

/// Where a volume's content is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// In the store.
    #[default]
    Kept,
    /// In memory, for as long as somebody who runs uses it.
    Tmpfs(TmpfsOptions),
    /// In a directory of the host.
    Bind(PathBuf),
}

/// A tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Mount flags, `MOUNT_ATTR_…` of linux/mount.h.
    pub attributes: u32,
    /// `key` or `key=value` for the file system.
    pub parameters: Vec<(String, Option<String>)>,
}

/// What options mean; the text says what is wrong with them.
pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<Kind, String> {
    if let Some(unknown) = options.keys().find(|key| !["type", "o", "device"].contains(&&***key)) {
        return Err(format!("invalid option: {unknown:?}"));
    }
    let get = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let words: Vec<&str> = get("o").unwrap_or("").split(',').filter(|w| !w.is_empty()).collect();
    let binds = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    match (get("type"), get("device")) {
        (None, None) if words.is_empty() => Ok(Kind::Kept),
        (Some("tmpfs"), _) => tmpfs(&words).map(Kind::Tmpfs),
        (Some("nfs" | "nfs4"), _) => {
            Err("volumes of type nfs are not built: mount it on the host, then use \
                 type=none,o=bind,device=/path"
                .to_owned())
        }
        (Some("none" | "bind") | None, Some(device)) if binds => bind(device, &words),
        (Some("none" | "bind") | None, Some(_)) => {
            Err("device without o=bind: write o=bind, or type=tmpfs".to_owned())
        }
        (Some("none" | "bind"), None) => Err("missing device in volume options".to_owned()),
        (None, None) => Err("missing required option: \"device\"".to_owned()),
        (Some(other), _) => {
            Err(format!("volumes of type {other} are not built: use tmpfs, or none with o=bind"))
        }
    }
}

fn bind(device: &str, words: &[&str]) -> Result<Kind, String> {
    if let Some(other) = words.iter().find(|word| !matches!(**word, "bind" | "rbind" | "rw")) {
        return Err(format!("invalid option {other:?} for a bind: mount it read-only with :ro"));
    }
    match device.starts_with('/') {
        true => Ok(Kind::Bind(device.into())),
        false => Err(format!("device {device:?} is not an absolute path")),
    }
}

fn tmpfs(words: &[&str]) -> Result<TmpfsOptions, String> {
    // Source: linux/mount.h, MOUNT_ATTR_….
    const FLAGS: [(&str, u32); 4] =
        [("nosuid", 0x2), ("nodev", 0x4), ("noexec", 0x8), ("noatime", 0x10)];
    let mut options = TmpfsOptions::default();
    for word in words {
        if let Some((_, bit)) = FLAGS.iter().find(|(name, _)| name == word) {
            options.attributes |= bit;
            continue;
        }
        match word.split_once('=') {
            Some((
                key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge"
                | "mpol"),
                value,
            )) => options.parameters.push((key.to_owned(), Some(value.to_owned()))),
            _ if matches!(*word, "rw" | "suid" | "dev" | "exec" | "relatime") => {}
            _ => return Err(format!("invalid option {word:?} for a tmpfs")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[(&str, &str)]) -> Result<Kind, String> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        parse(&options.iter().map(own).collect())
    }

    #[test]
    fn options_say_where_the_content_is() {
        assert_eq!(parsed(&[]), Ok(Kind::Kept));
        let bound = parsed(&[("type", "none"), ("o", "bind"), ("device", "/srv")]);
        assert_eq!(bound, Ok(Kind::Bind("/srv".into())));
        let parameters = vec![("size".to_owned(), Some("1m".to_owned()))];
        let want = TmpfsOptions { attributes: 0x4, parameters };
        let tmpfs = parsed(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,nodev")]);
        assert_eq!(tmpfs, Ok(Kind::Tmpfs(want)));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (options, want) in [
            (&[("size", "1")][..], "invalid option: \"size\""),
            (&[("type", "nfs"), ("device", ":/x"), ("o", "addr=10.0.0.1")], "nfs are not built"),
            (&[("type", "ext4"), ("device", "/dev/sda")], "type ext4 are not built"),
            (&[("o", "bind")], "missing required option"),
            (&[("type", "none"), ("o", "bind"), ("device", "srv")], "not an absolute path"),
            (&[("type", "tmpfs"), ("o", "fast")], "invalid option \"fast\""),
        ] {
            let error = parsed(options).unwrap_err();
            assert!(error.contains(want), "{options:?}: {error}");
        }
    }
}
