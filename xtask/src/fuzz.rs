//! `cargo xtask fuzz`: every target under libFuzzer, with the stable compiler's own coverage.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{cargo, host_triple, root, run, target};

/// What libFuzzer needs of the code under test: counters on every edge, and what is compared.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares \
     -Cdebug-assertions=on -Coverflow-checks=on -Clink-dead-code -Ccodegen-units=1";

/// Longest input, in bytes.
const INPUT_BYTES_MAX: u32 = 64 << 10;

/// `fuzz [TARGET [FILE]] [--seconds N]`: all targets in turn, one, or one over one input.
pub(crate) fn all(args: &[String]) -> Result<()> {
    let mut seconds = 60_u32;
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            let given = args.next().context("--seconds needs a number")?;
            seconds = given.parse().with_context(|| format!("--seconds {given}"))?;
        } else {
            words.push(arg.as_str());
        }
    }
    let known = targets()?;
    let fuzzer = build()?;
    match words.as_slice() {
        [] => known.iter().try_for_each(|name| fuzz(&fuzzer, name, seconds)),
        [name, rest @ ..] if known.iter().any(|known| known == name) => match rest {
            [] => fuzz(&fuzzer, name, seconds),
            [file] => run(Command::new(&fuzzer).env("WYTHE_FUZZ_TARGET", name).arg(file)),
            _ => bail!("one input at a time"),
        },
        [name, ..] => bail!("there is no target \"{name}\": {}", known.join(", ")),
    }
}

/// The targets, each of which has a directory of seeds.
fn targets() -> Result<Vec<String>> {
    let seeds = root().join("fuzz/seeds");
    let entries = fs::read_dir(&seeds).with_context(|| seeds.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<std::path::PathBuf> {
    let triple = host_triple()?;
    let out = target().join("fuzz");
    let mut build = cargo(&["build", "--release", "--package=fuzz", "--features=libfuzzer"]);
    // With --target the flags reach the code under test alone, not build scripts and macros.
    build.args(["--bin=fuzz", "--locked", "--target", &triple, "--target-dir"]).arg(&out);
    run(build.env("RUSTFLAGS", COVERAGE))?;
    Ok(out.join(&triple).join("release/fuzz"))
}

/// One target; what is found stays in `target/fuzz/found`, what was learned in its corpus.
fn fuzz(fuzzer: &Path, name: &str, seconds: u32) -> Result<()> {
    let corpus = target().join("fuzz/corpus").join(name);
    let found = target().join("fuzz/found");
    for dir in [&corpus, &found] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    println!("fuzzing {name} for {seconds} s");
    let status = Command::new(fuzzer)
        .env("WYTHE_FUZZ_TARGET", name)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/{name}-", found.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"])
        .arg(&corpus)
        .arg(root().join("fuzz/seeds").join(name))
        .status()
        .with_context(|| format!("cannot run {}", fuzzer.display()))?;
    ensure!(status.success(), "{name}: {status}; the input is in {}", found.display());
    Ok(())
}
