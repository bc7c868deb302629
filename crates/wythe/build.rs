//! Compiles the demo program as one static executable, to be embedded.
//!
//! With rustc alone, for size: see docs/adr/2026-11-21-demo-is-compiled-by-rustc.md.

use std::{env, error::Error, path::PathBuf, process::Command};

/// Flags of the compiler. Position-dependent code needs no relocation at every start.
const FLAGS: [&str; 14] = [
    "--edition=2024",
    "--crate-name=demo",
    "--crate-type=bin",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Ccodegen-units=1",
    "-Clto=fat",
    "-Cembed-bitcode=yes",
    "-Cstrip=symbols",
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Cdebug-assertions=off",
    "-Coverflow-checks=on",
    "-Cdebuginfo=0",
];

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from("../demo/src");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("demo");
    let status = Command::new(env::var("RUSTC")?)
        .args(FLAGS)
        .arg("--target")
        .arg(env::var("TARGET")?)
        .arg("-o")
        .arg(&out)
        .arg(source.join("main.rs"))
        .status()?;
    if !status.success() {
        return Err("the demo program does not compile".into());
    }
    Ok(())
}
