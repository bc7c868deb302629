//! Compressed data, told apart by their first bytes: gzip, xz, zstd, and LZ4 as kernels have it.
//!
//! Sources: RFC 1952; the .xz file format 1.2; RFC 8878; LZ4 frame format 1.6, "legacy frame".

use std::io::{self, BufRead, Read};

use lzma_rust2::XzReader;

mod lz4;

/// Memory that unpacking may take, in KiB: a dictionary of 128 MiB, the most that `xz -9e` and a
/// kernel's build (32 MiB) stay well below.
const XZ_MEMORY_KIB_MAX: u32 = 160 << 10;

/// How data are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

impl Form {
    /// What the first bytes say.
    pub(crate) fn of(first: &[u8]) -> Option<Form> {
        let begins = |magic: &[u8]| first.starts_with(magic);
        if begins(&[0x1f, 0x8b, 8]) {
            Some(Form::Gzip)
        } else if begins(b"\xfd7zXZ\0") {
            Some(Form::Xz)
        } else if begins(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Form::Zstd)
        } else if begins(&lz4::MAGIC) {
            Some(Form::Lz4)
        } else {
            None
        }
    }
}

/// A reader of what some data unpack to; data that are not compressed are read as they are. What
/// stands behind the compressed data is not looked at: kernels have their length there.
///
/// # Errors
/// If the first bytes cannot be read or the decoder cannot be made.
pub(crate) fn reader<'r>(mut source: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match Form::of(source.fill_buf()?) {
        None => Box::new(source),
        Some(Form::Gzip) => Box::new(flate2::bufread::GzDecoder::new(source)),
        Some(Form::Xz) => Box::new(XzReader::new_mem_limit(source, false, XZ_MEMORY_KIB_MAX)),
        Some(Form::Zstd) => {
            Box::new(zstd::stream::read::Decoder::with_buffer(source)?.single_frame())
        }
        Some(Form::Lz4) => Box::new(lz4::Decoder::new(source)),
    })
}

/// All of what `bytes` unpack to.
///
/// # Errors
/// If they are damaged, or it is more than `most` bytes.
pub(crate) fn unpacked(bytes: &[u8], most: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    reader(bytes)?.take(most.saturating_add(1)).read_to_end(&mut all)?;
    if all.len() as u64 > most {
        let why = format!("it unpacks to more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn compress(form: Form, data: &[u8]) -> Vec<u8> {
        match form {
            Form::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                to.write_all(data).unwrap();
                to.finish().unwrap()
            }
            Form::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                to.write_all(data).unwrap();
                to.finish().unwrap()
            }
            Form::Zstd => zstd::encode_all(data, 1).unwrap(),
            Form::Lz4 => lz4::tests::stored(data),
        }
    }

    #[test]
    fn every_form_is_told_by_its_first_bytes_and_unpacked() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for form in [Form::Gzip, Form::Xz, Form::Zstd, Form::Lz4] {
            let mut packed = compress(form, &data);
            assert_eq!(Form::of(&packed), Some(form));
            assert_eq!(unpacked(&packed, data.len() as u64).unwrap(), data, "{form:?}");
            assert!(unpacked(&packed, data.len() as u64 - 1).is_err(), "{form:?} without a limit");
            assert!(unpacked(&packed[..packed.len() / 2], 1 << 30).is_err(), "{form:?} cut short");
            // A kernel's length stands behind its payload.
            packed.extend(400_000_u32.to_le_bytes());
            assert_eq!(unpacked(&packed, 1 << 30).unwrap(), data, "{form:?} with a length");
        }
        assert_eq!(unpacked(b"plain", 5).unwrap(), b"plain");
    }

    proptest! {
        #[test]
        fn whatever_is_in_it_unpacking_ends(
            form in prop::sample::select(vec![Form::Gzip, Form::Xz, Form::Zstd, Form::Lz4]),
            data in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut packed = compress(form, &data);
            let at = at.index(packed.len());
            packed[at] = byte;
            let _ = unpacked(&packed, 1 << 20);
        }
    }
}
