//! Why a registry did not give or take what it was asked for.

use std::{io, path::PathBuf, time::Duration};

use base::{Digest, ErrorKind};

/// Why a request to a registry failed. Secrets are in none of the texts.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers, or the connection breaks again and again.
    #[error("cannot reach registry {host}")]
    Transport {
        /// The host.
        host: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The system has no roots, or those of the configuration cannot be read.
    #[error("cannot speak TLS: {why}")]
    Tls {
        /// What is wrong.
        why: String,
    },
    /// The roots that were named cannot be read.
    #[error("cannot read {}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such thing.
    #[error("{what} not found: {said}")]
    NotFound {
        /// What.
        what: String,
        /// What the registry said.
        said: String,
    },
    /// The registry does not let us.
    #[error("access to {what} denied: {said}")]
    Denied {
        /// To what.
        what: String,
        /// What the registry said.
        said: String,
    },
    /// It wants a proof that we cannot give.
    #[error("registry {host} wants an authorization that is not understood")]
    Challenge {
        /// The host.
        host: String,
    },
    /// Its tokens would be asked for in a way that others can read.
    #[error(
        "registry {host} names \"{realm}\" for tokens, and secrets are not sent there in the clear"
    )]
    Realm {
        /// The host.
        host: String,
        /// Where tokens should be had.
        realm: String,
    },
    /// We are asking too often.
    #[error("registry {host} says that it is asked too often")]
    TooMany {
        /// The host.
        host: String,
        /// When it may be asked again.
        after: Option<Duration>,
    },
    /// An answer that makes no sense at this place.
    #[error("registry {host} answered {status} to {what}: {said}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// What was asked.
        what: String,
        /// What it said.
        said: String,
    },
    /// It sends us round and round.
    #[error("registry {host} redirects more than {most} times")]
    Redirects {
        /// The host.
        host: String,
        /// How many are followed.
        most: usize,
    },
    /// It sends us to where it should not.
    #[error("registry {host} redirects to \"{to}\", which is not followed")]
    Redirect {
        /// The host.
        host: String,
        /// Where.
        to: String,
    },
    /// A document is longer than we read.
    #[error("{what} is longer than {most} bytes")]
    Long {
        /// What.
        what: String,
        /// How long it may be.
        most: u64,
    },
    /// Content is not what it was asked for by.
    #[error("registry {host} sent {found} for {wanted}")]
    Digest {
        /// The host.
        host: String,
        /// What was asked for.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// Content is longer or shorter than it should be.
    #[error("{blob} has {found} bytes at registry {host}, not {wanted}")]
    Length {
        /// The host.
        host: String,
        /// Which blob.
        blob: Digest,
        /// What its descriptor says.
        wanted: u64,
        /// What came, as far as it was read.
        found: u64,
    },
    /// An image format of before 2016.
    #[error(
        "{what} is an image of Docker's schema 1, which has no digests that could be checked: \
         push it again with a current tool"
    )]
    Schema1 {
        /// Which image.
        what: String,
    },
    /// A document or header makes no sense.
    #[error("registry {host} sent {what} that cannot be read")]
    Malformed {
        /// The host.
        host: String,
        /// What.
        what: &'static str,
    },
    /// What should be uploaded cannot be read.
    #[error("cannot read {blob}")]
    Read {
        /// Which blob.
        blob: Digest,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RegistryError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RegistryError::Transport { .. } => ErrorKind::Unavailable,
            RegistryError::Tls { .. } | RegistryError::Roots { .. } => ErrorKind::Internal,
            RegistryError::NotFound { .. } => ErrorKind::NotFound,
            RegistryError::Denied { .. } => ErrorKind::PermissionDenied,
            RegistryError::Challenge { .. } | RegistryError::Schema1 { .. } => {
                ErrorKind::Unsupported
            }
            RegistryError::Realm { .. }
            | RegistryError::Redirects { .. }
            | RegistryError::Redirect { .. }
            | RegistryError::Malformed { .. }
            | RegistryError::Digest { .. }
            | RegistryError::Length { .. } => ErrorKind::Corrupt,
            RegistryError::TooMany { .. } => ErrorKind::Exhausted,
            RegistryError::Status { .. } => ErrorKind::Unavailable,
            RegistryError::Long { .. } => ErrorKind::Exhausted,
            RegistryError::Read { .. } => ErrorKind::Internal,
        }
    }

    /// What a registry said that does not let us.
    pub fn said_no(&self) -> Option<&str> {
        if let RegistryError::Denied { said, .. } = self { Some(said) } else { None }
    }

    /// Whether a host sent something other than what it was asked for.
    pub fn is_lie(&self) -> bool {
        matches!(
            self,
            RegistryError::Digest { .. }
                | RegistryError::Length { .. }
                | RegistryError::Malformed { .. }
        )
    }

    /// Whether another host may do better.
    pub(crate) fn is_of_host(&self) -> bool {
        !matches!(self, RegistryError::Read { .. })
    }
}
