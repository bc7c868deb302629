//! What the agent does in place of a container's program before machines are copied.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// Most bytes of a program that are read: 16 MiB.
const PROGRAM_MAX: u64 = 16 << 20;

/// Reads the program that is named, so that machines have it in memory from their beginning, and says
/// a word. Nobody has to hear it, and a program that is not there is none.
pub(crate) fn play() {
    let path = env::var_os("PATH").unwrap_or_default();
    let file = env::args().nth(1).and_then(|name| find(&name, env::split_paths(&path)));
    if let Some(file) = file {
        let _ = io::copy(&mut file.take(PROGRAM_MAX), &mut io::sink());
    }
    let _ = io::stdout().write_all(b"a rehearsal\n");
}

/// Opens a program as execvp(3) finds it.
fn find(name: &str, mut directories: impl Iterator<Item = PathBuf>) -> Option<File> {
    let open = |path: &Path| File::open(path).ok();
    if name.contains('/') {
        return open(Path::new(name));
    }
    directories.find_map(|directory| open(&directory.join(name)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_is_looked_for_and_a_path_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tool"), "").unwrap();
        let path = || [dir.path().join("empty"), dir.path().to_owned()].into_iter();
        assert!(find("tool", path()).is_some() && find("other", path()).is_none());
        assert!(find("./tool", path()).is_none());
        assert!(find(&dir.path().join("tool").display().to_string(), path()).is_some());
    }
}
