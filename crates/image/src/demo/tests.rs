//! The demo image is an image like any other, and its module is valid.

use std::fs;

use super::{wasm::GREETING, *};
use crate::{
    fixture::{Scratch, load},
    layer::{Limits, read::read_erofs},
    store::digest_of,
};

const APPLETS: [&str; 3] = ["sh", "ls", "cat"];

#[test]
fn it_loads_and_is_for_linux_and_for_wasi() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let loaded = load(&store, &archive(b"\x7fELF not really", &APPLETS)).unwrap();
    assert_eq!(loaded[0].references[0].to_string(), NAME);
    let image = store.image("demo", None).unwrap();
    assert_eq!(image.platform, Platform::host());
    assert_eq!(image.config.config.unwrap().cmd, Some(vec!["/demo".to_owned()]));
    let wasi = store.image("demo", Some(&Platform::wasi())).unwrap();
    assert_eq!((wasi.target, wasi.layers.len()), (image.target, 1));
    assert_ne!(wasi.id, image.id);

    let file = fs::File::open(store.layer_path(&image.layers[0])).unwrap();
    let read = read_erofs(&file, &Limits::default()).unwrap();
    let paths: Vec<_> =
        read.entries().map(|entry| String::from_utf8(entry.unwrap().path).unwrap()).collect();
    for path in ["demo", "bin/sh", "bin/cat", "etc/passwd", "tmp", "home/demo"] {
        assert!(paths.iter().any(|p| p.trim_matches('/') == path), "{path} in {paths:?}");
    }
}

#[test]
fn the_same_program_gives_the_same_image() {
    assert_eq!(archive(b"x", &APPLETS), archive(b"x", &APPLETS));
    assert_ne!(archive(b"x", &APPLETS), archive(b"y", &APPLETS));
}

#[test]
fn directories_come_after_those_above_them() {
    for (path, ..) in DIRECTORIES {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let at = |wanted: &str| DIRECTORIES.iter().position(|(p, ..)| *p == wanted);
        assert!(parent.is_none_or(|parent| at(parent) < at(path)), "{path}");
    }
}

/// Reads what the binary format says is there; panics where it is not.
struct Decoder<'m>(&'m [u8]);

impl<'m> Decoder<'m> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn take(&mut self, bytes: usize) -> &'m [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn sized(&mut self) -> Decoder<'m> {
        let bytes = self.number();
        Decoder(self.take(bytes))
    }

    fn text(&mut self) -> &'m str {
        std::str::from_utf8(self.sized().0).unwrap()
    }

    fn constant(&mut self) -> i64 {
        assert_eq!(self.byte(), 0x41, "i32.const");
        let (mut value, mut shift) = (0_i64, 0);
        loop {
            let byte = self.byte();
            value |= i64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return if byte & 0x40 == 0 { value } else { value - (1 << shift) };
            }
        }
    }
}

#[test]
fn the_module_is_valid_and_says_its_greeting() {
    let bytes = wasm::module();
    let mut module = Decoder(&bytes);
    assert_eq!(module.take(8), b"\0asm\x01\0\0\0");
    let mut sections = BTreeMap::new();
    let mut last = 0;
    while !module.0.is_empty() {
        let id = module.byte();
        assert!(id > last, "sections are in order");
        last = id;
        sections.insert(id, module.sized());
    }
    let mut section = |id: u8| sections.remove(&id).unwrap();

    let mut types = section(1);
    let signatures: Vec<_> = (0..types.number())
        .map(|_| {
            assert_eq!(types.byte(), 0x60);
            (types.sized().0.len(), types.sized().0.len())
        })
        .collect();
    let mut imports = section(2);
    let imported: Vec<_> = (0..imports.number())
        .map(|_| {
            assert_eq!(imports.text(), "wasi_snapshot_preview1");
            let name = imports.text();
            assert_eq!(imports.byte(), 0, "a function");
            (name, signatures[imports.number()])
        })
        .collect();
    assert_eq!(imported, [("fd_write", (4, 1)), ("proc_exit", (1, 0))]);
    let mut functions = section(3);
    assert_eq!((functions.number(), signatures[functions.number()]), (1, (0, 0)));
    let mut exports = section(7);
    let exported: Vec<_> =
        (0..exports.number()).map(|_| (exports.text(), exports.byte(), exports.number())).collect();
    assert_eq!(exported, [("memory", 2, 0), ("_start", 0, 2)]);

    // _start: fd_write(1, iovec, 1, &written); drop; proc_exit(0).
    let mut code = section(10);
    assert_eq!(code.number(), 1);
    let mut body = code.sized();
    assert_eq!(body.number(), 0, "no locals");
    let arguments: Vec<_> = (0..4).map(|_| body.constant()).collect();
    assert_eq!((body.byte(), body.number(), body.byte()), (0x10, 0, 0x1a));
    assert_eq!((body.constant(), body.byte(), body.number(), body.byte()), (0, 0x10, 1, 0x0b));
    assert!(body.0.is_empty());

    let mut data = section(11);
    assert_eq!((data.number(), data.byte(), data.constant(), data.byte()), (1, 0, 0, 0x0b));
    let memory = data.sized().0;
    let word = |at: usize| {
        usize::try_from(u32::from_le_bytes(memory[at..at + 4].try_into().unwrap())).unwrap()
    };
    assert_eq!((arguments[0], arguments[2]), (1, 1));
    let iovec = usize::try_from(arguments[1]).unwrap();
    let (text, length) = (word(iovec), word(iovec + 4));
    assert_eq!(&memory[text..text + length], GREETING.as_bytes());
    let written = usize::try_from(arguments[3]).unwrap();
    assert!(written >= text + length && written % 4 == 0 && written + 4 <= 65_536);
    let mut memories = section(5);
    assert_eq!((memories.number(), memories.byte(), memories.number()), (1, 0, 1));
    assert!(sections.is_empty());
}

#[test]
fn the_configuration_names_the_layer() {
    let layer = linux_layer(b"x", &[]);
    let mut blobs = BTreeMap::new();
    let descriptor = image(&mut blobs, for_platform(&Platform::host()), &layer);
    let manifest: wire::Manifest = serde_json::from_slice(&blobs[&descriptor.digest]).unwrap();
    let config = wire::image_config(&blobs[&manifest.config.digest]).unwrap();
    assert_eq!(config.rootfs.diff_ids, [digest_of(&layer)]);
    assert_eq!(manifest.layers[0].digest, digest_of(&layer));
}
