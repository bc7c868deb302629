//! What is asked of images.

mod archive;
mod filter;
mod transfer;

use std::collections::BTreeMap;

use base::{ErrorKind, clock::Timestamp};
use engine::{Change, EngineError, ImageView, RemoveImage};
use hyper::StatusCode;
use serde_json::{Value, json};

pub(crate) use archive::{load, save};
pub(crate) use transfer::{auth, distribution, push};

use crate::{
    call::Call,
    error::ApiError,
    platform,
    reply::{self, Answer},
    route::Version,
    shape::image::{self, Counted, ImageJson, familiar},
};

/// The first version that tells of a list's images by how many containers they are used.
const COUNTED_SINCE: Version = Version(1, 51);
/// The first version that no longer tells the size twice.
const ONE_SIZE_SINCE: Version = Version(1, 44);
/// The first version in which an image without a name has an empty list of them.
const NO_NONE_SINCE: Version = Version(1, 43);
/// The first version whose images have no fields of containers.
const NO_CONTAINER_SINCE: Version = Version(1, 50);

/// `GET /images/json`.
pub(crate) async fn list(call: &Call) -> Answer {
    let (filters, now) = (call.query.filters()?, Timestamp::now());
    let images = call.engine().images().await?;
    let made = named_in(call, &filters).await?;
    let wanted = filter::Wanted::read(&filters, now, |name| {
        made.get(name).copied().ok_or_else(|| no_such(name))
    })?;
    let shared = match call.query.flag("shared-size") {
        true => sharing(&call.engine().disk_usage().await?.images),
        false => BTreeMap::new(),
    };
    let with_manifests = call.query.flag("manifests");
    let shapes = images.into_iter().filter_map(|image| wanted.pick(image)).map(|image| {
        let counted = Counted {
            shared: shared.get(&image.id).copied(),
            containers: (call.version >= COUNTED_SINCE).then_some(image.containers),
        };
        let mut shape = versioned(image::summary(&image, counted), call.version);
        if with_manifests {
            shape["Manifests"] = json!(manifests(call, &image));
        }
        shape
    });
    reply::json(&shapes.collect::<Vec<_>>())
}

/// When those were made that `before` and `since` name.
async fn named_in(
    call: &Call,
    filters: &crate::query::Filters,
) -> Result<BTreeMap<String, Timestamp>, ApiError> {
    let mut made = BTreeMap::new();
    for name in filters.of("before").iter().chain(filters.of("since")) {
        let image = call.engine().image_inspect(name, None).await?;
        made.insert(name.clone(), filter::made(&image));
    }
    Ok(made)
}

fn no_such(name: &str) -> ApiError {
    ApiError::missing(format!("No such image: {name}"))
}

/// Bytes that each image shares with others, by its id.
pub(crate) fn sharing(usage: &engine::ImageUsage) -> BTreeMap<String, u64> {
    usage.images.iter().map(|size| (size.id.clone(), size.shared)).collect()
}

/// A list's image as clients of this version know it.
pub(crate) fn versioned(mut shape: Value, version: Version) -> Value {
    if version < ONE_SIZE_SINCE {
        shape["VirtualSize"] = shape["Size"].clone();
    }
    if version < NO_NONE_SINCE && shape["RepoTags"].as_array().is_some_and(Vec::is_empty) {
        shape["RepoTags"] = json!(["<none>:<none>"]);
        if shape["RepoDigests"].as_array().is_some_and(Vec::is_empty) {
            shape["RepoDigests"] = json!(["<none>@<none>"]);
        }
    }
    shape
}

fn manifests(call: &Call, image: &ImageView) -> Vec<Value> {
    let containers = call.engine().list();
    image::manifests(image, |id| {
        let users = containers.iter().filter(|container| container.image_id == id);
        users.map(|container| container.id.as_str().to_owned()).collect()
    })
}

/// `GET /images/{}/json`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let platform = platform::one(&call.query, "platform")?;
    let with_manifests = call.query.flag("manifests");
    if platform.is_some() && with_manifests {
        return Err(ApiError::bad(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let image = call.engine().image_inspect(&call.name, platform).await?;
    let mut shape = json!(ImageJson::of(&image));
    if call.version < ONE_SIZE_SINCE {
        shape["VirtualSize"] = json!(image.size);
    }
    if call.version < NO_CONTAINER_SINCE {
        of_a_container(&mut shape["Config"]);
    }
    if with_manifests {
        shape["Manifests"] = json!(manifests(call, &image));
    }
    reply::json(&shape)
}

/// Fields that only containers have, and that older clients read of images too.
fn of_a_container(config: &mut Value) {
    for name in ["Hostname", "Domainname", "Image"] {
        config[name] = json!("");
    }
    let switches = ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"];
    for name in switches {
        config[name] = json!(false);
    }
}

/// `GET /images/{}/history`.
pub(crate) async fn history(call: &Call) -> Answer {
    let platform = platform::one(&call.query, "platform")?;
    let image = call.engine().image_inspect(&call.name, platform).await?;
    reply::json(&image::history(&image))
}

/// `GET /images/search`: only Docker Hub has it.
pub(crate) fn search() -> Answer {
    Err(ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "searching is not supported: it is a service of Docker Hub alone, and no part of the \
         distribution specification",
    ))
}

/// `POST /images/create`.
pub(crate) async fn create(call: Call) -> Answer {
    if call.query.some("fromSrc").is_some() {
        return archive::import(call).await;
    }
    transfer::pull(call).await
}

/// `POST /images/prune`.
pub(crate) async fn prune(call: &Call) -> Answer {
    let prune = filter::prune(&call.query.filters()?, Timestamp::now())?;
    let pruned = call.engine().prune_images(prune).await?;
    let deleted: Vec<_> = pruned.images.iter().map(change).collect();
    reply::json(&json!({
        "ImagesDeleted": (!deleted.is_empty()).then_some(deleted),
        "SpaceReclaimed": pruned.bytes,
    }))
}

/// `POST /images/{}/tag`.
pub(crate) async fn tag(call: &Call) -> Answer {
    let Some(repository) = call.query.some("repo") else {
        return Err(ApiError::bad("invalid reference format: \"repo\" is missing"));
    };
    if repository.contains('@') {
        return Err(ApiError::bad("refusing to create a tag with a digest reference"));
    }
    let name = match call.query.some("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let tagged = call.engine().tag(&call.name, familiar(&name)).await;
    tagged.map_err(in_dockers_words)?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// Clients look for these words where a reference is none.
fn in_dockers_words(failure: EngineError) -> ApiError {
    match failure.kind() == ErrorKind::InvalidInput {
        true => ApiError::bad(format!("invalid reference format: {failure}")),
        false => failure.into(),
    }
}

/// `DELETE /images/{}`. There are no untagged parents here that `noprune` would keep.
pub(crate) async fn remove(call: &Call) -> Answer {
    let platforms = platform::several(&call.query, "platforms")?;
    let remove = RemoveImage { force: call.query.flag("force"), platforms };
    let changes = call.engine().remove_image(&call.name, remove).await?;
    reply::json(&changes.iter().map(change).collect::<Vec<_>>())
}

fn change(change: &Change) -> Value {
    match change {
        Change::Untagged(name) => json!({ "Untagged": familiar(name) }),
        Change::Deleted(id) => json!({ "Deleted": id }),
        Change::Loaded(name) => json!({ "Loaded": name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn older_clients_get_the_fields_they_know() {
        let mut image = fixture::image();
        image.references.clear();
        image.about.digests.clear();
        let at = |version| versioned(image::summary(&image, Counted::default()), version);
        assert_eq!(at(Version(1, 52))["RepoTags"], json!([]));
        assert_eq!(at(Version(1, 52)).get("VirtualSize"), None);
        let old = at(Version(1, 24));
        assert_eq!(old["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(old["VirtualSize"], old["Size"]);
    }
}
