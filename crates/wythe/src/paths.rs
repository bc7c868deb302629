//! Where an instance keeps its things. Separate paths make separate instances.

use std::path::{Path, PathBuf};

/// Environment variable that moves the data root.
pub(crate) const DATA_VARIABLE: &str = "WYTHE_DATA";
/// Environment variable that moves the run root.
pub(crate) const RUN_VARIABLE: &str = "WYTHE_RUN";
/// Environment variable that names the daemon's socket.
pub(crate) const HOST_VARIABLE: &str = "WYTHE_HOST";

/// Name of the daemon's socket.
const SOCKET: &str = "wythe.sock";

/// The two directories of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roots {
    /// What outlives a reboot.
    pub(crate) data: PathBuf,
    /// Everything else.
    pub(crate) run: PathBuf,
}

/// Where root's daemon serves if nobody moved it.
const ROOTS_OF_ROOT: (&str, &str) = ("/var/lib/wythe", "/run/wythe");

/// What decides where a user's instance is.
pub(crate) struct Surroundings<'a> {
    /// The user.
    pub(crate) uid: u32,
    /// Values of environment variables that are set and not empty.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<PathBuf>,
    /// Who owns a directory.
    pub(crate) owner: &'a dyn Fn(&Path) -> Option<u32>,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub(crate) fn own() -> Surroundings<'static> {
        Surroundings {
            uid: rustix::process::geteuid().as_raw(),
            variable: &|name| {
                std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
            },
            owner: &|path| Some(std::os::unix::fs::MetadataExt::uid(&path.metadata().ok()?)),
        }
    }
}

impl Surroundings<'_> {
    /// Where this user's things are kept that outlive a reboot, and the others.
    ///
    /// Source: XDG Base Directory Specification. A `XDG_RUNTIME_DIR` of another user's, which
    /// `su` leaves behind, is not his.
    fn usual(&self) -> (Option<PathBuf>, PathBuf) {
        if self.uid == 0 {
            return (Some(ROOTS_OF_ROOT.0.into()), ROOTS_OF_ROOT.1.into());
        }
        let home = || Some((self.variable)("HOME")?.join(".local/share"));
        let data = (self.variable)("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let run = (self.variable)("XDG_RUNTIME_DIR")
            .filter(|path| path.is_absolute() && (self.owner)(path) == Some(self.uid));
        let run = match run {
            Some(run) => run.join("wythe"),
            None => format!("/tmp/wythe-{}", self.uid).into(),
        };
        (data.or_else(home).map(|data| data.join("wythe")), run)
    }
}

impl Roots {
    /// From flags where they were given, else from the environment, else the usual places.
    ///
    /// # Errors
    /// What would have to be said, for a user without a home.
    pub(crate) fn resolve(
        data: Option<PathBuf>,
        run: Option<PathBuf>,
        around: &Surroundings<'_>,
    ) -> Result<Roots, String> {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let (usual_data, usual_run) = around.usual();
        let data = data.or_else(|| (around.variable)(DATA_VARIABLE)).or(usual_data);
        let run = run.or_else(|| (around.variable)(RUN_VARIABLE)).unwrap_or(usual_run);
        let homeless =
            || format!("HOME is not set: say where images are kept with {DATA_VARIABLE}");
        Ok(Roots { data: absolute(data.ok_or_else(homeless)?), run: absolute(run) })
    }

    /// The socket of root's daemon, if this user has an instance of his own by default and may
    /// use that one: whoever was let in by its group means it, as with Docker.
    pub(crate) fn shared_socket(run_given: bool) -> Option<PathBuf> {
        if run_given
            || rustix::process::geteuid().is_root()
            || std::env::var_os(RUN_VARIABLE).is_some_and(|path| !path.is_empty())
        {
            return None;
        }
        let socket = Path::new(ROOTS_OF_ROOT.1).join(SOCKET);
        let may = rustix::fs::access(&socket, rustix::fs::Access::WRITE_OK).is_ok();
        may.then_some(socket)
    }

    /// The daemon's socket, unless another is named.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join(SOCKET)
    }

    /// The socket for Docker's clients.
    pub(crate) fn docker_socket(&self) -> PathBuf {
        self.run.join("docker.sock")
    }

    /// Held by the one daemon of this instance.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("daemon.lock")
    }

    /// The messages of a daemon that a command line started.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("daemon.log")
    }
}

/// The socket that `-H` or `WYTHE_HOST` names: a path, or a path behind `unix://`.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(crate) fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if let Some((scheme, _)) = path.split_once("://") {
        return Err(format!("{scheme}:// is not built yet: use unix:///path/to/socket"));
    }
    if path.is_empty() {
        return Err("name a socket: unix:///path/to/socket".to_owned());
    }
    Ok(Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(uid: u32, variables: &[(&str, &str)]) -> Result<(String, String), String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let owner = |path: &Path| Some(if path.starts_with("/run/user/7") { 7 } else { 0 });
        let around = Surroundings { uid, variable: &find, owner: &owner };
        let text = |path: PathBuf| path.display().to_string();
        Roots::resolve(None, None, &around).map(|roots| (text(roots.data), text(roots.run)))
    }

    #[test]
    fn every_user_has_places_of_his_own() {
        let ok = |data: &str, run: &str| Ok((data.to_owned(), run.to_owned()));
        let home = ("HOME", "/home/a");
        let run = ("XDG_RUNTIME_DIR", "/run/user/7");
        assert_eq!(roots(0, &[home, run]), ok("/var/lib/wythe", "/run/wythe"));
        assert_eq!(roots(7, &[home, run]), ok("/home/a/.local/share/wythe", "/run/user/7/wythe"));
        assert_eq!(roots(8, &[home, run]), ok("/home/a/.local/share/wythe", "/tmp/wythe-8"));
        let data = ("XDG_DATA_HOME", "/data");
        assert_eq!(roots(7, &[home, data]), ok("/data/wythe", "/tmp/wythe-7"));
        assert!(roots(7, &[]).is_err());
        let given = [("WYTHE_DATA", "/d"), ("WYTHE_RUN", "/r")];
        assert_eq!(roots(7, &given), ok("/d", "/r"));
    }

    #[test]
    fn a_host_is_a_unix_socket() {
        assert_eq!(socket("unix:///run/a.sock"), Ok(PathBuf::from("/run/a.sock")));
        assert_eq!(socket("/run/a.sock"), Ok(PathBuf::from("/run/a.sock")));
        for bad in ["tcp://localhost:1", "", "unix://"] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }
}
