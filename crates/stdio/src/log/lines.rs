//! Whole lines out of pieces of output, for forms that have one entry per line. Pure.

use super::{LINE_BYTES_MAX, Stream};

/// Gathers each stream's lines. What has no end yet waits here, up to [`LINE_BYTES_MAX`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    output: Vec<u8>,
    error: Vec<u8>,
}

impl Lines {
    /// Takes a piece of output and hands on every line with its newline, and every part of one
    /// that is too long to wait.
    pub(crate) fn push(&mut self, stream: Stream, mut piece: &[u8], mut take: impl FnMut(&[u8])) {
        let waiting = self.of(stream);
        while !piece.is_empty() {
            let room = LINE_BYTES_MAX - waiting.len();
            let window = piece.get(..room).unwrap_or(piece);
            let newline = memchr::memchr(b'\n', window).map(|at| at + 1);
            let (head, rest) = piece.split_at(newline.unwrap_or(window.len()));
            if waiting.is_empty() && newline.is_some() {
                take(head);
            } else {
                waiting.extend_from_slice(head);
                let full = waiting.len() >= LINE_BYTES_MAX;
                if newline.is_some() {
                    take(waiting);
                    waiting.clear();
                } else if full {
                    let cut = character_boundary(waiting);
                    take(waiting.get(..cut).unwrap_or_default());
                    waiting.drain(..cut);
                }
            }
            piece = rest;
        }
    }

    /// Hands on what has no end yet, as if it got none.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(Stream, &[u8])) {
        for stream in [Stream::Output, Stream::Error] {
            let waiting = std::mem::take(self.of(stream));
            if !waiting.is_empty() {
                take(stream, &waiting);
            }
        }
    }

    fn of(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        }
    }
}

/// The last place at which bytes can be cut without cutting a character of UTF-8. Of bytes that
/// are none, all.
fn character_boundary(bytes: &[u8]) -> usize {
    /// Most bytes of a character that can lie before its last one.
    const TAIL: usize = 3;
    let from = bytes.len().saturating_sub(TAIL);
    let start = (from..bytes.len()).rev().find(|at| bytes.get(*at).is_some_and(|b| *b >= 0xc0));
    match start {
        Some(at) if at > 0 => {
            let length = bytes.get(at).map_or(0, |first| first.leading_ones() as usize);
            if at + length > bytes.len() { at } else { bytes.len() }
        }
        Some(_) | None => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_put_together_are_the_output(pieces in prop::collection::vec("[a-zé€\n]{0,400}", 0..40)) {
            let mut lines = Lines::default();
            let mut taken: Vec<Vec<u8>> = Vec::new();
            for piece in &pieces {
                lines.push(Stream::Output, piece.as_bytes(), |line| taken.push(line.to_vec()));
            }
            prop_assert!(taken.iter().all(|line| line.ends_with(b"\n")));
            lines.finish(|_, rest| taken.push(rest.to_vec()));
            prop_assert_eq!(taken.concat(), pieces.concat().into_bytes());
            prop_assert!(taken.iter().all(|l| !l[..l.len() - 1].contains(&b'\n')));
        }
    }

    #[test]
    fn a_line_without_end_goes_on_in_parts_that_cut_no_character() {
        let mut lines = Lines::default();
        let mut taken = Vec::new();
        let long = "€".repeat(LINE_BYTES_MAX / 2);
        lines.push(Stream::Error, long.as_bytes(), |part| taken.push(part.to_vec()));
        lines.finish(|_, rest| taken.push(rest.to_vec()));
        assert!(taken.len() >= 2 && taken.iter().all(|part| part.len() <= LINE_BYTES_MAX));
        assert!(taken.iter().all(|part| std::str::from_utf8(part).is_ok()));
        assert_eq!(taken.concat(), long.into_bytes());
    }
}
