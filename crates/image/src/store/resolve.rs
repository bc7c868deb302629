//! Which image is meant: by name, by digest, or by the beginning of an id. [`lookup`] is pure.

use std::collections::BTreeSet;

use base::{Digest, ErrorKind, clock::Timestamp};

use super::{Manifest, Store, StoreError, Table, Target, Variant, names};
use crate::{
    platform::Platform,
    reference::{Reference, ReferenceError},
    wire,
};

/// Names that differ in at most so many letters are suggested.
const SUGGESTED_DISTANCE_MAX: usize = 2;

/// An image, ready to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// The manifest or index that was loaded, of which this is one image.
    pub target: Digest,
    /// Its manifest.
    pub manifest: Digest,
    /// What it was built for.
    pub platform: Platform,
    /// Everything of the same target that is here.
    pub variants: Vec<Variant>,
    /// Its layers' diff ids, bottom first, as [`Store::mount`] takes them.
    pub layers: Vec<Digest>,
    /// Bytes of content of each of them.
    pub layer_bytes: Vec<u64>,
    /// Its names, of all targets that it is in.
    pub references: Vec<Reference>,
    /// Its names with a digest, given or derived.
    pub digests: Vec<Reference>,
    /// When it last got a name.
    pub tagged: Option<Timestamp>,
    /// Type of the target.
    pub media_type: String,
    /// Bytes of the target's document.
    pub target_bytes: u64,
    /// Its configuration.
    pub config: wire::ImageConfig,
}

/// Why an image was not found.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It is neither a name nor an id.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// There is none of that name or id.
    #[error("no such image: {name}{}", suggestion(.similar.as_deref()))]
    NotFound {
        /// What was asked for.
        name: String,
        /// A name that is much like it.
        similar: Option<String>,
    },
    /// There are several.
    #[error("\"{prefix}\" is the beginning of {count} image ids: write more of it")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many ids begin so.
        count: usize,
    },
    /// It was built for something else.
    #[error("image {name} is not for {wanted}, but for {}", join(.have))]
    Platform {
        /// What was asked for.
        name: String,
        /// For what.
        wanted: Platform,
        /// What there is.
        have: Vec<Platform>,
    },
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ResolveError {
    /// That a target has nothing for a platform.
    pub(crate) fn lacks(name: String, target: &Target, wanted: &Platform) -> ResolveError {
        let have = target.manifests.iter().map(|m| m.platform.clone()).collect();
        ResolveError::Platform { name, wanted: wanted.clone(), have }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ResolveError::Reference(error) => error.kind(),
            ResolveError::NotFound { .. } | ResolveError::Platform { .. } => ErrorKind::NotFound,
            ResolveError::Ambiguous { .. } => ErrorKind::InvalidInput,
            ResolveError::Store(error) => error.kind(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A name of the table.
    Name(Reference, Digest),
    /// An image, by its id.
    Id(Digest),
    /// A target, by its digest.
    Target(Digest),
}

impl Found {
    /// The target that was meant.
    pub(crate) fn target(&self, table: &Table) -> Digest {
        match self {
            Found::Name(_, target) | Found::Target(target) => *target,
            Found::Id(id) => {
                let found = table.targets_with(id).next();
                *found.expect("an id is only found in a target of the table").0
            }
        }
    }
}

impl Store {
    /// The image of that name or id, for this platform or, where none is given, the host's if
    /// there is one for it.
    ///
    /// # Errors
    /// When there is none, or several, or it is for another platform.
    pub fn image(&self, name: &str, platform: Option<&Platform>) -> Result<Image, ResolveError> {
        let table = self.table();
        let found = lookup(&table, name)?;
        let digest = found.target(&table);
        let target = table.targets.get(&digest).expect("found in this table");
        let manifest = choose(&found, target, platform, self.host()).ok_or_else(|| {
            ResolveError::lacks(name.to_owned(), target, platform.unwrap_or(self.host()))
        })?;
        let of_id = table.targets_with(&manifest.config);
        let references: Vec<_> =
            of_id.flat_map(|(target, _)| table.names_of(target)).cloned().collect();
        let targets = table.targets_with(&manifest.config).map(|(digest, _)| *digest);
        let (_, digests) = names(&table, targets);
        let named = references.iter().filter_map(|name| table.references.get(name));
        Ok(Image {
            id: manifest.config,
            target: digest,
            manifest: manifest.digest,
            platform: manifest.platform.clone(),
            variants: target.manifests.iter().map(Variant::of).collect(),
            layers: manifest.layers.iter().map(|layer| layer.diff_id).collect(),
            layer_bytes: manifest.layers.iter().map(|layer| layer.content_bytes).collect(),
            tagged: named.map(|named| named.since).max(),
            digests,
            media_type: target.media_type.clone(),
            target_bytes: target.bytes,
            references,
            config: self.read_config(&manifest.config)?,
        })
    }
}

fn choose<'t>(
    found: &Found,
    target: &'t Target,
    wanted: Option<&Platform>,
    host: &Platform,
) -> Option<&'t Manifest> {
    match (found, wanted) {
        (Found::Id(id), _) => {
            let fits = |m: &&Manifest| wanted.is_none_or(|w| m.platform.rank(w).is_some());
            target.manifests.iter().filter(|m| m.config == *id).find(fits)
        }
        (Found::Name(..) | Found::Target(_), Some(wanted)) => target.best(wanted),
        (Found::Name(..) | Found::Target(_), None) => Some(target.primary(host)),
    }
}

/// What a name or an id stands for. Names come before ids, as in Docker.
pub(crate) fn lookup(table: &Table, text: &str) -> Result<Found, ResolveError> {
    let not_found = || {
        let similar = similar(table, text);
        ResolveError::NotFound { name: text.chars().take(300).collect(), similar }
    };
    if let Some(prefix) = text.strip_prefix("sha256:") {
        return by_prefix(table, prefix)?.ok_or_else(not_found);
    }
    let parsed = text.parse::<Reference>().map(Reference::or_latest);
    if let Some(found) = parsed.as_ref().ok().and_then(|reference| by_name(table, reference)) {
        return Ok(found);
    }
    match (by_prefix(table, text)?, parsed) {
        (Some(found), _) => Ok(found),
        (None, Err(error)) if !is_hex(text) => Err(error.into()),
        (None, _) => Err(not_found()),
    }
}

fn by_name(table: &Table, reference: &Reference) -> Option<Found> {
    let Some(digest) = reference.digest() else {
        let named = table.references.get(reference)?;
        return Some(Found::Name(reference.clone(), named.target));
    };
    // With a digest the tag says nothing.
    let exact = reference.at(digest);
    if let Some(named) = table.references.get(&exact) {
        return Some(Found::Name(exact, named.target));
    }
    let of_repository = table.references.iter().filter(|(name, _)| name.same_repository(reference));
    let mut targets = of_repository.map(|(_, named)| named.target);
    targets.find(|target| *target == digest).map(Found::Target)
}

fn is_hex(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The image whose id begins so, or else the target whose digest does.
fn by_prefix(table: &Table, prefix: &str) -> Result<Option<Found>, ResolveError> {
    if !is_hex(prefix) {
        return Ok(None);
    }
    let begins = |digest: &Digest| digest.hex().starts_with(prefix);
    let manifests = || table.targets.values().flat_map(|target| &target.manifests);
    let ids: BTreeSet<_> = manifests().map(|m| m.config).filter(|id| begins(id)).collect();
    let targets: BTreeSet<_> = table.targets.keys().filter(|digest| begins(digest)).collect();
    match (ids.first(), targets.first()) {
        (Some(id), _) if ids.len() == 1 => Ok(Some(Found::Id(*id))),
        (None, Some(target)) if targets.len() == 1 => Ok(Some(Found::Target(**target))),
        (None, None) => Ok(None),
        _ => {
            let count = ids.len().max(targets.len());
            Err(ResolveError::Ambiguous { prefix: prefix.to_owned(), count })
        }
    }
}

/// The known name that is most like a mistyped one.
fn similar(table: &Table, text: &str) -> Option<String> {
    let known = table.references.keys().map(|reference| match reference.tag() {
        Some("latest") => reference.familiar_name(),
        _ => reference.familiar(),
    });
    let near = known.filter_map(|name| Some((distance(text, &name)?, name)));
    near.min().map(|(_, name)| name)
}

/// Edits that make one word of the other, if they are few.
fn distance(a: &str, b: &str) -> Option<usize> {
    /// Longer names are not compared: nobody mistypes a digest.
    const BYTES_MAX: usize = 100;
    if a.len().max(b.len()) > BYTES_MAX {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    let distance = row.last().copied()?;
    (distance <= SUGGESTED_DISTANCE_MAX && distance < a.len()).then_some(distance)
}

fn suggestion(similar: Option<&str>) -> String {
    similar.map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}

fn join(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_edits_are_counted_and_many_are_not() {
        assert_eq!(distance("debain", "debian"), Some(2));
        assert_eq!(distance("debia", "debian"), Some(1));
        assert_eq!(distance("debian", "debian"), Some(0));
        assert_eq!(distance("nginx", "debian"), None);
        assert_eq!(distance("a", "b"), None);
        assert_eq!(distance("", "b"), None);
    }
}
