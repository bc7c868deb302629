//! The file that is a kernel: what it is, which version, and the executable within.
//!
//! A bzImage unpacks itself when it runs; on a processor that is software that can take longer than
//! all the rest of a start. So it is unpacked here, once, and the executable is kept beside it.
//!
//! Sources: Linux `Documentation/arch/x86/boot.rst`; System V ABI, "ELF Header"; Linux
//! `init/version-timestamp.c` (the banner).

use std::io;

use memchr::memmem;

use crate::compressed::{self, Form};

/// Longest kernel file, and longest executable within. Debian's largest are 10 and 60 MB.
pub const KERNEL_BYTES_MAX: u64 = 256 << 20;

/// Longest name of a release. Source: `__NEW_UTS_LEN`, linux/utsname.h.
const RELEASE_BYTES_MAX: usize = 64;

/// What every kernel says first, with its release behind it.
const BANNER: &[u8] = b"Linux version ";

/// Why a file is no kernel that we could start.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither of the two forms.
    #[error("it is neither a bzImage nor a 64-bit ELF executable for x86-64")]
    NotAKernel,
    /// A kernel from before 2008, which does not say where its payload is.
    #[error("it is a bzImage of boot protocol {0:#x}; 0x208 is the first that can be used")]
    Protocol(u16),
    /// It points outside of itself.
    #[error("it is cut short")]
    Truncated,
    /// There is no release in it.
    #[error("it does not say which release of Linux it is")]
    NoRelease,
    /// The executable in it is damaged.
    #[error("cannot unpack it")]
    Unpack(#[source] io::Error),
    /// What is in it is something else.
    #[error("what it unpacks to is no 64-bit ELF executable for x86-64")]
    Payload,
}

/// What a kernel file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `6.1.0-56-cloud-amd64`: what `uname -r` will say, and what its modules must be for.
    pub release: String,
    /// The executable in it, if it is compressed in a way that we can undo.
    pub vmlinux: Option<Vec<u8>>,
}

impl Image {
    /// Looks at a kernel file.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(bytes: &[u8]) -> Result<Image, ImageError> {
        Image::within(bytes, KERNEL_BYTES_MAX)
    }

    /// The same, with an executable in it of at most so many bytes.
    pub(crate) fn within(bytes: &[u8], most: u64) -> Result<Image, ImageError> {
        if is_executable(bytes) {
            let release = banner(bytes).ok_or(ImageError::NoRelease)?;
            return Ok(Image { release, vmlinux: None });
        }
        let release = setup_release(bytes)?;
        let payload = payload(bytes)?;
        let vmlinux = match Form::of(payload) {
            None => None,
            Some(_) => {
                let unpacked = compressed::unpacked(payload, most);
                let unpacked = unpacked.map_err(ImageError::Unpack)?;
                // Not every form has a checksum, but the length stands behind all of them.
                let length = payload.len().checked_sub(4).and_then(|at| long(payload, at));
                if length != Some(unpacked.len()) || !is_executable(&unpacked) {
                    return Err(ImageError::Payload);
                }
                Some(unpacked)
            }
        };
        Ok(Image { release, vmlinux })
    }
}

/// Whether these are the first bytes of an ELF executable for x86-64.
fn is_executable(bytes: &[u8]) -> bool {
    let machine = word(bytes, 18);
    bytes.starts_with(b"\x7fELF\x02\x01")
        && machine == Some(62)
        && matches!(word(bytes, 16), Some(2 | 3))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// The release that a bzImage's header points to.
fn setup_release(bytes: &[u8]) -> Result<String, ImageError> {
    if word(bytes, 0x1fe) != Some(0xaa55) || bytes.get(0x202..0x206) != Some(b"HdrS") {
        return Err(ImageError::NotAKernel);
    }
    let protocol = word(bytes, 0x206).ok_or(ImageError::Truncated)?;
    if protocol < 0x208 {
        return Err(ImageError::Protocol(protocol));
    }
    let at = word(bytes, 0x20e).ok_or(ImageError::Truncated)?;
    let text = bytes.get(usize::from(at) + 0x200..).ok_or(ImageError::Truncated)?;
    if at == 0 { Err(ImageError::NoRelease) } else { release(text).ok_or(ImageError::NoRelease) }
}

/// The compressed executable in a bzImage.
fn payload(bytes: &[u8]) -> Result<&[u8], ImageError> {
    let find = || {
        let sectors = match *bytes.get(0x1f1)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let start = ((sectors + 1) * 512).checked_add(long(bytes, 0x248)?)?;
        bytes.get(start..start.checked_add(long(bytes, 0x24c)?)?)
    };
    find().ok_or(ImageError::Truncated)
}

/// The first word of a text, if it can be a release.
fn release(text: &[u8]) -> Option<String> {
    let text = text.get(..text.len().min(RELEASE_BYTES_MAX + 1))?;
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\0' | b'\n'))?;
    let word = str::from_utf8(text.get(..end)?).ok()?;
    is_release(word).then(|| word.to_owned())
}

/// Whether this may be the release of a kernel: it becomes part of names.
pub(crate) fn is_release(word: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || ".-_+~".contains(c);
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.len() <= RELEASE_BYTES_MAX
        && word.chars().all(right)
}

/// The release that an executable's banner names.
fn banner(bytes: &[u8]) -> Option<String> {
    let found = memmem::find_iter(bytes, BANNER);
    found.filter_map(|at| release(bytes.get(at + BANNER.len()..)?)).next()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something that begins and speaks like a kernel.
    pub(crate) fn elf(release: &str) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend([2, 0, 62, 0]);
        bytes.resize(4096, 0x90);
        bytes.extend(format!("Linux version %s\0Linux version {release} (x@y) #1 SMP\n\0").bytes());
        bytes
    }

    /// The same as a bzImage.
    pub(crate) fn bzimage(release: &str) -> Vec<u8> {
        let payload = zstd::encode_all(elf(release).as_slice(), 1).unwrap();
        let mut bytes = vec![0; 1024];
        bytes[0x1f1] = 1;
        bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        bytes[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        let text = format!("{release} (x@y) #1\0");
        bytes[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        bytes[0x248..0x24c].copy_from_slice(&64_u32.to_le_bytes());
        let length = u32::try_from(payload.len() + 4).unwrap();
        bytes[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        bytes.resize(1024 + 64, 0xcc);
        bytes.extend(payload);
        bytes.extend(u32::try_from(elf(release).len()).unwrap().to_le_bytes());
        bytes
    }

    #[test]
    fn both_forms_say_their_release_and_a_bzimage_has_the_other_in_it() {
        let release = "6.1.0-56-cloud-amd64";
        let plain = Image::parse(&elf(release)).unwrap();
        assert_eq!(plain, Image { release: release.to_owned(), vmlinux: None });
        let packed = Image::parse(&bzimage(release)).unwrap();
        assert_eq!(packed.release, release);
        assert_eq!(packed.vmlinux.unwrap(), elf(release));
    }

    #[test]
    fn what_is_no_kernel_is_refused_by_what_it_is() {
        let said = |bytes: &[u8]| Image::parse(bytes).unwrap_err().to_string();
        assert!(said(b"").contains("neither"));
        assert!(said(&[0; 4096]).contains("neither"));
        let mut old = bzimage("2.6.20");
        old[0x206..0x208].copy_from_slice(&[0x05, 0x02]);
        assert!(said(&old).contains("protocol 0x205"));
        let whole = bzimage("6.1.0");
        assert!(said(&whole[..whole.len() - 8]).contains("cut short"));
        let mut damaged = whole.clone();
        damaged[1024 + 64 + 4..1024 + 64 + 12].fill(0xff);
        assert!(said(&damaged).contains("unpack"));
        let mut shorter = whole.clone();
        *shorter.last_mut().unwrap() ^= 1;
        assert!(said(&shorter).contains("what it unpacks to"));
        assert!(said(&bzimage("../evil")).contains("which release"));
        assert!(said(&elf("")).contains("which release"));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_look_outside_of_the_file(
            at in 0x1f1_usize..0x260, value in any::<u32>(), length in 0_usize..3000,
        ) {
            let mut bytes = bzimage("6.1.0");
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes.truncate(length.max(0x100));
            let _ = Image::parse(&bytes);
        }
    }
}
