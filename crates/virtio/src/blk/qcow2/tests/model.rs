//! Any operations in any order, compared with a plain array of bytes.

use proptest::prelude::*;

use super::*;

const SECTORS: u64 = 400;

#[derive(Clone, Debug)]
enum Step {
    Write {
        sector: u64,
        sectors: u64,
        byte: u8,
    },
    Zero {
        sector: u64,
        sectors: u64,
        unmap: bool,
    },
    Discard {
        sector: u64,
        sectors: u64,
    },
    Flush,
    Reopen,
    /// The process is killed: what the file has at this moment is opened again.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..SECTORS, 1u64..40).prop_map(|(at, n)| (at, n.min(SECTORS - at)));
    prop_oneof![
        6 => (range(), 1u8..).prop_map(|((sector, sectors), byte)| Step::Write { sector, sectors, byte }),
        2 => (range(), any::<bool>())
            .prop_map(|((sector, sectors), unmap)| Step::Zero { sector, sectors, unmap }),
        2 => range().prop_map(|(sector, sectors)| Step::Discard { sector, sectors }),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// What a sector may read as: a disk that was killed has the old or the new of what was not
/// flushed.
struct Model {
    now: Vec<u8>,
    /// For each sector what it could be if the process ended now; more than one until a flush.
    possible: Vec<Vec<u8>>,
}

fn filled(base: &[u8]) -> Vec<u8> {
    let first = |sector: u64| base.get(usize::try_from(sector).unwrap() * 512).copied();
    (0..SECTORS).map(|sector| first(sector).unwrap_or(0)).collect()
}

impl Model {
    fn set(&mut self, sector: u64, sectors: u64, byte: u8) {
        for sector in sector..sector + sectors {
            let sector = usize::try_from(sector).unwrap();
            self.now[sector] = byte;
            self.possible[sector].push(byte);
        }
    }

    fn settle(&mut self) {
        self.possible = self.now.iter().map(|byte| vec![*byte]).collect();
    }
}

fn sector_bytes(image: &mut Disk) -> Vec<u8> {
    let bytes = image.read(0, SECTORS as usize);
    let sectors = bytes.chunks(512);
    sectors
        .map(|sector| {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
            sector[0]
        })
        .collect()
}

fn run(cluster_bits: u32, version: u32, base: &[u8], steps: Vec<Step>) {
    let mut file = scratch();
    let backing = || (!base.is_empty()).then(|| raw(base));
    let named = (!base.is_empty()).then(|| super::backing().unwrap());
    create::create_as(&file, SECTORS * SECTOR, named, version, cluster_bits).unwrap();
    let mut image = disk(&file, backing());
    let now = filled(base);
    let mut model = Model { possible: now.iter().map(|byte| vec![*byte]).collect(), now };
    for step in steps {
        match step {
            Step::Write { sector, sectors, byte } => {
                image.write(sector, &vec![byte; usize::try_from(sectors * 512).unwrap()]);
                model.set(sector, sectors, byte);
            }
            Step::Zero { sector, sectors, unmap } => {
                image.clear(13, sector, u32::try_from(sectors).unwrap(), unmap.into());
                model.set(sector, sectors, 0);
            }
            Step::Discard { sector, sectors } => {
                image.clear(11, sector, u32::try_from(sectors).unwrap(), 0);
                // It may have been forgotten or not, and is the one or the other from now on.
                let is = sector_bytes(&mut image);
                for at in sector..sector + sectors {
                    let is = is[usize::try_from(at).unwrap()];
                    assert!(is == 0 || is == model.now[usize::try_from(at).unwrap()]);
                    model.set(at, 1, is);
                }
            }
            Step::Flush => {
                image.flush();
                audit::clean(&file);
                model.settle();
            }
            Step::Reopen => {
                drop(image);
                audit::clean(&file);
                image = disk(&file, backing());
                model.settle();
            }
            Step::Kill => {
                let left = scratch();
                left.write_all_at(&bytes_of(&file), 0).unwrap();
                audit::whole(&left);
                drop(std::mem::replace(&mut image, disk(&left, backing())));
                file = left;
                let is = sector_bytes(&mut image);
                for (sector, byte) in is.iter().enumerate() {
                    let possible = &model.possible[sector];
                    assert!(possible.contains(byte), "{sector}: {byte} of {possible:?}");
                }
                model.now = is;
                model.settle();
            }
        }
        assert_eq!(sector_bytes(&mut image), model.now);
    }
    image.flush();
    audit::clean(&file);
    drop(image);
    let mut image = disk(&file, backing());
    assert_eq!(sector_bytes(&mut image), model.now);
}

#[test]
fn what_was_forgotten_before_a_flush_is_not_leaked_by_a_kill() {
    let steps = vec![
        Step::Write { sector: 106, sectors: 19, byte: 1 },
        Step::Discard { sector: 101, sectors: 6 },
        Step::Flush,
        Step::Kill,
        Step::Reopen,
    ];
    run(9, 3, &[], steps);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A disk is an array of sectors, whatever is done to it, and survives being killed with all
    /// that was flushed.
    #[test]
    fn an_image_is_an_array_of_sectors(
        cluster_bits in prop_oneof![Just(9u32), Just(12), Just(16)],
        version in 2u32..4,
        base in prop_oneof![Just(0u64), Just(150), Just(500)],
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        let base: Vec<u8> = (0..base * 512).map(|n| 0x80 | (n / 512) as u8).collect();
        run(cluster_bits, version, &base, steps);
    }
}
