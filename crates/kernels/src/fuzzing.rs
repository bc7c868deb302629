//! What a fuzzer calls: every parser of bytes that a mirror or a user sends.

use std::io::Read as _;

use crate::{
    compressed,
    debian::{Package, Release, deb},
    image::Image,
    modules::ModuleInfo,
    openpgp::{self, Keyring},
    store::Manifest,
};

/// Most that one input may unpack to, so that it takes milliseconds.
const UNPACKED_BYTES_MAX: u64 = 1 << 20;

/// Keys, and a signed text.
pub fn openpgp(bytes: &[u8]) {
    // A time within that of the seeds.
    const NOW: u64 = 1_800_000_000;
    let own = Keyring::parse(bytes).unwrap_or_default();
    let known = include_bytes!("../tests/data/gnupg-keys.asc");
    let known = Keyring::parse(known).expect("the keys of the tests are keys");
    let text = include_str!("../tests/data/gnupg-signed.asc");
    let _ = openpgp::verify(text.as_bytes(), &own, NOW);
    if let Ok(signed) = openpgp::verify(bytes, &known, NOW) {
        let good = openpgp::verify(text.as_bytes(), &known, NOW).expect("the text is signed");
        assert_eq!(signed.text, good.text, "nobody signed this");
    }
}

/// The index of a suite, and the list of its packages.
pub fn index(bytes: &[u8]) {
    if let Ok(release) = str::from_utf8(bytes).map(Release::parse)
        && let Ok(release) = release
    {
        let _ = release.check("bookworm", 1_800_000_000);
    }
    for package in Package::list(bytes, |_| true).unwrap_or_default() {
        assert!(!package.path.split('/').any(|part| part == ".."), "{package:?}");
    }
}

/// A package.
pub fn package(bytes: &[u8]) {
    let Ok(mut files) = deb::files(bytes) else { return };
    let mut left = UNPACKED_BYTES_MAX;
    while let Ok(Some(_)) = files.next_entry() {
        while let Ok(Some(chunk)) = files.chunk() {
            match left.checked_sub(chunk.len() as u64) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// A kernel, a module, a manifest, compressed data.
pub fn kernel(bytes: &[u8]) {
    let _ = Image::within(bytes, UNPACKED_BYTES_MAX);
    let _ = ModuleInfo::parse(bytes);
    let _ = str::from_utf8(bytes).map(Manifest::parse);
    if let Ok(reader) = compressed::reader(bytes) {
        let _ = reader.take(UNPACKED_BYTES_MAX).read_to_end(&mut Vec::new());
    }
}
