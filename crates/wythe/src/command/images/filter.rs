//! `images --filter`: conditions on images, all of which hold.
//!
//! Source: Docker's documentation, `docker images`, "Filtering".

use docker::shape::pattern::matches;
use engine::ImageView;

use crate::error::CliError;

/// The kinds of conditions that are built.
const KINDS: [&str; 5] = ["before", "dangling", "label", "reference", "since"];

/// What was asked for, as kind and value.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads `kind=value` each.
    pub(super) fn parse(texts: &[String]) -> Result<Filters, CliError> {
        let mut filters = Vec::new();
        for text in texts {
            let bad = |why: String| CliError::Usage(format!("invalid filter \"{text}\": {why}"));
            let (kind, value) =
                text.split_once('=').ok_or_else(|| bad("write kind=value".to_owned()))?;
            if !KINDS.contains(&kind) {
                return Err(bad(format!("use one of {}", KINDS.join(", "))));
            }
            if kind == "dangling" && !["true", "false", "1", "0"].contains(&value) {
                return Err(bad("use true or false".to_owned()));
            }
            filters.push((kind.to_owned(), value.to_owned()));
        }
        Ok(Filters(filters))
    }

    /// One more condition: a reference like this.
    pub(super) fn require_reference(&mut self, pattern: &str) {
        self.0.push(("reference".to_owned(), pattern.to_owned()));
    }

    /// The images that meet the conditions, each with the references that do.
    pub(super) fn pick(&self, images: Vec<ImageView>) -> Result<Vec<ImageView>, CliError> {
        let mut bounds = Vec::new();
        for (kind, value) in &self.0 {
            if kind == "before" || kind == "since" {
                let named = |image: &&ImageView| names(image, value);
                let missing = || CliError::Usage(format!("No such image: {value}"));
                let created = images.iter().find(named).ok_or_else(missing)?.created.clone();
                bounds.push((kind == "before", created));
            }
        }
        let kept = images.into_iter().filter_map(|mut image| {
            let within = bounds.iter().all(|(before, created)| match before {
                true => image.created < *created,
                false => image.created > *created,
            });
            let met = self.0.iter().all(|(kind, value)| meets(kind, value, &mut image));
            (within && met).then_some(image)
        });
        Ok(kept.collect())
    }
}

fn names(image: &ImageView, name: &str) -> bool {
    let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    (name.len() >= 4 && id.starts_with(name))
        || image.references.iter().any(|reference| matches(reference, name))
}

fn meets(kind: &str, value: &str, image: &mut ImageView) -> bool {
    match kind {
        "dangling" => image.references.is_empty() == matches!(value, "true" | "1"),
        "label" => match value.split_once('=') {
            Some((key, value)) => image.config.labels.get(key).is_some_and(|v| v == value),
            None => image.config.labels.contains_key(value),
        },
        "reference" => {
            image.references.retain(|reference| matches(reference, value));
            !image.references.is_empty()
        }
        // Those that bounds have taken.
        _ => true,
    }
}
