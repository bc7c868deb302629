//! An image as `inspect` and lists show it, and how references are written.
//!
//! Source: Docker Engine API 1.52, `ImageInspect`, `ImageSummary`, `HistoryResponseItem`.

use std::collections::BTreeMap;

use engine::{ImageAbout, ImageView};
use serde::Serialize;
use serde_json::{Value, json};

use super::ports;
use crate::time;

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

/// References with a tag.
pub fn tags(image: &ImageView) -> Vec<String> {
    let tagged = image.references.iter().filter(|name| !name.contains('@'));
    tagged.map(|name| familiar(name).to_owned()).collect()
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
    docker_version: String,
    author: String,
    config: Config,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Descriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<Empty>,
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    layers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

/// What an image came as: its manifest, or the index in which that is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Empty>,
    working_dir: String,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

impl ImageJson {
    /// The image in Docker's words.
    pub fn of(image: &ImageView) -> ImageJson {
        let about = &image.about;
        let last = image.history.last().and_then(|step| step.comment.clone());
        let comment = about.comment.clone().filter(|comment| !comment.is_empty());
        ImageJson {
            id: image.id.clone(),
            repo_tags: tags(image),
            repo_digests: about.digests.iter().map(|name| familiar(name).to_owned()).collect(),
            parent: "",
            comment: comment.or(last).unwrap_or_default(),
            created: image.created.clone().unwrap_or_default(),
            docker_version: about.docker_version.clone().unwrap_or_default(),
            author: about.author.clone().unwrap_or_default(),
            config: Config::of(image),
            architecture: image.architecture.clone(),
            variant: image.variant.clone(),
            os: image.os.clone(),
            size: image.size,
            graph_driver: GraphDriver { data: None, name: about.form.clone() },
            root_fs: RootFs { r#type: "layers", layers: image.layers.clone() },
            metadata: Metadata { last_tag_time: time::rfc3339(about.tagged) },
            descriptor: Descriptor::of(image, about),
        }
    }
}

impl Descriptor {
    fn of(image: &ImageView, about: &ImageAbout) -> Option<Descriptor> {
        (!about.media_type.is_empty()).then(|| Descriptor {
            media_type: about.media_type.clone(),
            digest: image.target.clone(),
            size: about.target_bytes,
        })
    }
}

impl Config {
    fn of(image: &ImageView) -> Config {
        let config = &image.config;
        let ports = config.expose.iter();
        Config {
            user: config.user.clone(),
            exposed_ports: ports.map(|(port, of)| (ports::key(*port, *of), Empty {})).collect(),
            env: config.env.clone(),
            entrypoint: config.entrypoint.clone(),
            cmd: config.command.clone(),
            healthcheck: config.health.as_ref().map(healthcheck),
            volumes: config.volumes.iter().map(|path| (path.clone(), Empty {})).collect(),
            working_dir: config.working_dir.clone().unwrap_or_default(),
            labels: config.labels.clone(),
            on_build: image.about.on_build.clone(),
            shell: image.about.shell.clone(),
            stop_signal: config.stop_signal.clone(),
        }
    }
}

/// Docker's `HealthConfig`; what is not said is left out.
fn healthcheck(check: &engine::HealthCheck) -> Value {
    let mut shape = json!({ "Test": check.test.to_words() });
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            shape[name] = json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    if let Some(retries) = check.retries {
        shape["Retries"] = json!(retries);
    }
    shape
}

/// What a list tells of an image beside what it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Bytes in layers that others have too, if they were counted.
    pub shared: Option<u64>,
    /// Containers that use it, if they were counted.
    pub containers: Option<u64>,
}

/// Docker's `ImageSummary`; -1 is what was not counted.
pub fn summary(image: &ImageView, counted: Counted) -> Value {
    let created = image.created.as_deref().and_then(time::from_rfc3339);
    let count = |count: Option<u64>| count.map_or(json!(-1), |count| json!(count));
    let labels = &image.config.labels;
    let mut shape = json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": tags(image),
        "RepoDigests": image.about.digests.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
        "Created": created.map_or(0, base::clock::Timestamp::seconds),
        "Size": image.size,
        "SharedSize": count(counted.shared),
        "Labels": (!labels.is_empty()).then_some(labels),
        "Containers": count(counted.containers),
    });
    if let Some(descriptor) = Descriptor::of(image, &image.about) {
        shape["Descriptor"] = json!(descriptor);
    }
    shape
}

/// Docker's `ImageManifestSummary` of each image that shares the name; `users` are the containers
/// of an image, by its id.
pub fn manifests(image: &ImageView, users: impl Fn(&str) -> Vec<String>) -> Vec<Value> {
    let shape = |variant: &engine::ImageVariant| {
        let mut parts = variant.platform.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        let (os, architecture, of_it) = (part(), part(), part());
        let mut platform = json!({ "architecture": architecture, "os": os });
        if !of_it.is_empty() {
            platform["variant"] = json!(of_it);
        }
        json!({
            "ID": variant.manifest,
            "Descriptor": {
                "mediaType": variant.media_type,
                "digest": variant.manifest,
                "size": variant.manifest_bytes,
            },
            "Available": true,
            "Kind": "image",
            "Size": {
                "Content": variant.blob_bytes,
                "Total": variant.blob_bytes.saturating_add(variant.size),
            },
            "ImageData": {
                "Platform": platform,
                "Size": { "Unpacked": variant.size },
                "Containers": users(&variant.id),
            },
        })
    };
    image.variants.iter().map(shape).collect()
}

/// Docker's `HistoryResponseItem` of each step, the last one first.
pub fn history(image: &ImageView) -> Vec<Value> {
    let mut bytes = image.layer_bytes.iter();
    let steps = image.history.iter().map(|step| {
        let own = if step.empty_layer { None } else { bytes.next() };
        let created = step.created.as_deref().and_then(time::from_rfc3339);
        json!({
            "Id": "<missing>",
            "Created": created.map_or(0, base::clock::Timestamp::seconds),
            "CreatedBy": step.created_by.clone().unwrap_or_default(),
            "Tags": null,
            "Size": own.copied().unwrap_or(0),
            "Comment": step.comment.clone().unwrap_or_default(),
        })
    });
    let mut rows: Vec<_> = steps.collect();
    rows.reverse();
    if let Some(last) = rows.first_mut() {
        last["Id"] = json!(image.id);
        last["Tags"] = json!(tags(image));
    }
    rows
}

#[cfg(test)]
mod tests {
    use engine::ImageHistory;

    use super::*;
    use crate::fixture;

    #[test]
    fn inspect_shows_dockers_json() {
        let image = fixture::image();
        insta::assert_snapshot!(serde_json::to_string_pretty(&ImageJson::of(&image)).unwrap());
    }

    #[test]
    fn a_list_says_minus_one_of_what_was_not_counted() {
        let mut image = fixture::image();
        let shape = summary(&image, Counted::default());
        assert_eq!((&shape["SharedSize"], &shape["Containers"]), (&json!(-1), &json!(-1)));
        assert_eq!(shape["RepoTags"], json!(["debian:bookworm", "localhost:5000/a/b:1"]));
        assert_eq!(shape["Labels"], Value::Null);
        image.references.push(format!("debian@sha256:{}", "cd".repeat(32)));
        assert_eq!(tags(&image).len(), 2, "a digest is no tag");
        let counted = Counted { shared: Some(0), containers: Some(2) };
        let shape = summary(&image, counted);
        assert_eq!((&shape["SharedSize"], &shape["Containers"]), (&json!(0), &json!(2)));
    }

    #[test]
    fn a_history_begins_with_the_last_step_and_empty_ones_have_no_bytes() {
        let step = |by: &str, empty_layer| ImageHistory {
            created: Some("1970-01-01T00:00:07Z".to_owned()),
            created_by: Some(by.to_owned()),
            comment: None,
            empty_layer,
        };
        let image = ImageView {
            layer_bytes: vec![10, 30],
            history: vec![step("ADD", false), step("CMD", true), step("RUN", false)],
            ..fixture::image()
        };
        let rows = history(&image);
        let told: Vec<_> = rows.iter().map(|row| (&row["CreatedBy"], &row["Size"])).collect();
        let want = [(json!("RUN"), json!(30)), (json!("CMD"), json!(0)), (json!("ADD"), json!(10))];
        assert_eq!(told, want.iter().map(|(by, size)| (by, size)).collect::<Vec<_>>());
        assert_eq!((&rows[0]["Id"], &rows[1]["Id"]), (&json!(image.id), &json!("<missing>")));
        assert_eq!(rows[0]["Created"], json!(7));
    }
}
