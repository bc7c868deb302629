//! Programs for the inside of containers: compiled by rustc alone, linked statically, once.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

/// A program that makes system calls as it is told; see `attack/main.rs` beside this crate.
///
/// # Panics
/// If it cannot be compiled.
pub fn attack() -> PathBuf {
    compiled("testkit-attack", &Path::new(env!("CARGO_MANIFEST_DIR")).join("attack"))
}

/// The program whose sources are in a directory: compiled by the first test that needs it, anew
/// when a source is newer.
///
/// # Panics
/// If it cannot be compiled.
pub(crate) fn compiled(name: &str, source: &Path) -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/test");
    let program = target.join(name);
    // Tests are processes of their own; one compiles, the others wait for it here.
    let lock = File::create(target.join(format!("{name}.lock"))).expect("the directory is ours");
    lock.lock().expect("locks can be waited for");
    let newest = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let fresh = newest(&program).is_some_and(|made| {
        let sources = fs::read_dir(source).into_iter().flatten().flatten();
        sources.into_iter().all(|entry| newest(&entry.path()).is_some_and(|time| time < made))
    });
    if !fresh {
        let partial = target.join(format!("{name}.partial"));
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut compile = Command::new(rustc);
        let statically = ["-C", "target-feature=+crt-static", "-C", "panic=abort"];
        compile.args(["--edition", "2024"]).args(statically);
        compile.arg("-o").arg(&partial).arg(source.join("main.rs"));
        let output = compile.output().expect("rustc runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} does not compile: {said}");
        fs::rename(&partial, &program).expect("the directory is ours");
    }
    program
}
