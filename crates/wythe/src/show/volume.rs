//! A volume as a row of `volume ls`.

use engine::{SnapshotView, VolumeView};
use serde::Serialize;

use crate::{output::format::Column, template::Value, time};

/// The columns of `volume ls`.
pub(crate) const COLUMNS: [Column; 10] = [
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

/// The table of `volume ls`.
pub(crate) const TABLE: &str = "{{.Driver}}\t{{.Name}}";

/// The columns of `volume snapshots`.
pub(crate) const SNAPSHOT_COLUMNS: [Column; 3] =
    [("Created", "CREATED"), ("Name", "SNAPSHOT"), ("Storage", "STORAGE")];

/// The table of `volume snapshots`.
pub(crate) const SNAPSHOT_TABLE: &str = "{{.Name}}\t{{.Created}}\t{{.Storage}}";

/// The fields that Docker's `volume ls` has, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    availability: &'static str,
    driver: &'static str,
    group: &'static str,
    labels: String,
    links: &'static str,
    mountpoint: String,
    name: String,
    scope: &'static str,
    size: &'static str,
    status: &'static str,
}

/// The volume as a row. As in Docker, sizes are for `system df -v`.
pub(crate) fn row(volume: &VolumeView) -> Value {
    let labels: Vec<String> =
        volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut row = Value::of(&Row {
        availability: "N/A",
        driver: "local",
        group: "N/A",
        labels: labels.join(","),
        links: "N/A",
        mountpoint: volume.mountpoint.clone(),
        name: volume.name.clone(),
        scope: "local",
        size: "N/A",
        status: "N/A",
    });
    if let Value::Map(fields) = &mut row {
        let labels = volume.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        fields.push(("Label".to_owned(), Value::Lookup(labels.collect())));
    }
    row
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SnapshotRow {
    created: String,
    name: String,
    storage: &'static str,
}

/// A snapshot as a row.
pub(crate) fn snapshot_row(snapshot: &SnapshotView) -> Value {
    Value::of(&SnapshotRow {
        created: time::table(snapshot.created),
        name: snapshot.name.clone(),
        storage: if snapshot.shared { "shared" } else { "copied" },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base::clock::Timestamp;

    use super::*;
    use crate::output::format::{Format, list};

    fn volume() -> VolumeView {
        VolumeView {
            name: "db".to_owned(),
            created: Timestamp(1_700_000_000_000_000_000),
            labels: [("tier".to_owned(), "back".to_owned())].into(),
            options: BTreeMap::new(),
            anonymous: false,
            mountpoint: "/data/volumes/db/_data".to_owned(),
            users: Vec::new(),
        }
    }

    #[test]
    fn a_volume_is_shown_as_docker_shows_it() {
        let rows = [row(&volume())];
        assert_eq!(
            list(&Format::Table, TABLE, &COLUMNS, &rows).unwrap(),
            "DRIVER    VOLUME NAME\nlocal     db\n"
        );
        let json = list(&Format::Json, TABLE, &COLUMNS, &rows).unwrap();
        let want = "{\"Availability\":\"N/A\",\"Driver\":\"local\",\"Group\":\"N/A\",\
                    \"Labels\":\"tier=back\",\"Links\":\"N/A\",\
                    \"Mountpoint\":\"/data/volumes/db/_data\",\"Name\":\"db\",\
                    \"Scope\":\"local\",\"Size\":\"N/A\",\"Status\":\"N/A\"}\n";
        assert_eq!(json, want);
    }
}
