//! Frames come out as they went in, however the stream is cut, and nonsense ends it.

use proptest::prelude::*;

use super::*;

/// Feeds `stream` in pieces of the given lengths (over and over) and collects what comes out.
fn feed(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, WireError> {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    let mut rest = stream;
    let mut pieces = pieces.iter().cycle();
    loop {
        let space = decoder.space();
        assert!(!space.is_empty(), "the decoder always has room");
        let count = space.len().min(rest.len()).min(*pieces.next().unwrap());
        let (piece, left) = rest.split_at(count);
        space[..count].copy_from_slice(piece);
        rest = left;
        match decoder.received(count, Vec::new())? {
            Step::More => {}
            Step::Frame(frame) => out.push(frame.body),
            Step::End => return Ok(out),
        }
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat()
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        pieces in prop::collection::vec(1usize..70, 1..10),
    ) {
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        prop_assert_eq!(feed(&stream, &pieces).unwrap(), bodies);
    }

    #[test]
    fn any_bytes_end_in_frames_or_an_error(
        stream in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(1usize..70, 1..10),
    ) {
        let _ = feed(&stream, &pieces);
    }

    #[test]
    fn a_cut_stream_is_an_error_unless_it_is_cut_between_frames(
        body in prop::collection::vec(any::<u8>(), 0..100), cut in 1usize..104,
    ) {
        let whole = frame(&body);
        prop_assume!(cut < whole.len());
        let result = feed(&whole[..cut], &[64]);
        prop_assert!(matches!(result, Err(WireError::Truncated { .. })), "{:?}", result);
    }
}

#[test]
fn a_long_frame_is_read_in_pieces_and_a_longer_one_refused() {
    let body = vec![b'x'; FRAME_BYTES_MAX];
    assert_eq!(feed(&frame(&body), &[usize::MAX]).unwrap(), [body]);
    let result = feed(&u32::MAX.to_le_bytes(), &[4]);
    assert!(matches!(result, Err(WireError::TooLong { bytes: 0xffff_ffff })), "{result:?}");
}

#[test]
fn an_announced_length_takes_no_memory_before_its_bytes_come() {
    let mut decoder = Decoder::default();
    decoder.space().copy_from_slice(&u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes());
    assert!(matches!(decoder.received(4, Vec::new()), Ok(Step::More)));
    assert_eq!(decoder.space().len(), READ_BYTES_MAX);
}

#[test]
fn descriptors_within_a_frame_are_refused() {
    let mut decoder = Decoder::default();
    decoder.space().copy_from_slice(&[9, 0, 0, 0]);
    assert!(matches!(decoder.received(4, Vec::new()), Ok(Step::More)));
    decoder.space()[0] = 1;
    let stray = std::fs::File::open("/dev/null").unwrap().into();
    let result = decoder.received(1, vec![stray]);
    assert!(matches!(result, Err(WireError::StrayDescriptors { count: 1 })), "{result:?}");
}

#[test]
fn messages_that_are_too_long_are_not_encoded() {
    let message = "x".repeat(FRAME_BYTES_MAX);
    assert!(matches!(encode(&message, 0), Err(WireError::TooLong { .. })));
    assert!(matches!(encode(&1, FDS_MAX + 1), Err(WireError::TooManyDescriptors { count: 17 })));
}
