//! Compiles the agent, the first process of every machine, as one static program to be embedded.
//!
//! By a cargo of its own: a program that is linked statically shares nothing with one that is not,
//! and there is no other way to say so for one package of a workspace.

use std::{
    env,
    error::Error,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    process::Command,
};

/// Flags of the compiler. Position-dependent code needs no relocation at every start.
const FLAGS: &str = "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static";

/// What the agent is made of, besides what the lock file names.
const SOURCES: [&str; 15] = [
    "archive",
    "base",
    "cgroups",
    "files",
    "guest",
    "linux",
    "net",
    "seccomp",
    "shim",
    "stdio",
    "sys",
    "wire",
    "workload",
    "../Cargo.toml",
    "../Cargo.lock",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=../{source}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let (target, directory) = (env::var("TARGET")?, out.join("build"));
    let status = Command::new(env::var("CARGO")?)
        .args(["build", "--quiet", "--locked", "--package=guest", "--profile=guest"])
        .arg("--target")
        .arg(&target)
        .arg("--target-dir")
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS)
        // What the outer cargo is told about its own compilers: clippy, for one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC")
        .env_remove("RUSTFLAGS")
        .status()?;
    if !status.success() {
        return Err("the agent does not compile".into());
    }
    let agent = std::fs::read(directory.join(target).join("guest/guest"))?;
    // So that machines that were booted with another are told apart without reading it again.
    let mut hasher = DefaultHasher::new();
    agent.hash(&mut hasher);
    println!("cargo::rustc-env=AGENT_ID={:016x}", hasher.finish());
    std::fs::write(out.join("agent"), agent)?;
    Ok(())
}
