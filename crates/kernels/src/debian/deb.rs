//! A package's file: an `ar` archive with three members, the last of which is a tar archive.
//!
//! Source: deb(5); ar(5), "common" format.

use std::io::{self, BufRead, BufReader, Read};

use archive::{
    Limits,
    tar::{Archive, TarError},
};

use crate::compressed;

/// What an `ar` archive begins with.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Bytes of a member's header.
const HEADER_BYTES: u64 = 60;

/// Longest member before the files. Debian's have some 100 KB.
const MEMBER_BYTES_MAX: u64 = 64 << 20;

/// Why a file is no package.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It cannot be read.
    #[error("cannot read the package")]
    Read(#[source] io::Error),
    /// It is something else, or damaged.
    #[error("this is no package of Debian's: {0}")]
    Form(&'static str),
    /// The archive in it is damaged.
    #[error("the files in the package cannot be unpacked")]
    Tar(#[source] TarError),
    /// It lacks what it is for.
    #[error("the package has no {0}")]
    Missing(String),
}

/// A package's files, to be read one after the other.
pub(crate) type Files<'r> = Archive<BufReader<Box<dyn Read + 'r>>>;

/// The files of a package.
///
/// # Errors
/// [`DebError`].
pub(crate) fn files<'r>(mut source: impl BufRead + 'r) -> Result<Files<'r>, DebError> {
    if taken(&mut source, MAGIC.len() as u64)? != MAGIC {
        return Err(DebError::Form("it is no ar archive"));
    }
    let (name, bytes) = member(&mut source)?;
    if name != "debian-binary" || !content(&mut source, bytes)?.starts_with(b"2.") {
        return Err(DebError::Form("it does not begin with debian-binary, version 2"));
    }
    loop {
        let (name, bytes) = member(&mut source)?;
        if name.starts_with("data.tar") {
            let data = compressed::reader(source.take(bytes)).map_err(DebError::Read)?;
            return Ok(Archive::new(BufReader::with_capacity(128 << 10, data), &Limits::default()));
        }
        content(&mut source, bytes)?;
    }
}

/// The name and length of the next member.
fn member(source: &mut impl Read) -> Result<(String, u64), DebError> {
    let header = taken(source, HEADER_BYTES)?;
    let text = str::from_utf8(&header).map_err(|_| DebError::Form("a header is no text"))?;
    let field = |from: usize, to: usize| text.get(from..to).unwrap_or_default().trim_end();
    if field(58, 60) != "`" {
        return Err(DebError::Form("a header has no end"));
    }
    let bytes = field(48, 58).parse().map_err(|_| DebError::Form("a member has no length"))?;
    Ok((field(0, 16).trim_end_matches('/').to_owned(), bytes))
}

/// What is in a member, and the byte that makes its length even.
fn content(source: &mut impl Read, bytes: u64) -> Result<Vec<u8>, DebError> {
    if bytes > MEMBER_BYTES_MAX {
        return Err(DebError::Form("a member is too long"));
    }
    let content = taken(source, bytes)?;
    taken(source, bytes % 2)?;
    Ok(content)
}

fn taken(source: &mut impl Read, bytes: u64) -> Result<Vec<u8>, DebError> {
    let mut all = Vec::new();
    source.take(bytes).read_to_end(&mut all).map_err(DebError::Read)?;
    if all.len() as u64 == bytes { Ok(all) } else { Err(DebError::Form("it ends too early")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use archive::EntryKind;
    use proptest::prelude::*;

    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (path, content) in files {
            let mut block = [0; 512];
            block[..path.len()].copy_from_slice(path.as_bytes());
            block[100..107].copy_from_slice(b"0000644");
            block[108..115].copy_from_slice(b"0000000");
            block[116..123].copy_from_slice(b"0000000");
            block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            block[136..147].copy_from_slice(b"00000000000");
            block[148..156].fill(b' ');
            block[156] = if path.ends_with('/') { b'5' } else { b'0' };
            block[257..263].copy_from_slice(b"ustar\0");
            block[263..265].copy_from_slice(b"00");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            all.extend(block);
            all.extend(*content);
            all.resize(all.len().next_multiple_of(512), 0);
        }
        all.extend([0; 1024]);
        all
    }

    /// A tar archive, compressed with xz.
    pub(crate) fn tar_xz(files: &[(&str, &[u8])]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        to.write_all(&tar(files)).unwrap();
        to.finish().unwrap()
    }

    /// A package with these files.
    pub(crate) fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut all = MAGIC.to_vec();
        let data = tar_xz(files);
        let members: [(&str, &[u8]); 3] =
            [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", &data)];
        for (name, content) in members {
            all.extend(format!("{name:<16}{:<32}{:<10}`\n", "0", content.len()).bytes());
            all.extend(content);
            if content.len() % 2 == 1 {
                all.push(b'\n');
            }
        }
        all
    }

    fn names(package: &[u8]) -> Result<Vec<String>, DebError> {
        let mut files = files(package)?;
        let mut names = Vec::new();
        while let Some(entry) = files.next_entry().map_err(DebError::Tar)? {
            if matches!(entry.kind, EntryKind::File { .. }) {
                names.push(String::from_utf8_lossy(&entry.path).into_owned());
            }
        }
        Ok(names)
    }

    #[test]
    fn the_files_of_a_package_are_found_behind_its_other_members() {
        let package = deb(&[("./boot/", b""), ("./boot/vmlinuz-6.1", b"kernel"), ("./b", b"x")]);
        assert_eq!(names(&package).unwrap(), ["./boot/vmlinuz-6.1", "./b"]);
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let whole = deb(&[("./a", &[7; 3000])]);
        assert!(names(b"PK\x03\x04rest").is_err());
        assert!(names(&whole[..whole.len() - 100]).is_err());
        assert!(names(&whole[..70]).is_err());
        let mut other = whole.clone();
        other[8..21].copy_from_slice(b"debian-binarx");
        assert!(names(&other).is_err());
        let mut version = whole.clone();
        version[68] = b'3';
        assert!(names(&version).is_err());
        let mut huge = whole;
        // The second member says that it is ten digits long.
        huge[72 + 48..72 + 58].copy_from_slice(b"9999999999");
        assert!(names(&huge).is_err());
    }

    proptest! {
        #[test]
        fn any_byte_may_be_another(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut package = deb(&[("./a", b"content"), ("./b", &[1; 600])]);
            let at = at.index(package.len());
            package[at] = byte;
            let _ = names(&package);
        }
    }
}
