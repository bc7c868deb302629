//! A large layer: 3,300 files whose gzip is about 110 MB, as an archive of `docker save`.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    Options,
    place::{Place, timed},
    row::{Better, Row},
};
use crate::command::{quietly, target};

pub(super) const ROWS: [&str; 1] = ["load of a 110 MB gzip layer"];

const FILES: u32 = 3300;
/// Average size of a file, in bytes: from some hundred to a megabyte, as in a root file system.
const FILE_BYTES: u64 = 86_000;
/// It takes seconds; medians of a few do.
const ROUNDS_MAX: usize = 5;

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let archive = archive("large", FILES)?;
    let megabytes = content_bytes(&archive)? / 1e6;
    let (mut ours, mut podmans) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(ROUNDS_MAX) {
        let load = timed(place.wythe().args(["load", "-i"]).arg(&archive))?;
        ours.push(megabytes / load.as_secs_f64());
        quietly(place.wythe().args(["rmi", "large:latest"]))?;
        let path = archive.to_string_lossy();
        if let Some(mut podman) = place.podman(&["load", "-i", &path]) {
            podmans.push(megabytes / timed(&mut podman)?.as_secs_f64());
            if let Some(mut remove) = place.podman(&["rmi", "large:latest"]) {
                quietly(&mut remove)?;
            }
        }
    }
    let mut figures = vec![("wythe", ours), ("podman", podmans)];
    figures.retain(|(_, figures)| !figures.is_empty());
    for (_, figures) in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    Ok(vec![Row { work: ROWS[0], unit: "MB/s", better: Better::Higher, figures }])
}

/// Bytes of the layer's content, as noted when it was made.
fn content_bytes(archive: &Path) -> Result<f64> {
    Ok(fs::read_to_string(archive.with_extension("bytes"))?.trim().parse()?)
}

/// The archive of an image of this name with one layer of so many files, made once and kept in the
/// target directory.
pub(super) fn archive(name: &str, files: u32) -> Result<PathBuf> {
    let done = target().join(format!("fixtures/{name}-layer.tar"));
    if done.is_file() && content_bytes(&done).is_ok() {
        return Ok(done);
    }
    eprintln!("xtask: making an image with {files} files");
    let dir = tempfile::tempdir_in(done.parent().context("a folder")?.parent().context("target")?)?;
    let root = dir.path().join("root");
    make_files(&root, files)?;
    let (layer, image) = (dir.path().join("layer.tar"), dir.path().join("image"));
    fs::create_dir(&image)?;
    let sorted = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0"];
    quietly(Command::new("tar").args(sorted).arg("-C").arg(&root).arg("-cf").arg(&layer).arg("."))?;
    let digest = sha256(&layer)?;
    let bytes = fs::metadata(&layer)?.len();
    quietly(Command::new("gzip").arg("-n").arg(&layer))?;
    fs::rename(dir.path().join("layer.tar.gz"), image.join("layer.tar"))?;
    let config = serde_json::json!({
        "architecture": architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(image.join("config.json"), serde_json::to_vec(&config)?)?;
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [format!("{name}:latest")], "Layers": ["layer.tar"]},
    ]);
    fs::write(image.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    fs::create_dir_all(done.parent().context("a folder")?)?;
    let members = ["manifest.json", "config.json", "layer.tar"];
    quietly(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&done).args(members))?;
    fs::write(done.with_extension("bytes"), bytes.to_string())?;
    Ok(done)
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("sha256sum says nothing")?.to_owned())
}

/// Files of words and of noise, which gzip brings down to two fifths, as it does programs.
fn make_files(root: &Path, files: u32) -> Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..files {
        let dir = root.join(format!("usr/part{}/{}", number % 9, number % 70));
        fs::create_dir_all(&dir)?;
        let mut file = BufWriter::new(File::create(dir.join(format!("file{number}")))?);
        // From a tenth to nearly twice the average.
        let bytes = FILE_BYTES / 10 + random.next() % (FILE_BYTES * 9 / 5);
        let mut written = 0;
        while written < bytes {
            let word = random.next();
            if word.is_multiple_of(3) {
                file.write_all(&word.to_le_bytes())?;
                written += 8;
            } else {
                let text = format!("{:x} the quick brown fox {} ", word % 4096, word % 17);
                file.write_all(text.as_bytes())?;
                written += text.len() as u64;
            }
        }
        file.flush()?;
    }
    Ok(())
}

/// xorshift64: the same files every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
