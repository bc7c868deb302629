//! A volume as `volume inspect` shows it.

use std::collections::BTreeMap;

use engine::{VolumeUsage, VolumeView};
use serde::Serialize;

use crate::time;

/// Docker's `Volume`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeJson {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    ref_count: u64,
    size: u64,
}

impl VolumeJson {
    /// The volume in Docker's words.
    pub fn of(volume: &VolumeView) -> VolumeJson {
        let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
        VolumeJson {
            created_at: time::rfc3339(Some(volume.created)),
            driver: "local",
            labels: some(&volume.labels),
            mountpoint: volume.mountpoint.clone(),
            name: volume.name.clone(),
            options: some(&volume.options),
            scope: "local",
            usage_data: None,
        }
    }

    /// The same with what it takes of the disk, if that was measured.
    pub fn with_usage(self, usage: Option<&VolumeUsage>) -> VolumeJson {
        let usage_data = usage.map(|usage| UsageData { ref_count: usage.users, size: usage.bytes });
        VolumeJson { usage_data, ..self }
    }
}

#[cfg(test)]
mod tests {
    use base::clock::Timestamp;

    use super::*;

    #[test]
    fn what_is_empty_is_null() {
        let volume = VolumeView {
            name: "db".to_owned(),
            created: Timestamp(1_700_000_000_000_000_000),
            labels: [("tier".to_owned(), "back".to_owned())].into(),
            options: BTreeMap::new(),
            anonymous: false,
            mountpoint: "/data/volumes/db/_data".to_owned(),
            users: Vec::new(),
        };
        let shape = serde_json::to_string(&VolumeJson::of(&volume)).unwrap();
        assert!(shape.contains("\"Labels\":{\"tier\":\"back\"}"), "{shape}");
        assert!(shape.contains("\"Options\":null,\"Scope\":\"local\""), "{shape}");
    }
}
