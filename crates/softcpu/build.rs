//! Gives what this crate is made of a name: what was decoded by another is of no use
//! (`src/book.rs`).

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::Path,
};

/// What decides what an operation is and does.
const SOURCES: [&str; 2] = ["src", "../../Cargo.lock"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        hash(Path::new(source), &mut hasher)?;
    }
    println!("cargo::rustc-env=SOURCES_ID={:016x}", hasher.finish());
    Ok(())
}

fn hash(at: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if !at.is_dir() {
        fs::read(at)?.hash(hasher);
        return Ok(());
    }
    let entries: io::Result<Vec<_>> = fs::read_dir(at)?.collect();
    let mut paths: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| {
        path.hash(hasher);
        hash(path, hasher)
    })
}
