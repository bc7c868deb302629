//! `cargo xtask dist`: one stripped binary, linked statically, for any Linux of its architecture.

use std::fs;

use anyhow::{Context as _, Result};

use crate::command::{cargo, host_triple, run, target};

pub(crate) fn build() -> Result<()> {
    let triple = host_triple()?;
    // With --target the flags reach the program alone, not build scripts and macros, which
    // cannot be static.
    let mut build = cargo(&[
        "build",
        "--profile",
        "dist",
        "--package",
        "wythe",
        "--locked",
        "--target",
        &triple,
    ]);
    run(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let built = target().join(&triple).join("dist/wythe");
    let out = target().join("dist");
    fs::create_dir_all(&out)?;
    let out = out.join("wythe");
    fs::copy(&built, &out).with_context(|| format!("cannot copy {}", built.display()))?;
    let bytes = fs::metadata(&out)?.len();
    println!("{}: {:.1} MiB", out.display(), bytes as f64 / f64::from(1 << 20));
    Ok(())
}
