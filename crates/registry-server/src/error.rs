//! What a client is told that does not get what it asked for.
//!
//! Source: distribution-spec 1.1, "Error Codes".

use std::io;

use base::chain;
use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::json;

use crate::{reply::Reply, store::StoreError};

/// The specification's codes, and the three that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is no such blob.
    BlobUnknown,
    /// An upload is not used as it has to be.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// A digest is none, or not that of the content.
    DigestInvalid,
    /// A manifest names what is not there.
    ManifestBlobUnknown,
    /// A manifest is none.
    ManifestInvalid,
    /// There is no such manifest.
    ManifestUnknown,
    /// A name is none.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// A length is not right.
    SizeInvalid,
    /// Nobody knows who asks.
    Unauthorized,
    /// Whoever asks may not.
    Denied,
    /// This is not done.
    Unsupported,
    /// Too much is under way.
    TooManyRequests,
    /// A page's length is none. Docker's.
    PaginationNumberInvalid,
    /// The upstream registry does not answer. Docker's.
    Unavailable,
    /// It is the server's fault. Docker's.
    Unknown,
}

impl Code {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unknown => "UNKNOWN",
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The status of HTTP.
    pub status: u16,
    /// What is wrong, for programs.
    pub code: Code,
    /// What is wrong, for people.
    pub message: String,
    /// Headers that say more.
    pub(crate) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, code: Code, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn no_upload() -> Refusal {
        Refusal::new(404, Code::BlobUploadUnknown, "there is no such upload to this repository")
    }

    pub(crate) fn no_repository(name: &crate::name::Name) -> Refusal {
        let why = format!("repository name not known to registry: {name}");
        Refusal::new(404, Code::NameUnknown, why)
    }

    /// A body that broke off, came too slowly, or was none.
    pub(crate) fn broken(status: u16, why: impl Into<String>) -> Refusal {
        Refusal::new(status, Code::BlobUploadInvalid, why)
    }

    /// The answer.
    pub(crate) fn reply(&self) -> Reply {
        let error = json!({ "code": self.code.as_str(), "message": self.message });
        let text = json!({ "errors": [error] }).to_string();
        let mut reply = Reply::new(listen::full(text));
        *reply.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        reply
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        // 507: RFC 4918, section 11.5.
        let status = if error.is_full() { 507 } else { 500 };
        Refusal::new(status, Code::Unknown, chain(&error))
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Refusal {
        StoreError::Disk { doing: "use a blob", source }.into()
    }
}
