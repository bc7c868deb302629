//! What comes from registries and archives.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _, sink},
};

use image::layer::{Limits, read::read_erofs, tar::Archive, write_erofs};

/// Limits under which one input takes milliseconds.
fn limits() -> Limits {
    Limits {
        entries: 2000,
        extension_bytes: 16 << 10,
        segments: 500,
        file_bytes: 1 << 24,
        content_bytes: 1 << 24,
        tar_bytes: 1 << 24,
        metadata_bytes: 1 << 22,
        ..Limits::default()
    }
}

/// An archive, entry by entry.
pub(crate) fn tar(bytes: &[u8]) {
    let mut archive = Archive::new(bytes, &limits());
    while let Ok(Some(_)) = archive.next_entry() {
        while let Ok(Some(_)) = archive.chunk() {}
    }
}

/// An archive, plain or compressed, written as an EROFS image: what the writer wrote, the reader
/// reads.
pub(crate) fn layer(bytes: &[u8]) {
    let file = tempfile::tempfile().expect("a temporary file can be made");
    if write_erofs(bytes, &file, &limits(), &mut |_| ()).is_ok() {
        walk(&file, true);
    }
}

/// An EROFS image that somebody else wrote.
pub(crate) fn erofs(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(bytes).expect("it takes a few bytes");
    file.seek(SeekFrom::Start(0)).expect("it can be rewound");
    walk(&file, false);
}

fn walk(file: &File, ours: bool) {
    let limits = limits();
    let image = match read_erofs(file, &limits) {
        Ok(image) => image,
        Err(error) => return assert!(!ours, "our own image is refused: {error}"),
    };
    for entry in image.entries() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return assert!(!ours, "an entry of our own image is refused: {error}"),
        };
        match image.extents_of(&entry) {
            Ok(extents) => {
                for extent in extents {
                    let copied = image.copy(&extent, &mut sink());
                    assert!(copied.is_ok(), "an extent lies outside of the image: {extent:?}");
                }
            }
            Err(error) => assert!(!ours, "a file of our own image is refused: {error}"),
        }
    }
}

/// Manifests, indexes, configurations and archive tables.
pub(crate) fn json(bytes: &[u8]) {
    let _ = image::wire::document(bytes);
    let _ = image::wire::index(bytes);
    let _ = image::wire::archive_images(bytes);
    if let Ok(config) = image::wire::image_config(bytes) {
        let written = image::wire::to_json(&config);
        let again = image::wire::image_config(&written).expect("it was just written");
        assert_eq!(image::wire::to_json(&again), written, "a configuration changes when rewritten");
    }
}

/// References as people type them.
pub(crate) fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(reference) = text.parse::<image::Reference>() else { return };
    let again: image::Reference = reference.to_string().parse().expect("its own text is refused");
    assert_eq!(again, reference, "a reference changes when written");
}
