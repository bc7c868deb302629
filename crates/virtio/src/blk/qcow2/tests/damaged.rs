//! Images that contradict themselves.

use proptest::prelude::*;

use super::*;

/// An image of small clusters, with data in its first 100 sectors.
fn written() -> File {
    let file = small(256, 3, backing());
    let mut image = disk(&file, Some(raw(&[9; 4096])));
    image.write(0, &[1; 100 * 512]);
    image.clear(13, 50, 10, 1);
    drop(image);
    file
}

fn put(file: &File, at: u64, value: u64) {
    file.write_all_at(&value.to_be_bytes(), at).unwrap();
}

fn get(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_be_bytes(bytes)
}

fn refused(change: impl FnOnce(&File)) -> String {
    let file = written();
    change(&file);
    let error = open(&file, true, Some(raw(&[]))).unwrap_err();
    match error {
        OpenError::Read(error) => error.to_string(),
        OpenError::Unwritable(_) | OpenError::Backing(_) => error.to_string(),
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let word = |at: u64, value: u32| {
        refused(move |file| {
            file.write_all_at(&value.to_be_bytes(), at).unwrap();
        })
    };
    let check = |at, value, want: &str| {
        let error = word(at, value);
        assert!(error.contains(want), "{at} {value}: {error}");
    };
    check(0, 0x1234_5678, "it is not a qcow2 image");
    check(4, 1, "version 1");
    check(4, 4, "version 4");
    check(16, 1024, "the name of its backing file");
    check(20, 8, "its cluster size");
    check(20, 22, "its cluster size");
    check(24, 1, "its table is shorter");
    check(24, u32::MAX, "too large");
    check(32, 1, "encryption");
    check(36, u32::MAX, "too large");
    check(36, 1, "its table is shorter");
    check(44, 0x601, "a table at 0x601");
    check(44, 0, "an entry");
    check(44, 0x7fff_fe00, "a table at 0x7ffffe00");
    check(52, 0x7fff_fe00, "refcount table");
    check(56, u32::MAX, "too large");
    check(60, 1, "snapshots");
    check(76, 1, "not closed");
    check(76, 2, "corrupt");
    check(76, 4, "external data");
    check(76, 16, "extended");
    check(76, 1 << 9, "later versions");
    check(96, 7, "its refcounts");
    check(100, 96, "its length");
    let short = refused(|file| file.set_len(60).unwrap());
    assert!(short.contains("it ends"), "{short}");
}

#[test]
fn tables_within_tables_are_refused() {
    let l1 = 3 * 512;
    let first = get(&written(), l1);
    let same = refused(|file| put(file, l1 + 8, first));
    assert!(same.contains("a table within another"), "{same}");
    for wrong in [first | 1, COPIED_BIT | 512, COPIED_BIT | 1024, COPIED_BIT | 1 << 40] {
        refused(|file| put(file, l1, wrong));
    }
    for wrong in [1, 512, 1 << 40, 1 << 60] {
        refused(|file| put(file, 512, wrong));
    }
}

const COPIED_BIT: u64 = 1 << 63;

#[test]
fn an_entry_that_leads_to_a_table_or_nowhere_is_an_error_and_nothing_is_written() {
    let l1 = 3 * 512;
    let table = get(&written(), l1) & !COPIED_BIT;
    for wrong in [
        COPIED_BIT | 0x200,
        COPIED_BIT | 0x400,
        COPIED_BIT | 0x600,
        COPIED_BIT | table,
        COPIED_BIT | 1 << 40,
        COPIED_BIT | 0x301,
        1 << 62 | 0x200,
    ] {
        let file = written();
        put(&file, table + 8, wrong);
        let before = bytes_of(&file);
        let mut image = disk(&file, Some(raw(&[])));
        assert!(!image.try_write(1, &[7; 512]), "{wrong:#x}");
        let error = image.error().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(!image.try_write(2, &[7; 512]), "the table is not believed at all");
        assert!(image.try_read(1, 1).is_none());
        image.flush();
        drop(image);
        assert_eq!(bytes_of(&file), before);
    }
}

#[test]
fn a_cluster_that_is_counted_wrongly_is_not_written_to() {
    for count in [0u16, 2, 3] {
        let file = written();
        let table = get(&file, 3 * 512) & !COPIED_BIT;
        let cluster = get(&file, table) & !COPIED_BIT;
        file.write_all_at(&count.to_be_bytes(), 1024 + 2 * (cluster / 512)).unwrap();
        let mut image = disk(&file, Some(raw(&[])));
        assert!(!image.try_write(0, &[7; 512]));
        let error = image.error().unwrap().to_string();
        assert!(error.contains(&format!("counted {count} times")), "{error}");
        assert_eq!(image.read(0, 1), [1; 512]);
        // Clusters that are new come from elsewhere, whatever the counts say.
        image.write(200, &[8; 512]);
        assert_eq!(image.read(0, 1), [1; 512]);
    }
}

#[test]
fn a_cluster_of_two_is_copied_before_it_is_written_to() {
    let file = written();
    let table = get(&file, 3 * 512) & !COPIED_BIT;
    let first = get(&file, table) & !COPIED_BIT;
    // Two sectors of the disk share a cluster, as those of two snapshots do.
    put(&file, table, first);
    put(&file, table + 8, first);
    file.write_all_at(&2u16.to_be_bytes(), 1024 + 2 * (first / 512)).unwrap();
    let mut image = disk(&file, Some(raw(&[])));
    image.write(0, &[7; 512]);
    assert_eq!(image.read(0, 2), [[7; 512], [1; 512]].concat());
    drop(image);
    audit::whole(&file);
}

#[test]
fn compressed_clusters_are_expanded() {
    let file = scratch();
    create::create_as(&file, 8 << 12, None, 3, 12).unwrap();
    disk(&file, None).write(0, &[1; 512]);
    let table = get(&file, 3 << 12) & !COPIED_BIT;
    let plain: Vec<u8> = (0..4096u32).map(|n| (n / 16) as u8).collect();
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut packed = Vec::with_capacity(8192);
    deflate.compress_vec(&plain, &mut packed, flate2::FlushCompress::Finish).unwrap();
    let at = file.metadata().unwrap().len().next_multiple_of(4096) + 100;
    file.write_all_at(&packed, at).unwrap();
    let sectors = (at % 512 + packed.len() as u64).div_ceil(512) - 1;
    put(&file, table + 8, 1 << 62 | sectors << 58 | at);
    file.write_all_at(&1u16.to_be_bytes(), (2 << 12) + 2 * (at / 4096)).unwrap();
    let mut image = disk(&file, None);
    assert_eq!(image.read(8, 8), plain);
    assert_eq!(image.read(10, 2), plain[1024..2048]);
    image.write(9, &[3; 512]);
    let mut want = plain;
    want[512..1024].fill(3);
    assert_eq!(image.read(8, 8), want);
    drop(image);
    audit::clean(&file);
    // One that ends too early, and one that is none.
    put(&file, table + 8, 1 << 62 | at);
    file.write_all_at(&[0xff; 512], at).unwrap();
    file.write_all_at(&1u16.to_be_bytes(), (2 << 12) + 2 * (at / 4096)).unwrap();
    let mut image = disk(&file, None);
    assert!(image.try_read(8, 1).is_none());
    assert!(!image.try_write(8, &[1; 512]), "what surrounds it cannot be read");
    image.write(8, &[1; 4096]);
    assert_eq!(image.read(8, 8), [1; 4096]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    /// Whatever is changed in the tables: nothing panics, and what is read after it was written
    /// is what was written, or an error.
    #[test]
    fn damage_is_an_error_or_harmless(
        damage in proptest::collection::vec((0u64..30 * 512, any::<u8>()), 1..4),
        words in proptest::collection::vec(
            (0u64..30 * 64, prop_oneof![0u64..100, any::<u64>()], any::<bool>()), 0..3),
    ) {
        let file = written();
        for (at, byte) in damage {
            file.write_all_at(&[byte], at).unwrap();
        }
        for (at, value, own) in words {
            let value = if own { COPIED_BIT | value << 9 } else { value };
            put(&file, at * 8, value);
        }
        if let Ok(image) = open(&file, true, Some(raw(&[]))) {
            let sectors = image.bytes().min(256 * 512) / 512;
            let mut image = Disk::new(Image::Qcow2(Box::new(image)));
            for sector in 0..sectors {
                image.try_read(sector, 1);
            }
            for sector in (0..sectors).step_by(7) {
                if image.try_write(sector, &[0x77; 512])
                    && let Some(read) = image.try_read(sector, 1)
                {
                    prop_assert_eq!(read, [0x77; 512]);
                }
            }
        }
    }
}
