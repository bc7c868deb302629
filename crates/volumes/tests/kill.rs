//! A process that works on a store is killed at any moment: what is found then is whole.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use volumes::{NewVolume, Store, Use};

const DIRECTORY: &str = "WYTHE_VOLUMES_KILL";
/// Files of a generation: all of them have the same text.
const FILES: usize = 40;
const ROUNDS: u32 = 25;

/// What the killed process does, over and over.
#[test]
fn work_until_killed() {
    let Some(dir) = env::var_os(DIRECTORY) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(&dir.join("data"), &dir.join("run")).unwrap();
    #[expect(clippy::print_stdout, reason = "the test that kills waits for it")]
    {
        println!("open");
    }
    for round in 0.. {
        let name = format!("f{round}");
        let _ = store.remove(&name);
        store.create(NewVolume { name: name.clone(), ..NewVolume::default() }).unwrap();
        let wanted = Use { volume: name.clone(), subpath: None, fill_from: Some("/".into()) };
        store.mount("user", &[wanted], &[dir.join("layer")]).unwrap();
        store.unmount("user");
        let _ = store.snapshot("db", Some(&format!("s{}", round % 3)));
        let _ = store.remove_snapshot("db", &format!("s{}", (round + 1) % 3));
        let staged = store.stage("db", true).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&staged.directory());
        fill(Path::new(&format!("/proc/self/fd/{fd}")), round);
        store.import("db", staged, true).unwrap();
        let _ = store.restore("db", &format!("s{}", round % 3));
        let _ = store.remove("copy");
        store.clone_volume("db", "copy").unwrap();
        store.remove(&name).unwrap();
    }
}

fn fill(directory: &Path, generation: u32) {
    for file in 0..FILES {
        fs::write(directory.join(file.to_string()), generation.to_string()).expect("it is ours");
    }
}

/// Nothing, or one generation in every file.
fn check(directory: &Path, why: &str) {
    let read = |entry: std::io::Result<fs::DirEntry>| fs::read_to_string(entry?.path());
    let listed = fs::read_dir(directory).expect("it is there");
    let texts: Vec<String> = listed.map(read).collect::<Result<_, _>>().expect("it is readable");
    let generations: BTreeSet<_> = texts.iter().collect();
    assert!(texts.is_empty() || texts.len() == FILES, "{why}: {} files", texts.len());
    assert!(generations.len() <= 1, "{why}: {generations:?}");
}

#[test]
fn a_kill_leaves_the_old_or_the_new() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("layer")).unwrap();
    fill(&dir.path().join("layer"), 1_000_000);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "work_until_killed", "--nocapture"]).env(DIRECTORY, dir.path());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        assert!(out.lines().map_while(Result::ok).any(|line| line.contains("open")));
        // Later and later: every part of the work is hit in some round.
        thread::sleep(Duration::from_millis(u64::from(round) * 3 + 1));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&dir.path().join("data"), &dir.path().join("run")).unwrap();
        for volume in store.list() {
            check(&volume.path, volume.name.as_str());
            let home = volume.path.parent().unwrap();
            for left in ["populating", "populated"] {
                assert!(!home.join(left).exists(), "{left}");
            }
            for snapshot in store.snapshots(volume.name.as_str()).unwrap() {
                check(
                    &home.join("snapshots").join(snapshot.name.as_str()).join("data"),
                    "snapshot",
                );
            }
            if volume.name.as_str().starts_with('f') {
                store.remove(volume.name.as_str()).unwrap();
            }
        }
        let beside = dir.path().join("data/volumes/.beside");
        assert_eq!(fs::read_dir(beside).unwrap().count(), 0);
    }
}
