//! `/system/df`: what takes room on the disk.
//!
//! Source: Docker Engine API 1.52, `SystemDataUsage`.

use std::collections::{BTreeMap, BTreeSet};

use base::clock::Timestamp;
use engine::{ContainerState, DiskUsage, ImageView, Summary, VolumeUsage, VolumeView};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    call::Call,
    error::ApiError,
    images,
    query::Query,
    reply::{self, Answer},
    route::Version,
    shape::{
        image::{self, Counted},
        listed::Listed,
        volume::VolumeJson,
    },
};

/// The first version that sums up what each kind takes.
const SUMS_SINCE: Version = Version(1, 52);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kinds {
    containers: bool,
    images: bool,
    volumes: bool,
    build_cache: bool,
}

/// `/system/df`.
pub(crate) async fn disk_usage(call: &Call) -> Answer {
    let kinds = kinds(&call.query)?;
    let verbose = call.version < SUMS_SINCE || call.query.flag("verbose");
    let engine = call.engine();
    let usage = match kinds.containers || kinds.images {
        true => engine.disk_usage().await?,
        false => DiskUsage::default(),
    };
    let mut shape = json!({});
    if kinds.images {
        tell_images(&mut shape, &engine.images().await?, &usage, call.version, verbose);
    }
    if kinds.containers {
        tell_containers(call, &mut shape, &usage, verbose);
    }
    if kinds.volumes {
        let (volumes, usage) = (engine.volumes().await?, engine.volume_usage().await?);
        tell_volumes(&mut shape, &volumes, &usage, call.version, verbose);
    }
    if kinds.build_cache {
        // Nothing is built here, so nothing is kept for builds.
        tell(&mut shape, "BuildCache", &[(); 0], Sum::default(), call.version, verbose);
        if call.version < SUMS_SINCE {
            shape["BuilderSize"] = json!(0);
        }
    }
    reply::json(&shape)
}

/// Kinds of things, all unless some are given.
fn kinds(query: &Query) -> Result<Kinds, ApiError> {
    let given: Vec<_> = query.all("type").filter(|kind| !kind.is_empty()).collect();
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(odd) = given.iter().find(|kind| !known.contains(kind)) {
        return Err(ApiError::bad(format!("unknown object type: {odd}")));
    }
    let has = |kind| given.is_empty() || given.contains(&kind);
    Ok(Kinds {
        containers: has("container"),
        images: has("image"),
        volumes: has("volume"),
        build_cache: has("build-cache"),
    })
}

/// What all of a kind come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    active: usize,
    total: usize,
    bytes: u64,
    reclaimable: u64,
}

/// Writes a kind's items and, for who reads it, its sum.
fn tell(
    shape: &mut Value,
    kind: &str,
    items: &[impl Serialize],
    sum: Sum,
    version: Version,
    verbose: bool,
) {
    if version < SUMS_SINCE {
        let field = if kind == "BuildCache" { kind.to_owned() } else { format!("{kind}s") };
        shape[field] = json!(items);
        return;
    }
    let mut told = json!({
        "ActiveCount": sum.active,
        "TotalCount": sum.total,
        "TotalSize": sum.bytes,
        "Reclaimable": sum.reclaimable,
    });
    if verbose {
        told["Items"] = json!(items);
    }
    shape[format!("{kind}Usage")] = told;
}

fn tell_images(
    shape: &mut Value,
    all: &[ImageView],
    usage: &DiskUsage,
    version: Version,
    verbose: bool,
) {
    let shared = images::sharing(&usage.images);
    let item = |one: &ImageView| {
        let counted =
            Counted { shared: shared.get(&one.id).copied(), containers: Some(one.containers) };
        images::versioned(image::summary(one, counted), version)
    };
    let items: Vec<_> = all.iter().map(item).collect();
    let space = usage.images.layers;
    let sum = Sum {
        active: all.iter().filter(|image| image.containers > 0).count(),
        total: all.len(),
        bytes: space.bytes,
        reclaimable: space.reclaimable,
    };
    if version < SUMS_SINCE {
        shape["LayersSize"] = json!(space.bytes);
    }
    tell(shape, "Image", &items, sum, version, verbose);
}

fn tell_containers(call: &Call, shape: &mut Value, usage: &DiskUsage, verbose: bool) {
    let sizes: BTreeMap<_, _> =
        usage.containers.iter().map(|size| (size.id.as_str(), size)).collect();
    let now = Timestamp::now();
    let (mut items, mut sum) = (Vec::new(), Sum::default());
    for container in call.engine().list().iter().rev() {
        let size = sizes.get(container.id.as_str()).copied();
        let written = size.map_or(0, |size| size.written);
        items.push(Listed::of(container, Summary::from(&**container), size, now));
        let runs = matches!(
            container.state.state,
            ContainerState::Running | ContainerState::Paused | ContainerState::Restarting
        );
        sum.active += usize::from(runs);
        sum.total += 1;
        sum.bytes += written;
        sum.reclaimable += if runs { 0 } else { written };
    }
    tell(shape, "Container", &items, sum, call.version, verbose);
}

fn tell_volumes(
    shape: &mut Value,
    all: &[VolumeView],
    usage: &[VolumeUsage],
    version: Version,
    verbose: bool,
) {
    let usage: BTreeMap<_, _> = usage.iter().map(|usage| (usage.name.as_str(), usage)).collect();
    let of = |volume: &VolumeView| usage.get(volume.name.as_str()).copied();
    let item = |volume: &VolumeView| json!(VolumeJson::of(volume).with_usage(of(volume)));
    let items: Vec<_> = all.iter().map(item).collect();
    let idle: BTreeSet<_> =
        all.iter().filter(|volume| volume.users.is_empty()).map(|volume| &volume.name).collect();
    let bytes = |volume: &VolumeView| of(volume).map_or(0, |usage| usage.bytes);
    let sum = Sum {
        active: all.len() - idle.len(),
        total: all.len(),
        bytes: all.iter().map(bytes).sum(),
        reclaimable: all.iter().filter(|one| idle.contains(&one.name)).map(bytes).sum(),
    };
    tell(shape, "Volume", &items, sum, version, verbose);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_all_or_those_given() {
        let read = |text| kinds(&Query::parse(text));
        let all = Kinds { containers: true, images: true, volumes: true, build_cache: true };
        assert_eq!(read(""), Ok(all));
        let some = Kinds { images: false, build_cache: false, ..all };
        assert_eq!(read("type=container&type=volume"), Ok(some));
        assert_eq!(read("type=x").unwrap_err().message, "unknown object type: x");
    }

    #[test]
    fn newer_clients_get_sums_and_items_only_when_asked() {
        let sum = Sum { active: 1, total: 2, bytes: 30, reclaimable: 10 };
        let told = |version, verbose| {
            let mut shape = json!({});
            tell(&mut shape, "Volume", &[json!("item")], sum, version, verbose);
            shape
        };
        assert_eq!(told(Version(1, 50), false), json!({ "Volumes": ["item"] }));
        let usage = &told(SUMS_SINCE, false)["VolumeUsage"];
        assert_eq!((&usage["TotalSize"], usage.get("Items")), (&json!(30), None));
        assert_eq!(told(SUMS_SINCE, true)["VolumeUsage"]["Items"], json!(["item"]));
    }
}
