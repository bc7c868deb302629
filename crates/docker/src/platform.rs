//! Platforms in queries: JSON of the image specification, or as people write them.
//!
//! Source: Docker Engine API 1.52; OCI image-spec 1.1, `Platform`.

use serde::Deserialize;

use crate::{error::ApiError, query::Query};

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// The one platform that `name` gives, as `os/architecture[/variant]`.
///
/// # Errors
/// 400 for what is none, and for several: the question is about one.
pub(crate) fn one(query: &Query, name: &str) -> Result<Option<String>, ApiError> {
    let mut given = several(query, name)?;
    match given.len() {
        0 | 1 => Ok(given.pop()),
        _ => Err(ApiError::bad("multiple platform parameters not supported")),
    }
}

/// All platforms that `name` gives.
///
/// # Errors
/// 400 for what is none.
pub(crate) fn several(query: &Query, name: &str) -> Result<Vec<String>, ApiError> {
    query.all(name).filter(|text| !text.is_empty()).map(|text| read(name, text)).collect()
}

fn read(name: &str, text: &str) -> Result<String, ApiError> {
    if !text.trim_start().starts_with('{') {
        return Ok(text.to_owned());
    }
    let bad = |why: String| ApiError::bad(format!("invalid {name} {text:?}: {why}"));
    let Platform { os, architecture, variant } =
        serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    if os.is_empty() || architecture.is_empty() {
        return Err(bad("both OS and Architecture must be provided".to_owned()));
    }
    Ok(match variant.is_empty() {
        true => format!("{os}/{architecture}"),
        false => format!("{os}/{architecture}/{variant}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_in_both_forms() {
        let read = |text: &str| {
            let query =
                form_urlencoded::Serializer::new(String::new()).append_pair("p", text).finish();
            one(&Query::parse(&query), "p")
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(read(r#"{"os":"linux","architecture":"amd64"}"#), some("linux/amd64"));
        let arm = r#"{"os":"linux","architecture":"arm","variant":"v7"}"#;
        assert_eq!(read(arm), some("linux/arm/v7"));
        assert_eq!(read("linux/arm64"), some("linux/arm64"));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("{}").unwrap_err().status.as_u16(), 400);
        assert_eq!(read("{").unwrap_err().status.as_u16(), 400);
        let two = Query::parse("p=linux/amd64&p=linux/arm64");
        assert_eq!(one(&two, "p").unwrap_err().status.as_u16(), 400);
        assert_eq!(several(&two, "p").unwrap(), ["linux/amd64", "linux/arm64"]);
    }
}
