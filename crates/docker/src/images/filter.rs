//! Which images are wanted of a list.
//!
//! Source: moby, `daemon/images/images.go`, and the Docker Engine API 1.52, `ImageList`.

use std::collections::BTreeMap;

use base::clock::Timestamp;
use engine::{ImageView, LabelCondition, Prune};

use crate::{error::ApiError, query::Filters, shape::pattern::matches, time};

/// Conditions of a list, all of which hold.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    dangling: Option<bool>,
    labels: Vec<LabelCondition>,
    references: Vec<String>,
    /// Made before all of these.
    before: Vec<Timestamp>,
    /// Made after all of these.
    since: Vec<Timestamp>,
}

impl Wanted {
    /// Reads the conditions; `created` tells when the image of this name was made.
    ///
    /// # Errors
    /// 400 for a condition that is none, and what `created` refuses.
    pub(super) fn read(
        filters: &Filters,
        now: Timestamp,
        created: impl Fn(&str) -> Result<Timestamp, ApiError>,
    ) -> Result<Wanted, ApiError> {
        filters.only(&["before", "dangling", "label", "reference", "since", "until"])?;
        let of = |name| filters.of(name).iter().map(|image| created(image)).collect();
        let before: Result<Vec<_>, _> = of("before");
        let since: Result<Vec<_>, _> = of("since");
        let mut before = before?;
        before.extend(until(filters, now)?);
        Ok(Wanted {
            dangling: filters.flag("dangling")?,
            labels: labels(filters, "label"),
            references: filters.of("reference").to_vec(),
            before,
            since: since?,
        })
    }

    /// The image with the references that meet the conditions, if it does.
    pub(super) fn pick(&self, mut image: ImageView) -> Option<ImageView> {
        let made = made(&image);
        let wanted = self.dangling.is_none_or(|dangling| dangling == is_dangling(&image))
            && self.before.iter().all(|bound| made < *bound)
            && self.since.iter().all(|bound| made > *bound)
            && self.labels.iter().all(|label| has(&image.config.labels, label));
        if !self.references.is_empty() {
            let named = |name: &String| self.references.iter().any(|like| matches(name, like));
            image.references.retain(&named);
            image.about.digests.retain(&named);
        }
        let named = self.references.is_empty()
            || !image.references.is_empty()
            || !image.about.digests.is_empty();
        (wanted && named).then_some(image)
    }
}

/// When an image was made, as its maker says; 1970 if nobody said.
pub(super) fn made(image: &ImageView) -> Timestamp {
    image.created.as_deref().and_then(time::from_rfc3339).unwrap_or(Timestamp(0))
}

fn is_dangling(image: &ImageView) -> bool {
    image.references.iter().all(|name| name.contains('@'))
}

fn has(labels: &BTreeMap<String, String>, wanted: &LabelCondition) -> bool {
    let value = labels.get(&wanted.key);
    value.is_some_and(|value| wanted.value.as_ref().is_none_or(|wanted| wanted == value))
}

/// Conditions of `POST /images/prune`: dangling images, unless it is said to be otherwise.
///
/// # Errors
/// 400 for a condition that is none.
pub(super) fn prune(filters: &Filters, now: Timestamp) -> Result<Prune, ApiError> {
    filters.only(&["dangling", "label", "label!", "until"])?;
    Ok(Prune {
        all: filters.flag("dangling")? == Some(false),
        until: until(filters, now)?,
        with: labels(filters, "label"),
        without: labels(filters, "label!"),
    })
}

fn labels(filters: &Filters, name: &str) -> Vec<LabelCondition> {
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => LabelCondition { key: key.to_owned(), value: Some(value.to_owned()) },
        None => LabelCondition { key: text.clone(), value: None },
    };
    filters.of(name).iter().map(label).collect()
}

fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    match filters.of("until") {
        [] => Ok(None),
        [text] => time::moment(text, now).map(|at| Some(Timestamp(at))).map_err(ApiError::bad),
        _ => Err(ApiError::bad("more than one until filter specified")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, query::Query};

    fn picked(filters: &str) -> Result<Vec<String>, ApiError> {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("filters", filters)
            .finish();
        let created = |name: &str| match name {
            "old" => Ok(Timestamp(1)),
            "young" => Ok(fixture::NOW),
            _ => Err(ApiError::missing(format!("No such image: {name}"))),
        };
        let filters = Query::parse(&query).filters()?;
        let wanted = Wanted::read(&filters, fixture::NOW, created)?;
        let mut image = fixture::image();
        image.config.labels = [("tier".to_owned(), "base".to_owned())].into();
        let picked = wanted.pick(image);
        Ok(picked.map(|image| image.references).unwrap_or_default())
    }

    #[test]
    fn images_are_picked_by_what_they_are() {
        for (filters, want) in [
            ("{}", 2),
            (r#"{"dangling":["true"]}"#, 0),
            (r#"{"dangling":{"0":true}}"#, 2),
            (r#"{"reference":["debian"]}"#, 1),
            (r#"{"reference":["debian","*/a/b:?"]}"#, 2),
            (r#"{"reference":["ubuntu"]}"#, 0),
            (r#"{"label":["tier"]}"#, 2),
            (r#"{"label":["tier=base","other"]}"#, 0),
            (r#"{"before":["young"]}"#, 2),
            (r#"{"before":["old"]}"#, 0),
            (r#"{"since":["old"]}"#, 2),
            (r#"{"since":["young"]}"#, 0),
            (r#"{"until":["24h"]}"#, 2),
            (r#"{"until":["2025-11-01"]}"#, 0),
        ] {
            assert_eq!(picked(filters).unwrap().len(), want, "{filters}");
        }
        assert_eq!(picked(r#"{"since":["no"]}"#).unwrap_err().message, "No such image: no");
        for bad in [r#"{"name":["x"]}"#, r#"{"dangling":["maybe"]}"#, r#"{"until":["soon"]}"#] {
            assert_eq!(picked(bad).unwrap_err().status.as_u16(), 400, "{bad}");
        }
    }

    #[test]
    fn a_prune_takes_dangling_images_unless_told_otherwise() {
        let read = |text: &str| {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("filters", text)
                .finish();
            prune(&Query::parse(&query).filters().unwrap(), fixture::NOW).unwrap()
        };
        assert!(!read("{}").all && !read(r#"{"dangling":{"true":true}}"#).all);
        let prune = read(r#"{"dangling":["false"],"label!":["keep=1"],"until":["1"]}"#);
        assert!(prune.all && prune.until == Some(Timestamp(1_000_000_000)));
        assert_eq!(prune.without[0].value.as_deref(), Some("1"));
    }
}
