//! The daemon's own messages: to standard error, or to a file that does not grow without end.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing_subscriber::EnvFilter;

use crate::error::CliError;

/// Environment variable that says what is logged, as `tracing_subscriber::EnvFilter` reads it.
const FILTER_VARIABLE: &str = "WYTHE_LOG";

/// Size at which the file is put aside, as `….1`, in place of the one that was put aside before.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Begins to log: to this file, or to standard error.
pub(crate) fn begin(file: Option<&Path>, debug: bool) -> Result<(), CliError> {
    let usual = if debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| usual.into());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match file {
        None => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            subscriber.with_writer(io::stderr).with_ansi(colour).init();
        }
        Some(path) => {
            let failed = |error| CliError::io(format!("open {}", path.display()), error);
            let log = BoundedLog::open(path).map_err(failed)?;
            // What panics and what children say belongs there too.
            rustix::stdio::dup2_stderr(&log.file).map_err(|error| failed(error.into()))?;
            subscriber.with_writer(Mutex::new(log)).with_ansi(false).init();
        }
    }
    Ok(())
}

/// A file of bounded size.
#[derive(Debug)]
struct BoundedLog {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl BoundedLog {
    fn open(path: &Path) -> io::Result<BoundedLog> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(BoundedLog { path: path.to_owned(), file, bytes })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        std::fs::rename(&self.path, aside)?;
        *self = BoundedLog::open(&self.path)?;
        Ok(())
    }
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes >= FILE_BYTES_MAX {
            self.put_aside()?;
        }
        let written = self.file.write(bytes)?;
        self.bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stays_within_its_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let mut log = BoundedLog::open(&path).unwrap();
        let megabyte = vec![b'x'; 1 << 20];
        for _ in 0..11 {
            log.write_all(&megabyte).unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) <= FILE_BYTES_MAX);
        assert_eq!(size(&dir.path().join("daemon.log.1")), FILE_BYTES_MAX);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
