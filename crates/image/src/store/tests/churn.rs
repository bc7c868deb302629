//! Bytes on the disk are bytes that are needed, whatever was done and whenever it was killed.
//!
//! A child (this test again) works on a store in random order: imports, loads, saves, tags,
//! removals, prunings, collections. It is killed (SIGKILL) at random moments, the store is opened
//! again, and every file on the disk must be one that an image needs. `WYTHE_CHURN_OPERATIONS` asks
//! for more than the usual number of operations, `WYTHE_CHURN_SEED` for the same again.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Form, Import, Load, Options, Store, fixture::tar, mounts::Attach};
use base::clock::Timestamp;

/// Names that images have.
const NAMES: u64 = 6;
/// Contents that layers have: few, so that images share layers.
const CONTENTS: u64 = 10;
/// Operations where nobody asks for more.
const OPERATIONS: u64 = 200;

/// Source: Marsaglia, "Xorshift RNGs", 2003.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn open(dir: &Path) -> Store {
    let options = Options {
        data: dir.join("data"),
        run: dir.join("run"),
        form: Some(Form::Erofs(Attach::File)),
        platform: "linux/amd64".parse().unwrap(),
    };
    Store::open(&options).unwrap()
}

/// A root file system of one file, whose length depends on which it is.
fn rootfs(content: u64) -> Vec<u8> {
    let bytes = content.to_string().repeat(1 + usize::try_from(content).unwrap() * 3000);
    tar([("file", bytes.as_bytes())])
}

/// One operation. That there is no image of a name, or a name has gone, is no failure.
fn operate(store: &Store, random: &mut Random, dir: &Path) {
    let now = Timestamp::now();
    let name = format!("i{}:1", random.below(NAMES));
    match random.below(12) {
        0..=4 => {
            let import = Import {
                name: Some(name.parse().unwrap()),
                platform: "linux/amd64".parse().unwrap(),
                changes: vec![format!("LABEL n={}", random.below(4))],
                message: None,
                now,
            };
            let rootfs = rootfs(random.below(CONTENTS));
            store.import(rootfs.as_slice(), &import, &mut |_| {}).unwrap();
        }
        5 => {
            let other = format!("i{}:1", random.below(NAMES));
            drop(store.tag(&name, &other, now));
        }
        6..=7 => drop(store.remove(&name, random.below(2) == 0, &[], &[])),
        8 => drop(store.prune(random.below(4) == 0, &|_| true, &[]).unwrap()),
        9 => drop(store.collect(&[]).unwrap()),
        10 => {
            let archive = fs::File::create(dir.join("archive")).unwrap();
            drop(store.save(&[&name], &[], archive, &mut |_| {}));
        }
        _ => {
            let load = Load { platforms: Vec::new(), name: None, now };
            if let Ok(archive) = fs::File::open(dir.join("archive")) {
                // One that a kill cut short is refused.
                drop(store.load(BufReader::new(archive), &load, &mut |_| {}));
            }
        }
    }
}

/// The child: works until it is killed, and says a word after each operation.
#[test]
fn child_that_is_killed() {
    let Some(dir) = env::var_os("CHURN_CHILD").map(PathBuf::from) else { return };
    let seed = env::var("CHURN_CHILD_SEED").unwrap().parse().unwrap();
    let mut random = Random(seed);
    let store = open(&dir);
    loop {
        operate(&store, &mut random, &dir);
        writeln!(std::io::stderr(), "done").unwrap();
    }
}

/// Lets a child work and kills it; how many operations it finished.
fn work_and_kill(dir: &Path, seed: u64, random: &mut Random) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "store::tests::churn::child_that_is_killed", "--nocapture"]);
    child.env("CHURN_CHILD", dir).env("CHURN_CHILD_SEED", seed.to_string());
    let mut child =
        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
    let after = random.below(40);
    let mut done = 0;
    while done < after {
        let word = words.next().unwrap_or_else(|| panic!("the child ended; seed {seed}")).unwrap();
        assert_eq!(word, "done", "seed {seed}: {:?}", words.collect::<Vec<_>>());
        done += 1;
    }
    // Somewhere in the middle of the next.
    std::thread::sleep(Duration::from_micros(random.below(6000)));
    child.kill().unwrap();
    child.wait().unwrap();
    done + 1
}

/// Bytes of every file below a directory.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => bytes_below(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

#[test]
fn bytes_on_disk_are_bytes_needed_after_any_operations_and_kills() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = number("WYTHE_CHURN_OPERATIONS").unwrap_or(OPERATIONS);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let seed = number("WYTHE_CHURN_SEED").unwrap_or(u64::try_from(clock).unwrap());
    let mut random = Random(seed.max(1));
    let dir = tempfile::tempdir().unwrap();
    let (mut operations, mut kills, mut tidied) = (0, 0, 0);
    while operations < wanted {
        let child_seed = random.below(u64::MAX - 1) + 1;
        operations += work_and_kill(dir.path(), child_seed, &mut random);
        kills += 1;
        let store = open(dir.path());
        let audit = store.audit(&[], true).unwrap();
        assert!(audit.is_sound(), "seed {seed}, after {operations}: {audit:?}");
        tidied += audit.extra.len();
        store.collect(&[]).unwrap();
        let audit = store.audit(&[], true).unwrap();
        assert!(audit.is_sound() && audit.extra.is_empty(), "seed {seed}: {audit:?}");
        assert!(audit.mounted.is_empty(), "seed {seed}: {audit:?}");
        let content = dir.path().join("data/content");
        let on_disk = bytes_below(&content.join("blobs")) + bytes_below(&content.join("layers"));
        assert_eq!(on_disk, audit.bytes_needed, "seed {seed}, after {operations}");
        assert_eq!(bytes_below(&content.join("tmp")), 0, "seed {seed}");
    }
    let text = format!("{operations} operations, {kills} kills, {tidied} files tidied up\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    let store = open(dir.path());
    store.prune(true, &|_| true, &[]).unwrap();
    let content = dir.path().join("data/content");
    assert_eq!(bytes_below(&content.join("blobs")) + bytes_below(&content.join("layers")), 0);
}
