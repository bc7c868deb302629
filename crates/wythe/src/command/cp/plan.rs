//! What a copy means: which side is the container, where it goes and what it is called there.
//! Pure.
//!
//! Source: docker/cli, `cli/command/container/cp.go`; moby, `pkg/archive/copy.go`.

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A path of this machine.
    Local(String),
    /// An archive on standard input or output.
    Stream,
    /// A path in a container.
    Container {
        /// Which.
        who: String,
        /// Where.
        path: String,
    },
}

impl Side {
    /// Reads `CONTAINER:PATH`, `-` and `PATH`. What begins with a slash or a dot is a path, so
    /// that `./a:b` is one.
    pub(super) fn parse(text: &str) -> Side {
        if text == "-" {
            return Side::Stream;
        }
        match text.split_once(':') {
            Some((who, path))
                if !text.starts_with('/') && !who.starts_with('.') && !who.is_empty() =>
            {
                Side::Container { who: who.to_owned(), path: path.to_owned() }
            }
            Some(_) | None => Side::Local(text.to_owned()),
        }
    }
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) directory: bool,
    /// What it is called in place of its last name, which belongs to what a link pointed to.
    pub(super) rename: Option<&'a str>,
}

/// What is there where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    /// Whether it is a directory; nothing if nothing is there.
    pub(super) directory: Option<bool>,
}

/// The directory into which an archive is unpacked, and the name of what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) directory: String,
    pub(super) name: String,
}

/// Why something cannot go somewhere, in Docker's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("cannot copy directory")]
    DirectoryOverFile,
    #[error("no such directory")]
    NoSuchDirectory,
}

/// Where a source goes.
pub(super) fn plan(source: &Source<'_>, target: &Target<'_>) -> Result<Plan, Refusal> {
    let (above, last) = split(target.path);
    match target.directory {
        Some(true) => {
            let (_, own) = split(source.path);
            let name = source.rename.map_or(own, str::to_owned);
            Ok(Plan { directory: target.path.to_owned(), name })
        }
        Some(false) if source.directory => Err(Refusal::DirectoryOverFile),
        None if !source.directory && asserts_directory(target.path) => {
            Err(Refusal::NoSuchDirectory)
        }
        Some(false) | None => Ok(Plan { directory: above, name: last }),
    }
}

/// Whether a path says of itself that it is a directory.
pub(super) fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || is_current(path)
}

fn is_current(path: &str) -> bool {
    path.rsplit('/').next() == Some(".")
}

/// A path's directory and last name, cleaned; `/.` at its end is a name of its own, `.`, and so
/// is the root's.
pub(super) fn split(path: &str) -> (String, String) {
    let clean = clean(path);
    if is_current(path) || clean == "/" {
        return (clean, ".".to_owned());
    }
    match clean.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((above, name)) => (above.to_owned(), name.to_owned()),
        None => (".".to_owned(), clean),
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Where a link that is followed leads, and what that is called: the target takes over what the
/// path said of being a directory, and the copy keeps the link's name.
pub(super) fn followed(path: &str, target: &str) -> (String, Option<String>) {
    let mut to = target.to_owned();
    if is_current(path) && !is_current(&to) {
        to.push_str("/.");
    } else if path.ends_with('/') && !to.ends_with('/') {
        to.push('/');
    }
    let (_, own) = split(path);
    let (_, others) = split(&to);
    (to, (own != others).then_some(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        let container =
            |who: &str, path: &str| Side::Container { who: who.to_owned(), path: path.to_owned() };
        let local = |path: &str| Side::Local(path.to_owned());
        for (text, want) in [
            ("web:/etc", container("web", "/etc")),
            ("web:etc/x:y", container("web", "etc/x:y")),
            ("web:", container("web", "")),
            ("/a:b", local("/a:b")),
            ("./a:b", local("./a:b")),
            ("../a:b", local("../a:b")),
            ("a/b", local("a/b")),
            ("-", Side::Stream),
        ] {
            assert_eq!(Side::parse(text), want, "{text}");
        }
    }

    fn planned(
        source: (&str, bool),
        target: (&str, Option<bool>),
    ) -> Result<(String, String), Refusal> {
        let source = Source { path: source.0, directory: source.1, rename: None };
        let target = Target { path: target.0, directory: target.1 };
        plan(&source, &target).map(|plan| (plan.directory, plan.name))
    }

    /// Docker's documentation, `docker cp`, "Description".
    #[test]
    fn a_copy_goes_where_docker_puts_it() {
        let at = |directory: &str, name: &str| Ok((directory.to_owned(), name.to_owned()));
        let (file, directory, contents) =
            (("/s/file", false), ("/s/dir", true), ("/s/dir/.", true));
        let (missing, asserted) = (("/d/new", None), ("/d/new/", None));
        let (there, over) = (("/d/dir", Some(true)), ("/d/file", Some(false)));
        for (source, target, want) in [
            (file, missing, at("/d", "new")),
            (file, asserted, Err(Refusal::NoSuchDirectory)),
            (file, over, at("/d", "file")),
            (file, there, at("/d/dir", "file")),
            (directory, missing, at("/d", "new")),
            (directory, asserted, at("/d", "new")),
            (directory, over, Err(Refusal::DirectoryOverFile)),
            (directory, there, at("/d/dir", "dir")),
            (contents, missing, at("/d", "new")),
            (contents, there, at("/d/dir", ".")),
            (("/", true), there, at("/d/dir", ".")),
        ] {
            assert_eq!(planned(source, target), want, "{source:?} to {target:?}");
        }
    }

    #[test]
    fn a_link_that_is_followed_keeps_its_name() {
        assert_eq!(followed("/a/link", "/b/file"), ("/b/file".into(), Some("link".into())));
        assert_eq!(followed("/a/same", "/b/same"), ("/b/same".into(), None));
        assert_eq!(followed("/a/link/.", "/b"), ("/b/.".into(), None));
    }
}
