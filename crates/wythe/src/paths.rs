//! Where an instance keeps its things. Separate paths make separate instances.

use std::path::{Path, PathBuf};

/// Environment variable that moves the data root.
pub(crate) const DATA_VARIABLE: &str = "WYTHE_DATA";
/// Environment variable that moves the run root.
pub(crate) const RUN_VARIABLE: &str = "WYTHE_RUN";
/// Environment variable that names the daemon's socket.
pub(crate) const HOST_VARIABLE: &str = "WYTHE_HOST";

/// The two directories of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roots {
    /// What outlives a reboot.
    pub(crate) data: PathBuf,
    /// Everything else.
    pub(crate) run: PathBuf,
}

impl Roots {
    /// From flags where they were given, else from the environment, else the usual places.
    pub(crate) fn resolve(data: Option<PathBuf>, run: Option<PathBuf>) -> Roots {
        let variable = |name| std::env::var_os(name).filter(|path| !path.is_empty());
        let pick = |given: Option<PathBuf>, name, usual: &str| {
            let path = given
                .or_else(|| variable(name).map(PathBuf::from))
                .unwrap_or_else(|| PathBuf::from(usual));
            std::path::absolute(&path).unwrap_or(path)
        };
        Roots {
            data: pick(data, DATA_VARIABLE, "/var/lib/wythe"),
            run: pick(run, RUN_VARIABLE, "/run/wythe"),
        }
    }

    /// The daemon's socket, unless another is named.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join("wythe.sock")
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

    #[test]
    fn a_host_is_a_unix_socket() {
        assert_eq!(socket("unix:///run/a.sock"), Ok(PathBuf::from("/run/a.sock")));
        assert_eq!(socket("/run/a.sock"), Ok(PathBuf::from("/run/a.sock")));
        for bad in ["tcp://localhost:1", "", "unix://"] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }
}
