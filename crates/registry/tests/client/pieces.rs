//! Large blobs, which come in pieces side by side.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use registry::RegistryError;
use tokio::sync::Barrier;

use crate::fake::{Asked, Fake, answer, content, part, whole};

/// Long enough to come in pieces; the last one is shorter.
const BYTES: usize = (17 << 20) + 5;
const PIECE: usize = 4 << 20;
const PIECES: usize = BYTES.div_ceil(PIECE);

fn piece_of(asked: &Asked) -> usize {
    asked.range().expect("pieces are asked for").0 / PIECE
}

#[tokio::test]
async fn pieces_come_side_by_side_and_in_order() {
    let (bytes, digest) = content(BYTES);
    // The second to fourth are answered when all three of them have been asked for.
    let (served, together) = (Arc::new(bytes.clone()), Arc::new(Barrier::new(3)));
    let fake = Fake::later(move |asked| {
        let (served, together) = (Arc::clone(&served), Arc::clone(&together));
        async move {
            if (1..4).contains(&piece_of(&asked)) {
                together.wait().await;
            }
            part(&asked, &served)
        }
    });
    let fake = fake.await;
    let came = whole(&fake.repository(None), digest, BYTES as u64).await.unwrap();
    assert!(came == bytes);
    let ranges: BTreeSet<_> = fake.asked().iter().filter_map(Asked::range).collect();
    let last = |start: usize| Some((start + PIECE - 1).min(BYTES - 1));
    // What goes to the end needs no last byte.
    let want = (0..PIECES).map(|number| number * PIECE).map(|start| match last(start) {
        Some(last) if last == BYTES - 1 => (start, None),
        last => (start, last),
    });
    assert_eq!(ranges, want.collect());
    assert_eq!(fake.asked().len(), PIECES);
}

#[tokio::test]
async fn who_does_not_take_the_first_piece_is_not_sent_all_others() {
    let (bytes, digest) = content(10 * PIECE);
    let fake = Fake::start(move |asked| part(asked, &bytes)).await;
    let repository = fake.repository(None);
    let mut download = repository.blob(digest, 10 * PIECE as u64);
    let mut done = 0;
    while done < PIECE {
        done += download.next().await.unwrap().unwrap().len();
    }
    // The first, and those that come at once.
    assert!(fake.asked().len() <= 5, "{}", fake.asked().len());
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_in_one_stream() {
    let (bytes, digest) = content(BYTES);
    let served = bytes.clone();
    let fake = Fake::start(move |_| answer("200 OK", "", &served)).await;
    let came = whole(&fake.repository(None), digest, BYTES as u64).await.unwrap();
    assert!(came == bytes);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_registry_that_forgets_ranges_midway_is_read_all_the_same() {
    let (bytes, digest) = content(BYTES);
    let served = bytes.clone();
    let fake = Fake::start(move |asked| match asked.range() {
        Some((0, _)) => part(asked, &served),
        _ => answer("200 OK", "", &served),
    });
    let fake = fake.await;
    let came = whole(&fake.repository(None), digest, BYTES as u64).await.unwrap();
    assert!(came == bytes);
}

#[tokio::test]
async fn a_piece_that_is_cut_goes_on_where_it_was_cut() {
    let (bytes, digest) = content(BYTES);
    let served = bytes.clone();
    let fake = Fake::start(move |asked| {
        let whole = part(asked, &served);
        let head = whole.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let tag = b"HTTP/1.1 206 Partial Content\r\nETag: \"these\"\r\n";
        let rest = &whole["HTTP/1.1 206 Partial Content\r\n".len()..];
        let (from, _) = asked.range().unwrap();
        // Pieces break off in their middle, rests of them come whole.
        let cut = if from % PIECE == 0 { head + PIECE / 4 } else { whole.len() };
        let sent = rest.len() - (whole.len() - cut.min(whole.len()));
        [&tag[..], &rest[..sent]].concat()
    });
    let fake = fake.await;
    let came = whole(&fake.repository(None), digest, BYTES as u64).await.unwrap();
    assert!(came == bytes);
    let asked = fake.asked();
    let again: Vec<_> =
        asked.iter().filter(|asked| asked.range().unwrap().0 % PIECE != 0).collect();
    assert!(again.len() >= PIECES - 1, "{}", again.len());
    for asked in again {
        assert!(asked.range().unwrap().0 % PIECE >= PIECE / 5, "{asked:?}");
        assert_eq!(asked.headers["if-range"], "\"these\"");
    }
}

#[tokio::test]
async fn ranges_that_lie_are_found_out() {
    let (bytes, digest) = content(BYTES);
    for lie in ["bytes 1-4194304", "bytes 0-4194303/7", "bytes x-y/z", "pages 0-4194303/1"] {
        let (served, tries) = (bytes.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&tries);
        let fake = Fake::start(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let total = if lie.contains('/') { "" } else { "/17825797" };
            let range = format!("Content-Range: {lie}{total}\r\n");
            answer("206 Partial Content", &range, &served[..PIECE])
        });
        let fake = fake.await;
        let refused = whole(&fake.repository(None), digest, BYTES as u64).await.unwrap_err();
        let known =
            matches!(refused, RegistryError::Malformed { .. } | RegistryError::Length { .. });
        assert!(known, "{lie}: {refused}");
        assert_eq!(tries.load(Ordering::Relaxed), 1, "{lie}");
    }
}
