//! What can be wrong with the form of an archive.

use std::{fmt, io};

use base::ErrorKind;

use crate::{Exceeded, Name};

/// What is wrong, where, and with which entry if its name was already known.
#[derive(Debug)]
pub struct TarError {
    /// Offset in the uncompressed archive.
    pub offset: u64,
    /// The entry.
    pub path: Option<Name>,
    /// What is wrong.
    pub fault: TarFault,
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "entry \"{path}\" at byte {} of the archive", self.offset)?,
            None => write!(f, "byte {} of the archive", self.offset)?,
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for TarError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

/// What can be wrong with the form of an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarFault {
    /// The source failed.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// The archive ends within a header or within data.
    #[error("the archive is cut off")]
    Truncated,
    /// A header's checksum does not fit its bytes.
    #[error("this is not a tar header (its checksum is wrong)")]
    Checksum,
    /// One zero block, and then something else.
    #[error("a zero block is followed by something else")]
    LoneZeroBlock,
    /// A numeric field of a header is no number.
    #[error("field {0} is not a number in range")]
    Number(&'static str),
    /// An owner that no file can have.
    #[error("owner 4294967295 is no owner")]
    Owner,
    /// PAX records that do not follow their grammar.
    #[error("the PAX records are malformed")]
    Pax,
    /// The same key twice in one PAX header.
    #[error("PAX key \"{0}\" is given twice")]
    PaxTwice(Name),
    /// A PAX record whose value is not what its key needs.
    #[error("PAX key \"{0}\" has a value that cannot be")]
    PaxValue(Name),
    /// A global PAX header with a key that belongs to one entry.
    #[error("PAX key \"{0}\" is set for all entries at once")]
    PaxGlobal(Name),
    /// Two extension headers of one kind before one entry.
    #[error("two extension headers of the same kind belong to one entry")]
    TwoExtensions,
    /// A name given both by PAX and by GNU's extension.
    #[error("the entry is named twice, by PAX and by GNU's extension")]
    TwoNames,
    /// An extension header, and no entry behind it.
    #[error("an extension header belongs to no entry")]
    NothingExtended,
    /// A type of entry that layers do not have.
    #[error("entries of type '{0}' cannot be in a layer")]
    Type(String),
    /// A sparse map that contradicts itself or the entry's size.
    #[error("the map of the sparse file does not fit its data")]
    SparseMap,
    /// A sparse format that nobody has described.
    #[error("sparse format {0}.{1} is not known")]
    SparseVersion(u64, u64),
    /// A limit was reached.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl TarError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match &self.fault {
            TarFault::Read(_) => ErrorKind::Unavailable,
            TarFault::Limit(_) => ErrorKind::Exhausted,
            TarFault::Type(_) | TarFault::SparseVersion(..) => ErrorKind::Unsupported,
            TarFault::Truncated
            | TarFault::Checksum
            | TarFault::LoneZeroBlock
            | TarFault::Number(_)
            | TarFault::Owner
            | TarFault::Pax
            | TarFault::PaxTwice(_)
            | TarFault::PaxValue(_)
            | TarFault::PaxGlobal(_)
            | TarFault::TwoExtensions
            | TarFault::TwoNames
            | TarFault::NothingExtended
            | TarFault::SparseMap => ErrorKind::Corrupt,
        }
    }
}
