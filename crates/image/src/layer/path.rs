//! Names in an archive: cleaned, bounded, and told apart from whiteouts.
//!
//! Source: OCI image-spec, layer.md, "Whiteouts"; for cleaning, what Docker and containerd do:
//! names are relative to the root whether or not they begin with a slash, and `.` and `..` are
//! resolved on the text alone.

use super::{EntryError, Exceeded, Limits};

/// The longest file name. Source: `NAME_MAX`, linux/limits.h.
const NAME_BYTES_MAX: usize = 255;

/// What marks a file as a whiteout.
const WHITEOUT: &[u8] = b".wh.";

/// What marks a file as AUFS's own. None of these is part of the image but [`OPAQUE`].
const WHITEOUT_META: &[u8] = b".wh..wh.";

/// The file that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A name in the staging directory of [`super::directory`] begins like this; no entry can have it.
pub(super) const RESERVED: &str = ".wh..wh.wythe";

/// What a name in a layer is about. Components are neither empty nor `.` nor `..`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The root itself.
    Root,
    /// An entry.
    Entry { parents: &'a [&'a [u8]], name: &'a [u8] },
    /// Something of the layers below that is hidden.
    Whiteout { parents: &'a [&'a [u8]], name: &'a [u8] },
    /// A directory whose content in the layers below is hidden.
    Opaque { directory: &'a [&'a [u8]] },
    /// AUFS's own bookkeeping.
    Ignored,
}

/// Splits a path into components, resolving `.` and `..` on the text.
pub(super) fn clean<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, EntryError> {
    let over = |limit, max: usize| EntryError::Limit(Exceeded { limit, max: max as u64 });
    if path.contains(&0) {
        return Err(EntryError::Nul);
    }
    if path.len() > limits.path_bytes {
        return Err(over("bytes in one path", limits.path_bytes));
    }
    let mut components = Vec::with_capacity(8);
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop().ok_or(EntryError::Escapes)?;
            }
            long if long.len() > NAME_BYTES_MAX => return Err(EntryError::Component),
            name => components.push(name),
        }
    }
    match components.len() > limits.depth {
        true => Err(over("components in one path", limits.depth)),
        false => Ok(components),
    }
}

/// What cleaned components are about.
pub(super) fn place<'a>(components: &'a [&'a [u8]]) -> Result<Place<'a>, EntryError> {
    let Some((&name, parents)) = components.split_last() else { return Ok(Place::Root) };
    if parents.iter().any(|parent| parent.starts_with(WHITEOUT_META)) {
        return Ok(Place::Ignored);
    }
    if parents.iter().any(|parent| parent.starts_with(WHITEOUT)) {
        return Err(EntryError::Whiteout);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Place::Entry { parents, name }),
        Some(_) if name == OPAQUE => Ok(Place::Opaque { directory: parents }),
        Some(_) if name.starts_with(WHITEOUT_META) => Ok(Place::Ignored),
        Some(b"" | b"." | b"..") => Err(EntryError::Whiteout),
        Some(hidden) => Ok(Place::Whiteout { parents, name: hidden }),
    }
}

/// As [`place`], where no name means anything but itself.
pub(super) fn plain<'a>(components: &'a [&'a [u8]]) -> Result<Place<'a>, EntryError> {
    let Some((&name, parents)) = components.split_last() else { return Ok(Place::Root) };
    match components.first() {
        Some(first) if *first == RESERVED.as_bytes() => Err(EntryError::Whiteout),
        Some(_) | None => Ok(Place::Entry { parents, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(path: &str) -> Result<String, EntryError> {
        let limits = Limits { path_bytes: 300, depth: 3, ..Limits::default() };
        let components = clean(path.as_bytes(), &limits)?;
        Ok(String::from_utf8(components.join(&b'/')).unwrap())
    }

    #[test]
    fn paths_become_relative_to_the_root() {
        for (path, clean) in [
            ("/etc/passwd", "etc/passwd"),
            ("./a//b/.", "a/b"),
            ("a/../b/", "b"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(cleaned(path).as_deref(), Ok(clean), "{path}");
        }
    }

    #[test]
    fn paths_that_cannot_be_are_refused() {
        let long = "a".repeat(256);
        for (path, error) in [
            ("../a", EntryError::Escapes),
            ("a/../../b", EntryError::Escapes),
            ("/..", EntryError::Escapes),
            ("a\0b", EntryError::Nul),
            (&long, EntryError::Component),
        ] {
            assert_eq!(cleaned(path), Err(error), "{path}");
        }
        assert!(matches!(cleaned("a/b/c/d"), Err(EntryError::Limit(_))));
        assert!(matches!(cleaned(&"a/../".repeat(61)), Err(EntryError::Limit(_))));
    }

    #[test]
    fn whiteouts_are_told_from_files() {
        fn kind(path: &[&str]) -> String {
            let components: Vec<_> = path.iter().map(|c| c.as_bytes()).collect();
            match place(&components) {
                Ok(Place::Root) => "root".to_owned(),
                Ok(Place::Entry { .. }) => "entry".to_owned(),
                Ok(Place::Whiteout { name, .. }) => format!("hides {}", name.escape_ascii()),
                Ok(Place::Opaque { directory }) => format!("opaque at depth {}", directory.len()),
                Ok(Place::Ignored) => "ignored".to_owned(),
                Err(error) => error.to_string(),
            }
        }
        assert_eq!(kind(&[]), "root");
        assert_eq!(kind(&["a", ".whx"]), "entry");
        assert_eq!(kind(&["a", ".wh.x"]), "hides x");
        assert_eq!(kind(&["a", ".wh..wh..opq"]), "opaque at depth 1");
        assert_eq!(kind(&[".wh..wh.plnk", "12.3"]), "ignored");
        assert_eq!(kind(&[".wh..wh.aufs"]), "ignored");
        for bad in [&[".wh."][..], &[".wh.."], &[".wh..."], &[".wh.a", "b"]] {
            assert_eq!(kind(bad), EntryError::Whiteout.to_string(), "{bad:?}");
        }
    }
}
