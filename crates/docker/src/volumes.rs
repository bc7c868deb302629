//! What is asked of volumes.

use engine::{VolumeCreate, VolumeLabel, VolumePrune, VolumeView};
use hyper::StatusCode;
use serde_json::json;

use crate::{
    call::Call,
    error::ApiError,
    fields::{Asked, Fields},
    query::Filters,
    reply::{self, Answer},
    route::Version,
    shape::volume::VolumeJson,
};

/// The first version that prunes only anonymous volumes unless told otherwise.
const ANONYMOUS_SINCE: Version = Version(1, 42);

/// `GET /volumes`.
pub(crate) async fn list(call: &Call) -> Answer {
    let filters = call.query.filters()?;
    let wanted = Wanted::read(&filters)?;
    let volumes = call.engine().volumes().await?;
    let shapes: Vec<_> =
        volumes.iter().filter(|volume| wanted.wants(volume)).map(VolumeJson::of).collect();
    reply::json(&json!({ "Volumes": shapes, "Warnings": null }))
}

/// Conditions of a list. Those of one kind are alternatives, but of labels all must hold.
///
/// Source: moby, `daemon/volume/service/convert.go`.
#[derive(Debug)]
struct Wanted {
    dangling: Option<bool>,
    drivers: Vec<String>,
    names: Vec<String>,
    labels: Vec<VolumeLabel>,
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Wanted, ApiError> {
        filters.only(&["dangling", "driver", "label", "name"])?;
        Ok(Wanted {
            dangling: filters.flag("dangling")?,
            drivers: filters.of("driver").to_vec(),
            names: filters.of("name").to_vec(),
            labels: labels(filters, "label", false),
        })
    }

    fn wants(&self, volume: &VolumeView) -> bool {
        self.dangling.is_none_or(|dangling| dangling == volume.users.is_empty())
            && (self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == "local"))
            && (self.names.is_empty() || self.names.iter().any(|name| volume.name.contains(name)))
            && self.labels.iter().all(|label| label.holds(&volume.labels))
    }
}

fn labels(filters: &Filters, name: &str, absent: bool) -> Vec<VolumeLabel> {
    let label = |text: &String| match text.split_once('=') {
        Some((name, value)) => {
            VolumeLabel { name: name.to_owned(), value: Some(value.to_owned()), absent }
        }
        None => VolumeLabel { name: text.clone(), value: None, absent },
    };
    filters.of(name).iter().map(label).collect()
}

/// `GET /volumes/{}`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let volume = call.engine().volume_inspect(&call.name).await?;
    reply::json(&VolumeJson::of(&volume))
}

/// `POST /volumes/create`.
pub(crate) async fn create(mut call: Call) -> Answer {
    let create = request(&call.json_bytes().await?, None)?;
    let volume = call.engine().volume_create(create).await?;
    reply::json_with(StatusCode::CREATED, &VolumeJson::of(&volume))
}

/// Docker's `VolumeCreateOptions`.
///
/// # Errors
/// 400 for what makes no sense, 501 for a field that is not supported.
pub(crate) fn request(bytes: &[u8], asked: Option<&Asked>) -> Result<VolumeCreate, ApiError> {
    let mut body = Fields::read(bytes, asked)?;
    body.refuse("ClusterVolumeSpec", "cluster volumes belong to a swarm")?;
    let create = VolumeCreate {
        name: body.text("Name")?,
        driver: body.text("Driver")?,
        labels: body.take("Labels")?,
        options: body.take("DriverOpts")?,
    };
    body.done()?;
    Ok(create)
}

/// `POST /volumes/prune`.
pub(crate) async fn prune(call: &Call) -> Answer {
    let prune = conditions(&call.query.filters()?, call.version)?;
    let pruned = call.engine().volume_prune(prune).await?;
    reply::json(&json!({ "VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.bytes }))
}

fn conditions(filters: &Filters, version: Version) -> Result<VolumePrune, ApiError> {
    filters.only(&["all", "label", "label!"])?;
    let mut conditions = labels(filters, "label", false);
    conditions.extend(labels(filters, "label!", true));
    Ok(VolumePrune {
        all: filters.flag("all")?.unwrap_or(version < ANONYMOUS_SINCE),
        labels: conditions,
    })
}

/// `PUT /volumes/{}`: only cluster volumes change, which belong to a swarm.
pub(crate) fn update(call: &Call) -> Answer {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("volume {} is no cluster volume: this node is not a swarm manager", call.name),
    ))
}

/// `DELETE /volumes/{}`. By force, one that is not there is gone already.
pub(crate) async fn remove(call: &Call) -> Answer {
    match call.engine().volume_remove(&call.name).await {
        Ok(()) => reply::done(),
        Err(failure) if call.query.flag("force") && failure.kind() == base::ErrorKind::NotFound => {
            reply::done()
        }
        Err(failure) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base::{ContainerId, clock::Timestamp};

    use super::*;
    use crate::query::Query;

    fn filters(text: &str) -> Filters {
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("filters", text).finish();
        Query::parse(&query).filters().unwrap()
    }

    #[test]
    fn volumes_are_picked_by_what_they_are() {
        let mut volume = VolumeView {
            name: "web-data".to_owned(),
            created: Timestamp(0),
            labels: [("tier".to_owned(), "back".to_owned())].into(),
            options: BTreeMap::new(),
            anonymous: false,
            mountpoint: String::new(),
            users: Vec::new(),
        };
        let wants =
            |volume: &VolumeView, text: &str| Wanted::read(&filters(text)).unwrap().wants(volume);
        for (text, want) in [
            ("{}", true),
            (r#"{"dangling":["true"]}"#, true),
            (r#"{"dangling":["0"]}"#, false),
            (r#"{"name":["no","data"]}"#, true),
            (r#"{"name":["no"]}"#, false),
            (r#"{"driver":["nfs"]}"#, false),
            (r#"{"driver":["local"]}"#, true),
            (r#"{"label":["tier=back"]}"#, true),
            (r#"{"label":["tier","other"]}"#, false),
        ] {
            assert_eq!(wants(&volume, text), want, "{text}");
        }
        volume.users.push(ContainerId::from_random([1; 32]));
        assert!(!wants(&volume, r#"{"dangling":["1"]}"#));
        assert!(Wanted::read(&filters(r#"{"size":["1"]}"#)).is_err());
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused_by_its_name() {
        let read = |text: &str| request(text.as_bytes(), None);
        let text = r#"{"Name":"data","Driver":"","DriverOpts":{"type":"tmpfs"},"Labels":null,
            "ClusterVolumeSpec":null}"#;
        let create = read(text).unwrap();
        assert_eq!((create.name.as_deref(), create.driver), (Some("data"), None));
        assert_eq!(create.options["type"], "tmpfs");
        assert!(read(r#"{"Size":1}"#).unwrap_err().message.contains("Size"));
        let refused = read(r#"{"ClusterVolumeSpec":{"Group":"a"}}"#).unwrap_err();
        assert!(refused.message.contains("ClusterVolumeSpec"), "{refused}");
    }

    #[test]
    fn a_prune_takes_named_volumes_only_when_asked_or_for_old_clients() {
        let all = |text, version| conditions(&filters(text), version).unwrap().all;
        assert!(!all("{}", Version(1, 42)));
        assert!(all("{}", Version(1, 41)));
        assert!(all(r#"{"all":["1"]}"#, Version(1, 50)));
        let given = conditions(&filters(r#"{"label!":["keep"]}"#), Version(1, 50)).unwrap();
        assert!(given.labels[0].absent);
    }
}
