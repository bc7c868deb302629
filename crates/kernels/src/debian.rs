//! Debian's archive, as far as it leads to a package: the signed index, the list of packages, the
//! package.
//!
//! ```text
//! dists/bookworm/InRelease                 signed; has the digests of
//! dists/bookworm/main/…/Packages.xz        which has the digests of
//! pool/main/l/linux/linux-image-….deb      an ar archive with
//!   data.tar.xz                            the files
//! ```
//!
//! Nothing of a file is looked at before its digest, and of the index nothing before its
//! signature.
//!
//! Sources: Debian wiki, "DebianRepository/Format"; Debian Policy 4.7, chapters 5 and 7; deb(5).

pub(crate) mod deb;
pub(crate) mod package;
pub(crate) mod release;
pub(crate) mod stanza;
pub(crate) mod version;

pub(crate) use package::Package;
pub(crate) use release::Release;
pub use release::ReleaseError;
pub use stanza::StanzaError;
