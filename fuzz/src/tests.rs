//! Each target over its seeds, what was found earlier, and mutations of both.

use std::{fs, path::Path};

use super::TARGETS;

/// Mutations of each seed. A fuzzer does a thousand times more; this keeps the targets alive.
const MUTATIONS: u64 = 200;

/// SplitMix64: what is found here is found again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most.max(1)).unwrap()).unwrap()
    }

    /// A few bytes changed, taken out, doubled or replaced by interesting ones.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        const WORDS: [&[u8]; 8] =
            [b"\0", b"\xff\xff\xff\xff", b"..", b"/", b"\"", b"{", b"-1", b"18446744073709551616"];
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(9)).min(bytes.len());
            match self.below(5) {
                0 => drop(bytes.splice(at..end, [])),
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let piece = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, piece));
                }
                3 => {
                    let word = WORDS[self.below(WORDS.len())];
                    drop(bytes.splice(at..end, word.iter().copied()));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        bytes
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut paths: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seeds", dir.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_stands_its_seeds_and_mutations_of_them() {
    for target in TARGETS {
        let mut random = Random(1);
        for seed in seeds(target.name) {
            (target.run)(&seed);
            for _ in 0..MUTATIONS {
                let bytes = random.mutate(&seed);
                let run = std::panic::catch_unwind(|| (target.run)(&bytes));
                let shown = String::from_utf8_lossy(&bytes);
                assert!(run.is_ok(), "{} does not stand {shown:?}", target.name);
            }
        }
    }
}

#[test]
fn every_directory_of_seeds_has_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(super::target(&name).is_some(), "{name}");
    }
}
