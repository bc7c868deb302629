//! Docker's multiplexed stream, taken apart: `stream u8 | 3 zero bytes | length u32 (big endian)`.

/// Bytes in front of each payload.
const HEADER_BYTES: usize = 8;

/// Whose payload follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Takes a stream apart, in whatever pieces it arrives.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    header: Vec<u8>,
    current: Option<(Stream, usize)>,
}

impl Demux {
    /// Hands every part of a payload in `bytes` to `write`.
    ///
    /// # Errors
    /// Those of `write`; and a header of no known stream, as text.
    pub(crate) fn take<E: From<String>>(
        &mut self,
        mut bytes: &[u8],
        mut write: impl FnMut(Stream, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            match self.current.take() {
                Some((stream, left)) => {
                    let (payload, rest) = bytes.split_at(left.min(bytes.len()));
                    if left > payload.len() {
                        self.current = Some((stream, left - payload.len()));
                    }
                    bytes = rest;
                    write(stream, payload)?;
                }
                None => bytes = self.take_header(bytes)?,
            }
        }
        Ok(())
    }

    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let missing = HEADER_BYTES - self.header.len();
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.header.extend(part);
        if let [stream, _, _, _, length @ ..] = self.header.as_slice()
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            let stream = match stream {
                1 => Stream::Output,
                2 => Stream::Error,
                other => return Err(format!("a frame of stream {other}")),
            };
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            self.current = (length > 0).then_some((stream, length));
            self.header.clear();
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(error: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![if error { 2 } else { 1 }, 0, 0, 0];
        bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    proptest! {
        #[test]
        fn payloads_come_out_however_the_stream_is_cut(
            frames in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            cut in 1_usize..17,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(error, load)| frame(*error, load)).collect();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for piece in bytes.chunks(cut) {
                demux.take::<String>(piece, |stream, payload| {
                    if stream == Stream::Error { err.extend(payload) } else { out.extend(payload) };
                    Ok(())
                }).unwrap();
            }
            let want = |of: bool| -> Vec<u8> {
                frames.iter().filter(|(e, _)| *e == of).flat_map(|(_, load)| load.clone()).collect()
            };
            prop_assert_eq!((out, err), (want(false), want(true)));
        }
    }

    #[test]
    fn an_unknown_stream_is_an_error() {
        let mut demux = Demux::default();
        let result = demux.take::<String>(&[7, 0, 0, 0, 0, 0, 0, 1, 65], |_, _| Ok(()));
        assert!(result.unwrap_err().contains("stream 7"));
    }
}
