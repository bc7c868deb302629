//! An image as `image inspect` shows it, and as a row of `images`.

use std::collections::BTreeMap;

use base::clock::Timestamp;
use engine::{ImageSize, ImageView};
use serde::Serialize;

use super::{familiar, ports, short_id};
use crate::{
    output::{format::Column, human, table},
    template::Value,
    time,
};

/// The columns of `images`.
pub(crate) const COLUMNS: [Column; 11] = [
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
];

/// The table of `images`.
pub(crate) const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// The table of `images --digests`.
pub(crate) const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// The fields that Docker's `images` has, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    containers: String,
    created_at: String,
    created_since: String,
    digest: String,
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    shared_size: String,
    size: String,
    tag: String,
    unique_size: String,
    virtual_size: String,
}

/// A row for each reference of the image, or one for an image without any.
pub(crate) fn rows(
    image: &ImageView,
    size: Option<&ImageSize>,
    no_trunc: bool,
    now: Timestamp,
) -> Vec<Value> {
    let counted = |bytes: Option<u64>| bytes.map_or_else(|| "N/A".to_owned(), human::size);
    let created = image.created.as_deref().and_then(time::from_rfc3339);
    let row = |repository: &str, tag: &str| {
        Value::of(&Row {
            containers: image.containers.to_string(),
            created_at: created.map_or_else(|| "N/A".to_owned(), time::table),
            created_since: match created {
                Some(at) => time::human(time::between(at, now)) + " ago",
                None => "N/A".to_owned(),
            },
            digest: image.manifest.clone(),
            id: if no_trunc { image.id.clone() } else { short_id(&image.id).to_owned() },
            repository: repository.to_owned(),
            shared_size: counted(size.map(|size| size.shared)),
            size: human::size(image.size),
            tag: tag.to_owned(),
            unique_size: counted(size.map(|size| size.unique)),
            virtual_size: human::size(image.size),
        })
    };
    if image.references.is_empty() {
        return vec![row("<none>", "<none>")];
    }
    let reference = |reference: &String| {
        let (repository, tag) = split(reference);
        row(repository, tag)
    };
    image.references.iter().map(reference).collect()
}

/// The table of `images --tree`: each image with what there is of it, by platform.
pub(crate) fn tree(images: &[ImageView]) -> String {
    let mut text = "IMAGE\tID\tSIZE\tCONTAINERS\n".to_owned();
    for image in images {
        let names = image.references.iter().map(|name| familiar(name));
        let names: Vec<_> = if names.len() == 0 { vec!["<untagged>"] } else { names.collect() };
        let (id, size) = (short_id(&image.id), human::size(image.size));
        for name in names {
            text += &format!("{name}\t{id}\t{size}\t{}\n", image.containers);
        }
        let last = image.variants.len().saturating_sub(1);
        for (number, variant) in image.variants.iter().enumerate() {
            let branch = if number == last { "└─" } else { "├─" };
            let (id, size) = (short_id(&variant.id), human::size(variant.size));
            text += &format!("{branch} {}\t{id}\t{size}\t\n", variant.platform);
        }
    }
    table::align(&text).lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Repository and tag of a reference in full.
pub(crate) fn split(reference: &str) -> (&str, &str) {
    let name = familiar(reference);
    if let Some((name, _)) = name.split_once('@') {
        return (name, "<none>");
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

/// Docker's `ImageInspect`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageJson {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: &'static str,
    comment: String,
    created: String,
    author: &'static str,
    config: Config,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    layers: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    env: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Empty>,
    working_dir: String,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

impl ImageJson {
    /// The image in Docker's words.
    pub(crate) fn of(image: &ImageView) -> ImageJson {
        let config = &image.config;
        let digest = |reference: &String| format!("{}@{}", split(reference).0, image.manifest);
        let mut repo_digests: Vec<String> = image.references.iter().map(digest).collect();
        repo_digests.dedup();
        let last = image.history.last();
        ImageJson {
            id: image.id.clone(),
            repo_tags: image.references.iter().map(|name| familiar(name).to_owned()).collect(),
            repo_digests,
            parent: "",
            comment: last.and_then(|step| step.comment.clone()).unwrap_or_default(),
            created: image.created.clone().unwrap_or_default(),
            author: "",
            config: Config {
                user: config.user.clone(),
                exposed_ports: config
                    .expose
                    .iter()
                    .map(|(port, protocol)| (ports::key(*port, *protocol), Empty {}))
                    .collect(),
                env: config.env.clone(),
                entrypoint: config.entrypoint.clone(),
                cmd: config.command.clone(),
                volumes: config.volumes.iter().map(|path| (path.clone(), Empty {})).collect(),
                working_dir: config.working_dir.clone().unwrap_or_default(),
                labels: config.labels.clone(),
                stop_signal: config.stop_signal.clone(),
            },
            architecture: image.architecture.clone(),
            variant: image.variant.clone(),
            os: image.os.clone(),
            size: image.size,
            root_fs: RootFs { r#type: "layers", layers: image.layers.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::ImageConfig;

    use super::*;
    use crate::{
        output::format::{Format, list},
        show::fixture::NOW,
    };

    fn image() -> ImageView {
        ImageView {
            id: format!("sha256:{}", "ab".repeat(32)),
            manifest: format!("sha256:{}", "cd".repeat(32)),
            references: vec![
                "docker.io/library/debian:bookworm".to_owned(),
                "localhost:5000/a/b:1".to_owned(),
            ],
            created: Some("2025-12-01T00:00:00Z".to_owned()),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: None,
            target: format!("sha256:{}", "cd".repeat(32)),
            layer_bytes: vec![116_953_321],
            variants: Vec::new(),
            size: 116_953_321,
            containers: 1,
            layers: vec!["sha256:ef".to_owned()],
            config: ImageConfig {
                command: Some(vec!["bash".to_owned()]),
                ..ImageConfig::default()
            },
            history: Vec::new(),
        }
    }

    #[test]
    fn an_image_has_a_row_for_each_reference() {
        let none = ImageView { references: Vec::new(), created: None, ..image() };
        let all: Vec<Value> =
            [image(), none].iter().flat_map(|i| rows(i, None, false, NOW)).collect();
        insta::assert_snapshot!(list(&Format::Table, TABLE, &COLUMNS, &all).unwrap(), @r"
        REPOSITORY           TAG        IMAGE ID       CREATED       SIZE
        debian               bookworm   abababababab   4 weeks ago   117MB
        localhost:5000/a/b   1          abababababab   4 weeks ago   117MB
        <none>               <none>     abababababab   N/A           117MB
        ");
    }

    #[test]
    fn a_tree_shows_what_there_is_for_each_platform() {
        let variant = |platform: &str, byte: &str, size| engine::ImageVariant {
            platform: platform.to_owned(),
            id: format!("sha256:{}", byte.repeat(32)),
            manifest: String::new(),
            size,
        };
        let variants =
            vec![variant("linux/amd64", "ab", 116_953_321), variant("linux/arm64", "ac", 12_000)];
        insta::assert_snapshot!(tree(&[ImageView { variants, ..image() }]), @r"
        IMAGE                  ID             SIZE      CONTAINERS
        debian:bookworm        abababababab   117MB     1
        localhost:5000/a/b:1   abababababab   117MB     1
        ├─ linux/amd64         abababababab   117MB
        └─ linux/arm64         acacacacacac   12kB
        ");
    }

    #[test]
    fn inspect_shows_dockers_json() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&ImageJson::of(&image())).unwrap());
    }
}
