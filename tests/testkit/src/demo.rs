//! The demo image's root file system as a directory, for drivers under test.

use std::{
    env, fs,
    fs::File,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Tools that the conformance suite calls.
const TOOLS: [&str; 12] =
    ["cat", "echo", "env", "id", "ls", "pwd", "sh", "sleep", "stress", "touch", "true", "tty"];

/// Fills an empty directory with the demo program, a link for each tool, and what every root has.
///
/// # Panics
/// If the program cannot be compiled or the directory cannot be written.
pub fn fill(root: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).expect("the directory is ours");
    }
    let open = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(root.join("tmp"), open).expect("the directory is ours");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("it is ours");
    fs::copy(program(), root.join("demo")).expect("the program is a file");
    for tool in TOOLS {
        symlink("/demo", root.join("bin").join(tool)).expect("the directory is ours");
    }
}

/// The demo program, linked statically: compiled once, by the first test that needs it.
fn program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/demo/src");
    let test = env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/test");
    let program = target.join("testkit-demo");
    // Tests are processes of their own; one compiles, the others wait for it here.
    let lock = File::create(target.join("testkit-demo.lock")).expect("the directory is ours");
    lock.lock().expect("locks can be waited for");
    let newest = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let fresh = newest(&program).is_some_and(|made| {
        let sources = fs::read_dir(&source).into_iter().flatten().flatten();
        sources.into_iter().all(|entry| newest(&entry.path()).is_some_and(|time| time < made))
    });
    if !fresh {
        let partial = target.join("testkit-demo.partial");
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut compile = Command::new(rustc);
        compile.args([
            "--edition",
            "2024",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "panic=abort",
        ]);
        compile.arg("-o").arg(&partial).arg(source.join("main.rs"));
        let output = compile.output().expect("rustc runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the demo program does not compile: {said}");
        fs::rename(&partial, &program).expect("the directory is ours");
    }
    program
}
