//! What a path asks for. Pure.
//!
//! Source: distribution-spec 1.1, "Endpoints"; `_catalog` is Docker's.

use base::Digest;
use percent_encoding::percent_decode_str;

use crate::{
    error::{Code, Refusal},
    name::{Name, Reference, UploadId},
};

/// What is asked for, whatever is to be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whether this is a registry, and whether the client may use it.
    Base,
    /// The repositories.
    Catalog,
    /// The tags of a repository.
    Tags(Name),
    /// A manifest or index.
    Manifest(Name, Reference),
    /// A blob.
    Blob(Name, Digest),
    /// Uploads to a repository.
    Uploads(Name),
    /// One upload.
    Upload(Name, UploadId),
    /// What refers to a manifest.
    Referrers(Name, Digest),
}

impl Route {
    /// Reads a path as it came.
    ///
    /// # Errors
    /// 404 for what is no path of a registry, 400 for one with a name or digest that cannot be.
    pub fn parse(path: &str) -> Result<Route, Refusal> {
        let unknown = || Refusal::new(404, Code::Unsupported, "there is nothing at this path");
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        let rest = match rest.strip_prefix('/') {
            Some(rest) => rest,
            None if rest.is_empty() => "",
            None => return Err(unknown()),
        };
        let segments: Option<Vec<String>> = rest.split('/').map(decoded).collect();
        let segments = segments.ok_or_else(unknown)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [""] => Ok(Route::Base),
            ["_catalog"] => Ok(Route::Catalog),
            [name @ .., "tags", "list"] => Ok(Route::Tags(named(name)?)),
            [name @ .., "manifests", reference] => {
                Ok(Route::Manifest(named(name)?, Reference::parse(reference)))
            }
            [name @ .., "referrers", of] => Ok(Route::Referrers(named(name)?, digest(of)?)),
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                Ok(Route::Uploads(named(name)?))
            }
            [name @ .., "blobs", "uploads", id] => {
                let id = id.parse().map_err(|_| Refusal::no_upload());
                Ok(Route::Upload(named(name)?, id?))
            }
            [name @ .., "blobs", of] => Ok(Route::Blob(named(name)?, digest(of)?)),
            _ => Err(unknown()),
        }
    }
}

/// One segment without its escapes. A slash in it would make another path of it.
fn decoded(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.contains('/')).then(|| text.into_owned())
}

fn named(segments: &[&str]) -> Result<Name, Refusal> {
    let text = segments.join("/");
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(300).collect();
        let why = "components of [a-z0-9] joined by ., _, __ or -, separated by /";
        Refusal::new(400, Code::NameInvalid, format!("\"{shown}\" is no repository: {why}"))
    })
}

/// A digest as a path or query has it.
///
/// # Errors
/// 400 if it is none that is served.
pub(crate) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(200).collect();
        let why = format!("\"{shown}\" is not sha256: and 64 lower-case hexadecimal digits");
        Refusal::new(400, Code::DigestInvalid, why)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn paths_lead_where_the_specification_says() {
        let of = "a".repeat(64);
        let digest: Digest = format!("sha256:{of}").parse().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        let tag = |text: &str| Reference::Tag(text.parse().unwrap());
        for (path, route) in [
            ("/v2".to_owned(), Route::Base),
            ("/v2/".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            ("/v2/a/manifests/1.0".to_owned(), Route::Manifest(name("a"), tag("1.0"))),
            (
                format!("/v2/a/manifests/sha256%3A{of}"),
                Route::Manifest(name("a"), Reference::Digest(digest)),
            ),
            (
                "/v2/a/manifests/.x".to_owned(),
                Route::Manifest(name("a"), Reference::Neither(".x".into())),
            ),
            (format!("/v2/a/blobs/sha256:{of}"), Route::Blob(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            (format!("/v2/a/blobs/uploads/{id}"), Route::Upload(name("a"), id.parse().unwrap())),
            (format!("/v2/a/referrers/sha256:{of}"), Route::Referrers(name("a"), digest)),
            // Names may be made of the words of paths.
            (
                "/v2/manifests/blobs/manifests/tags".to_owned(),
                Route::Manifest(name("manifests/blobs"), tag("tags")),
            ),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(name("tags/list"))),
        ] {
            assert_eq!(Route::parse(&path), Ok(route), "{path}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (path, status) in [
            ("/", 404),
            ("/v1/", 404),
            ("/v2x", 404),
            ("/v2/a", 404),
            ("/v2/tags/list", 400),
            ("/v2/A/tags/list", 400),
            ("/v2/a//b/tags/list", 400),
            ("/v2/../tags/list", 400),
            ("/v2/a%2Fb/tags/list", 404),
            ("/v2/%ff/tags/list", 404),
            ("/v2/a/blobs/sha256:00", 400),
            ("/v2/a/blobs/uploads/x", 404),
            ("/v2/a/referrers/latest", 400),
        ] {
            let refused = Route::parse(path).unwrap_err();
            assert_eq!(refused.status, status, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_answered(path in "(/v2)?(/(blobs|manifests|tags|list|uploads|referrers|[a-z%.0-9]{0,6})){0,6}") {
            let _ = Route::parse(&path);
        }

        #[test]
        fn a_name_comes_through_unchanged(name in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,8}){0,3}") {
            let route = Route::parse(&format!("/v2/{name}/tags/list"));
            prop_assert_eq!(route, Ok(Route::Tags(name.parse().unwrap())));
        }
    }
}
