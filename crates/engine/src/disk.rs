//! What takes room on the disk, and what may be taken away. Plain data, and one pure decision.

use std::{collections::BTreeMap, path::PathBuf};

use base::{ContainerId, clock::Timestamp};
use serde::{Deserialize, Serialize};

use crate::Change;

/// Which unused things are to go. Where several conditions are given, all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prune {
    /// Of images, all that nobody uses, and not only those without a reference.
    pub all: bool,
    /// Only what was made before.
    pub until: Option<Timestamp>,
    /// Only what has all these labels.
    pub with: Vec<LabelCondition>,
    /// Not what has all these labels.
    pub without: Vec<LabelCondition>,
}

/// A label, and its value if that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCondition {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: Option<String>,
}

impl LabelCondition {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        value.is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

impl Prune {
    /// Whether something made then, with these labels, meets the conditions.
    ///
    /// Source: moby, `daemon/internal/filters`, `MatchKVList`; `daemon/prune.go`, `matchLabels`.
    pub(crate) fn takes(&self, created: Timestamp, labels: &BTreeMap<String, String>) -> bool {
        let all = |conditions: &[LabelCondition]| conditions.iter().all(|c| c.holds(labels));
        self.until.is_none_or(|until| created < until)
            && all(&self.with)
            && (self.without.is_empty() || !all(&self.without))
    }
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pruned {
    /// Containers, by id.
    pub containers: Vec<ContainerId>,
    /// References and images.
    pub images: Vec<Change>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
}

/// What takes room on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskUsage {
    /// Images.
    pub images: ImageUsage,
    /// Containers.
    pub containers: Vec<ContainerSize>,
}

/// What images take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageUsage {
    /// Each of them.
    pub images: Vec<ImageSize>,
    /// Layers as containers use them.
    pub layers: Space,
    /// What images came as, kept to be saved and pushed bit for bit.
    pub archives: Space,
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// How many.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that would be free without the images that nobody uses.
    pub reclaimable: u64,
}

/// An image's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// Its id, `sha256:…`.
    pub id: String,
    /// Bytes in layers that other images have too.
    pub shared: u64,
    /// Bytes in layers that it alone has.
    pub unique: u64,
}

/// A container's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSize {
    /// Its id.
    pub id: ContainerId,
    /// Bytes of what it wrote.
    pub written: u64,
    /// Bytes of its image and what it wrote.
    pub root: u64,
}

/// An image that is mounted at a directory of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// The mount's own id.
    pub id: String,
    /// How mount tables name it.
    pub source: String,
    /// The image's id, `sha256:…`.
    pub image: String,
    /// What was asked for.
    pub name: String,
    /// The directory.
    pub target: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> LabelCondition {
        match text.split_once('=') {
            Some((key, value)) => {
                LabelCondition { key: key.to_owned(), value: Some(value.to_owned()) }
            }
            None => LabelCondition { key: text.to_owned(), value: None },
        }
    }

    fn takes(until: Option<u64>, with: &[&str], without: &[&str]) -> bool {
        let conditions = |texts: &[&str]| texts.iter().map(|text| condition(text)).collect();
        let prune = Prune {
            all: false,
            until: until.map(Timestamp),
            with: conditions(with),
            without: conditions(without),
        };
        let labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        prune.takes(Timestamp(10), &labels.into())
    }

    #[test]
    fn conditions_hold_as_docker_has_them() {
        for (until, with, without, want) in [
            (None, &[][..], &[][..], true),
            (Some(10), &[], &[], false),
            (Some(11), &[], &[], true),
            (None, &["a"], &[], true),
            (None, &["a=1", "b"], &[], true),
            (None, &["a=2"], &[], false),
            (None, &["a", "c"], &[], false),
            (None, &[], &["a"], false),
            (None, &[], &["c"], true),
            (None, &[], &["a", "c"], true),
            (None, &["b"], &["a=2"], true),
        ] {
            assert_eq!(takes(until, with, without), want, "{until:?} {with:?} {without:?}");
        }
    }
}
