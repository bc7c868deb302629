//! What flags refer to outside the command line: files and environment variables.

use std::io;

/// Where flags look things up.
pub(crate) trait Surroundings {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file's text.
    fn read(&self, path: &str) -> io::Result<String>;
    /// The working directory.
    fn directory(&self) -> io::Result<std::path::PathBuf>;
}

/// The real ones.
#[derive(Debug)]
pub(crate) struct Host;

/// Longest file that a flag may name (environment, labels, seccomp profile), in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

impl Surroundings for Host {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &str) -> io::Result<String> {
        use io::Read as _;
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let most = format!("the file is longer than the {FILE_BYTES_MAX} bytes allowed");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, most));
        }
        Ok(text)
    }

    fn directory(&self) -> io::Result<std::path::PathBuf> {
        std::env::current_dir()
    }
}
