//! What cloud-init is told: a small disk with up to three files, as its NoCloud data source wants
//! it, ISO 9660 with the label `CIDATA`. Pure.
//!
//! ```text
//! sector 16  volume descriptor        20  root directory
//!        17  end of descriptors       21  Rock Ridge's identity, too long for a directory
//!        18  path table, little-end.  22  the files
//!        19  path table, big-endian
//! ```
//!
//! Names have their real form by Rock Ridge; without it they are short and in capitals.
//!
//! Source: ECMA-119 (ISO 9660); IEEE P1281 (SUSP) and P1282 (Rock Ridge) 1.10; cloud-init,
//! "NoCloud".

use std::net::Ipv4Addr;

use crate::net::Mac;

/// Bytes of a sector.
const SECTOR: usize = SECTOR_BYTES as usize;
const SECTOR_BYTES: u16 = 2048;

/// First sectors of the parts.
const ROOT: u32 = 20;
const IDENTITY: u32 = 21;
const FILES: u32 = 22;
const PATHS: [u32; 2] = [18, 19];

/// Longest file, in bytes: cloud providers allow 16 to 64 KiB.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// A regular file that everybody reads, and a directory.
const FILE_MODE: u32 = 0o100_444;
const DIRECTORY_MODE: u32 = 0o040_555;

/// What cloud-init reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// What is to be done; begins with `#cloud-config` or `#!`.
    pub user_data: Vec<u8>,
    /// Who the instance is.
    pub meta_data: Vec<u8>,
    /// Its network; cloud-init's own default, if there is none.
    pub network_config: Option<Vec<u8>>,
}

/// A file that is too long for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cloud-init's {name} has {bytes} bytes, and {FILE_BYTES_MAX} is the most")]
pub struct SeedError {
    name: &'static str,
    bytes: usize,
}

/// The metadata of an instance that was given none.
pub fn meta_data(uuid: &str, host_name: &str) -> Vec<u8> {
    format!("instance-id: {uuid}\nlocal-hostname: {host_name}\n").into_bytes()
}

/// The network of an instance that was told of none: its one card has this address.
///
/// Source: cloud-init, "Networking config Version 2".
pub fn network_config(mac: Mac, address: Ipv4Addr, prefix: u8, way: [Ipv4Addr; 2]) -> Vec<u8> {
    let [gateway, resolver] = way;
    format!(
        "version: 2\nethernets:\n  card:\n    match:\n      macaddress: \"{mac}\"\n    \
         addresses: [{address}/{prefix}]\n    routes:\n      - to: 0.0.0.0/0\n        \
         via: {gateway}\n    nameservers:\n      addresses: [{resolver}]\n"
    )
    .into_bytes()
}

impl Seed {
    /// The disk.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn disk(&self) -> Result<Vec<u8>, SeedError> {
        // In the order of their short names, as ECMA-119, 9.3, wants them.
        let all = [
            ("meta-data", "METADATA.;1", Some(&self.meta_data)),
            ("network-config", "NETCONF.;1", self.network_config.as_ref()),
            ("user-data", "USERDATA.;1", Some(&self.user_data)),
        ];
        let mut root = Directory::new();
        let (mut content, mut at) = (Vec::new(), FILES);
        for (name, short, bytes) in all {
            let Some(bytes) = bytes else { continue };
            let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= FILE_BYTES_MAX);
            let length = length.ok_or(SeedError { name, bytes: bytes.len() })?;
            root.file(short, name, at, length);
            content.extend_from_slice(bytes);
            content.resize(content.len().next_multiple_of(SECTOR), 0);
            at += length.div_ceil(SECTOR_BYTES.into());
        }
        let mut disk = vec![0; FILES as usize * SECTOR];
        let mut put = |sector: u32, bytes: &[u8]| {
            let at = sector as usize * SECTOR;
            disk[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(16, &volume(at));
        put(17, &[&[255][..], b"CD001\x01"].concat());
        put(PATHS[0], &[&[1, 0][..], &ROOT.to_le_bytes(), &1u16.to_le_bytes(), &[0, 0]].concat());
        put(PATHS[1], &[&[1, 0][..], &ROOT.to_be_bytes(), &1u16.to_be_bytes(), &[0, 0]].concat());
        put(ROOT, &root.0);
        put(IDENTITY, &identity());
        disk.extend(content);
        Ok(disk)
    }
}

/// A number in both orders. Source: ECMA-119, 7.2.3, 7.3.3.
fn both16(number: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (number.to_le_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

fn both32(number: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (number.to_le_bytes(), number.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

/// The primary volume descriptor of a volume of so many sectors. Source: ECMA-119, 8.4.
fn volume(sectors: u32) -> Vec<u8> {
    let mut volume = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| volume[at..at + bytes.len()].copy_from_slice(bytes);
    // Names that nobody gave are blanks.
    put(8, &[b' '; 64]);
    put(190, &[b' '; 623]);
    put(0, b"\x01CD001\x01");
    put(40, b"CIDATA");
    put(80, &both32(sectors));
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(SECTOR_BYTES));
    put(132, &both32(10));
    put(140, &PATHS[0].to_le_bytes());
    put(148, &PATHS[1].to_be_bytes());
    put(156, &entry(&[0], Kind::Directory, ROOT, SECTOR_BYTES.into(), &[]));
    put(574, b"WYTHE");
    // Four times that are not said: sixteen digits of zero, and the offset from Greenwich.
    for time in 0..4 {
        put(813 + 17 * time, b"0000000000000000\0");
    }
    put(881, &[1]);
    volume
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// The entries of a directory, one behind the other.
struct Directory(Vec<u8>);

impl Directory {
    /// A root directory, which says that Rock Ridge is used, and where more of that is.
    fn new() -> Directory {
        let sharing = b"SP\x07\x01\xbe\xef\0";
        let length = u32::try_from(identity().len()).expect("it is 237 bytes long");
        let more = [IDENTITY, 0, length].map(both32).concat();
        let more = [&b"CE\x1c\x01"[..], &more].concat();
        let mode = mode(DIRECTORY_MODE, 2);
        let own = [&sharing[..], &mode, &more].concat();
        let mut all = entry(&[0], Kind::Directory, ROOT, SECTOR_BYTES.into(), &own);
        all.extend(entry(&[1], Kind::Directory, ROOT, SECTOR_BYTES.into(), &mode));
        Directory(all)
    }

    fn file(&mut self, short: &str, name: &str, at: u32, bytes: u32) {
        let length = u8::try_from(5 + name.len()).expect("names are short");
        let own = [&[b'N', b'M', length, 1, 0][..], name.as_bytes(), &mode(FILE_MODE, 1)].concat();
        self.0.extend(entry(short.as_bytes(), Kind::File, at, bytes, &own));
    }
}

/// An entry of a directory. Source: ECMA-119, 9.1.
fn entry(name: &[u8], kind: Kind, at: u32, bytes: u32, system: &[u8]) -> Vec<u8> {
    let mut entry = vec![0, 0];
    entry.extend(both32(at));
    entry.extend(both32(bytes));
    // A time that is not said.
    entry.extend([0; 7]);
    entry.push(if kind == Kind::Directory { 2 } else { 0 });
    entry.extend([0, 0]);
    entry.extend(both16(1));
    entry.push(u8::try_from(name.len()).expect("names are short"));
    entry.extend(name);
    entry.resize(entry.len().next_multiple_of(2), 0);
    entry.extend(system);
    entry.resize(entry.len().next_multiple_of(2), 0);
    entry[0] = u8::try_from(entry.len()).expect("what is said of a file fits in 255 bytes");
    entry
}

/// Rock Ridge: the mode of a file of root's. Source: IEEE P1282, 4.1.1.
fn mode(mode: u32, links: u32) -> Vec<u8> {
    [&b"PX\x24\x01"[..], &[mode, links, 0, 0].map(both32).concat()].concat()
}

/// Rock Ridge: that it is that. Source: IEEE P1281, 5.5; P1282, 4.3.
fn identity() -> Vec<u8> {
    let id = b"RRIP_1991A";
    let what =
        b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    let from =
        b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN \
                 PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.";
    let byte = |length: usize| u8::try_from(length).expect("each is shorter than 256 bytes");
    let bytes = byte(8 + id.len() + what.len() + from.len());
    let head = [b'E', b'R', bytes, 1, byte(id.len()), byte(what.len()), byte(from.len()), 1];
    [&head[..], id, what, from].concat()
}

#[cfg(test)]
mod tests;
