//! The steps by which an image came about, as `history` shows them.
//!
//! Source: docker/cli, `cli/command/formatter/history.go` (behaviour).

use base::clock::Timestamp;
use engine::ImageView;
use serde::Serialize;

use super::short_id;
use crate::{
    output::{format::Column, human},
    template::Value,
    time,
};

/// The columns of `history`.
pub(crate) const COLUMNS: [Column; 6] = [
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];

/// The table of `history`.
pub(crate) const TABLE: &str =
    "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// Longest command that is shown whole.
const COMMAND_CHARS_MAX: usize = 45;

/// How much is told, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Sizes and times in words.
    pub(crate) human: bool,
    /// Nothing is cut short.
    pub(crate) no_trunc: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The image, at its last step.
    image: Option<String>,
    created: Option<Timestamp>,
    by: String,
    bytes: u64,
    comment: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    comment: String,
    created_at: String,
    created_by: String,
    created_since: String,
    #[serde(rename = "ID")]
    id: String,
    size: String,
}

/// The steps, the last one first.
pub(crate) fn steps(image: &ImageView) -> Vec<Step> {
    let mut bytes = image.layer_bytes.iter();
    let step = |step: &engine::ImageHistory| Step {
        image: None,
        created: step.created.as_deref().and_then(time::from_rfc3339),
        by: step.created_by.clone().unwrap_or_default(),
        bytes: if step.empty_layer { 0 } else { bytes.next().copied().unwrap_or(0) },
        comment: step.comment.clone().unwrap_or_default(),
    };
    let mut steps: Vec<_> = image.history.iter().map(step).collect();
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        last.image = Some(image.id.clone());
    }
    steps
}

impl Step {
    /// The image's id at its last step; steps before it have none of their own.
    pub(crate) fn id(&self, style: Style) -> &str {
        match &self.image {
            None => "<missing>",
            Some(id) if style.no_trunc => id,
            Some(id) => short_id(id),
        }
    }

    /// The step as a row.
    pub(crate) fn row(&self, style: Style, now: Timestamp) -> Value {
        let at = time::rfc3339(self.created);
        let since = match self.created {
            Some(created) => time::human(time::between(created, now)) + " ago",
            None => "N/A".to_owned(),
        };
        let by = self.by.replace('\t', " ");
        Value::of(&Row {
            comment: self.comment.clone(),
            created_since: if style.human { since } else { at.clone() },
            created_at: at,
            created_by: if style.no_trunc { by } else { cut(&by) },
            id: self.id(style).to_owned(),
            size: if style.human { human::size(self.bytes) } else { self.bytes.to_string() },
        })
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= COMMAND_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(COMMAND_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use engine::{ImageConfig, ImageHistory};

    use super::*;
    use crate::{
        output::format::{Format, list},
        show::fixture::NOW,
    };

    fn image() -> ImageView {
        let step = |by: &str, empty_layer: bool| ImageHistory {
            created: Some("2025-12-01T00:00:00Z".to_owned()),
            created_by: Some(by.to_owned()),
            comment: Some("buildkit".to_owned()),
            empty_layer,
        };
        let long = "RUN /bin/sh -c apt-get update && apt-get install -y curl # buildkit";
        ImageView {
            id: format!("sha256:{}", "ab".repeat(32)),
            manifest: String::new(),
            references: Vec::new(),
            created: None,
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: None,
            target: String::new(),
            layer_bytes: vec![116_953_321, 13_256],
            variants: Vec::new(),
            size: 0,
            containers: 0,
            layers: Vec::new(),
            config: ImageConfig::default(),
            history: vec![
                ImageHistory { created: None, ..step("ADD\trootfs", false) },
                step("CMD [\"bash\"]", true),
                step(long, false),
            ],
            about: Default::default(),
        }
    }

    fn shown(human: bool, no_trunc: bool) -> String {
        let style = Style { human, no_trunc };
        let rows: Vec<_> = steps(&image()).iter().map(|step| step.row(style, NOW)).collect();
        list(&Format::Table, TABLE, &COLUMNS, &rows).unwrap()
    }

    #[test]
    fn steps_are_told_last_first_with_what_each_added() {
        insta::assert_snapshot!(shown(true, false), @r#"
        IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT
        abababababab   4 weeks ago   RUN /bin/sh -c apt-get update && apt-get ins…   13.3kB    buildkit
        <missing>      4 weeks ago   CMD ["bash"]                                    0B        buildkit
        <missing>      N/A           ADD rootfs                                      117MB     buildkit
        "#);
    }

    #[test]
    fn for_programs_nothing_is_cut_or_rounded() {
        let text = shown(false, true);
        assert!(text.contains("install -y curl # buildkit") && text.contains("13256"), "{text}");
        assert!(text.contains("2025-12-01T00:00:00Z"), "{text}");
    }
}
