//! Looking at the host: what processes and control groups there are.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything: far above what it takes, so that only a hang fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
///
/// # Panics
/// If it does not become so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs this program, from wherever the file was mounted or linked.
pub(crate) fn runs(pid: i32, program: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    // The fork server may run from a copy in memory, so that no container can write to the file.
    if fs::read_link(&exe).is_ok_and(|target| target.starts_with("/memfd:wythe")) {
        return true;
    }
    let exe = file(&exe);
    exe.is_some() && exe == file(program)
}

/// Command lines of processes that have this text in theirs, or in their environment.
pub fn processes(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = std::process::id().to_string();
    entries
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok() && n != ours)
        })
        .filter_map(|entry| {
            let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let environment = String::from_utf8_lossy(&read("environ")).into_owned();
            (command.contains(text) || environment.contains(text)).then_some(command)
        })
        .collect()
}

/// Control groups whose path has this text, in every hierarchy.
pub fn cgroups(text: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: u32, text: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().contains(text) {
                    found.push(path);
                } else if depth > 0 {
                    walk(&path, depth - 1, text, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 4, text, &mut found);
    found
}
