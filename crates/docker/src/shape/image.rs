//! An image as `inspect` shows it, and how references are written.

use std::collections::BTreeMap;

use engine::ImageView;
use serde::Serialize;

use super::ports;

/// An image's reference as people type it: Docker Hub's names are short.
pub fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    name.strip_prefix("library/").unwrap_or(name)
}

/// Repository and tag of a reference in full.
pub fn split(reference: &str) -> (&str, &str) {
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
pub struct ImageJson {
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
    pub fn of(image: &ImageView) -> ImageJson {
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
    use super::*;
    use crate::fixture;

    #[test]
    fn inspect_shows_dockers_json() {
        let image = fixture::image();
        insta::assert_snapshot!(serde_json::to_string_pretty(&ImageJson::of(&image)).unwrap());
    }
}
