//! Image references: `registry/repository:tag@digest`, and Docker's short names for them.
//!
//! `debian` means `docker.io/library/debian:latest`; people see the short form, records and wires
//! carry the long one. Pure.
//!
//! Source: github.com/distribution/reference, "Grammar" and `ParseNormalizedNamed`.

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use crate::{Digest, ErrorKind};

/// The registry that a name without one means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An old name of [`DEFAULT_DOMAIN`].
const LEGACY_DOMAIN: &str = "index.docker.io";
/// What a name without a slash lies under, in the default registry.
const OFFICIAL: &str = "library/";
/// The tag that a name without one means.
const DEFAULT_TAG: &str = "latest";
/// Longest repository name with its registry. Source: `RepositoryNameTotalLengthMax`.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag. Source: `TagRegexp`.
const TAG_BYTES_MAX: usize = 128;

/// What an image is asked for by: a repository, and a tag or a digest or both.
///
/// Invariant: it reads as it is written, [`fmt::Display`] being the long form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: Box<str>,
    path: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Why a string is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is not an image reference: {rule}")]
pub struct ReferenceError {
    /// What was given.
    pub given: String,
    /// The rule it breaks, and what would be right.
    pub rule: &'static str,
}

impl ReferenceError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Reference {
    /// The registry: `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was named.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// With tag `latest`, where neither a tag nor a digest was named.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same repository at this digest, whatever the tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Whether both are of one repository.
    pub fn same_repository(&self, other: &Reference) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    /// The repository as people write it: `debian`, `ghcr.io/x/y`.
    pub fn familiar_name(&self) -> String {
        if *self.domain != *DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match (self.path.strip_prefix(OFFICIAL), self.path.split_once('/')) {
            (Some(short), _) if !short.contains('/') => short.to_owned(),
            // Without the registry, the first component would be taken for one.
            (_, Some((first, _))) if is_domain(first) => format!("{}/{}", self.domain, self.path),
            _ => self.path.to_string(),
        }
    }

    /// As people write it: `debian:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

/// The registry that a server's name means, as people and Docker's clients write it:
/// `https://index.docker.io/v1/` is `docker.io`.
pub fn registry_of(server: &str) -> &str {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://"));
    match bare.unwrap_or(server).split('/').next().unwrap_or_default() {
        "" | LEGACY_DOMAIN | "registry-1.docker.io" => DEFAULT_DOMAIN,
        host => host,
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(format!("{}/{}", self.domain, self.path)))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        parse(text).map_err(|rule| ReferenceError { given: shown(text), rule })
    }
}

/// What a message repeats of a name that may be very long.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id, not a name");
    }
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => {
            let digest = digest.parse().map_err(|_| "behind @ stands sha256: and 64 digits")?;
            (named, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = match named.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (named, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("a tag is 1 to 128 of [A-Za-z0-9_.-], not beginning with . or -");
    }
    let (domain, path) = normalize(name);
    check_name(&domain, &path)?;
    Ok(Reference { domain, path, tag: tag.map(Into::into), digest })
}

/// Registry and repository of a name, with what Docker lets people leave out.
fn normalize(name: &str) -> (Box<str>, Box<str>) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let path = match domain == DEFAULT_DOMAIN && !path.contains('/') {
        true => format!("{OFFICIAL}{path}").into(),
        false => path.into(),
    };
    (domain.into(), path)
}

/// Whether the first component of a name is a registry rather than part of the repository.
fn is_domain(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_name(domain: &str, path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path == OFFICIAL {
        return Err("the name is empty");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository must be lower case");
    }
    if !is_repository(path) {
        return Err(
            "a repository is components of [a-z0-9] joined by ., _, __ or -, separated by /",
        );
    }
    if !is_host(domain) {
        return Err("the registry is not a host name with an optional port");
    }
    if domain.len() + 1 + path.len() > NAME_BYTES_MAX {
        return Err("the name is longer than 255 bytes");
    }
    Ok(())
}

/// Whether this is a repository's name within its registry.
///
/// Source: distribution-spec 1.1, "Pulling manifests".
pub fn is_repository(path: &str) -> bool {
    path.len() <= NAME_BYTES_MAX && path.split('/').all(is_component)
}

/// Whether this is a tag.
///
/// Source: distribution-spec 1.1, "Pulling manifests".
pub fn is_tag(tag: &str) -> bool {
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(alphanumeric).filter(|between| !between.is_empty());
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && separators
            .into_iter()
            .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_host(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let host_is_right = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.contains(':') && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(label),
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    host_is_right && port.is_none_or(digits)
}
