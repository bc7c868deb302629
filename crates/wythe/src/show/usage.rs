//! What takes room on the disk, as `system df` shows it.
//!
//! Source: docker/cli, `cli/command/formatter/disk_usage.go` (behaviour).

use base::clock::Timestamp;
use engine::{ContainerState, DiskUsage, ImageView, Summary, VolumeUsage};
use serde::Serialize;

use super::{image, row};
use crate::{
    output::{format::Column, human},
    template::Value,
};

/// The columns of `system df`.
pub(crate) const COLUMNS: [Column; 5] = [
    ("Active", "ACTIVE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Size", "SIZE"),
    ("TotalCount", "TOTAL"),
    ("Type", "TYPE"),
];

/// The table of `system df`.
pub(crate) const TABLE: &str =
    "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const ARCHIVES: &str = "{{.TotalCount}}\t{{.Size}}\t{{.Reclaimable}}";

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Everything {
    pub(crate) images: Vec<ImageView>,
    pub(crate) containers: Vec<Summary>,
    pub(crate) usage: DiskUsage,
    pub(crate) volumes: Vec<VolumeUsage>,
}

/// A table of `system df -v`.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) heading: &'static str,
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    active: String,
    reclaimable: String,
    size: String,
    total_count: String,
    r#type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeRow {
    links: String,
    name: String,
    size: String,
}

/// Docker's object of `system df -v --format`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Details {
    images: Vec<Value>,
    image_archives: Value,
    containers: Vec<Value>,
    volumes: Vec<Value>,
    build_cache: Vec<Value>,
}

impl Everything {
    /// A row for each kind of thing.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let used = self.images.iter().filter(|image| image.containers > 0).count();
        let running = self.containers.iter().filter(|c| runs(c)).count();
        let (written, idle) = self.written();
        let held = self.volumes.iter().filter(|volume| volume.users > 0).count();
        let kept = self.volumes.iter().map(|volume| volume.bytes).sum();
        let unused = self.volumes.iter().filter(|v| v.users == 0).map(|v| v.bytes).sum();
        let layers = &self.usage.images.layers;
        let row = |kind, total: usize, active: usize, size, reclaimable| {
            Value::of(&Row {
                active: active.to_string(),
                reclaimable: part(reclaimable, size),
                size: human::total(size),
                total_count: total.to_string(),
                r#type: kind,
            })
        };
        vec![
            row("Images", self.images.len(), used, layers.bytes, layers.reclaimable),
            self.archives(),
            row("Containers", self.containers.len(), running, written, idle),
            row("Local Volumes", self.volumes.len(), held, kept, unused),
            row("Build Cache", 0, 0, 0, 0),
        ]
    }

    /// What images came as: kept beside the layers, which nothing else shows.
    fn archives(&self) -> Value {
        let archives = &self.usage.images.archives;
        Value::of(&Row {
            active: archives.files.to_string(),
            reclaimable: part(archives.reclaimable, archives.bytes),
            size: human::total(archives.bytes),
            total_count: archives.files.to_string(),
            r#type: "Image Archives",
        })
    }

    /// The tables of `system df -v`.
    pub(crate) fn sections(&self, now: Timestamp) -> Vec<Section> {
        vec![
            Section {
                heading: "Images space usage:",
                table: IMAGES,
                columns: &image::COLUMNS,
                rows: self.image_rows(now),
            },
            Section {
                heading: "Image archives space usage (manifests and layers as they came):",
                table: ARCHIVES,
                columns: &COLUMNS,
                rows: vec![self.archives()],
            },
            Section {
                heading: "Containers space usage:",
                table: CONTAINERS,
                columns: &row::COLUMNS,
                rows: self.container_rows(now),
            },
            Section {
                heading: "Local Volumes space usage:",
                table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
                columns: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
                rows: self.volume_rows(),
            },
            Section {
                heading: "Build cache usage: 0B",
                table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}",
                columns: &[("ID", "CACHE ID"), ("CacheType", "CACHE TYPE"), ("Size", "SIZE")],
                rows: Vec::new(),
            },
        ]
    }

    /// The same as one value.
    pub(crate) fn details(&self, now: Timestamp) -> Value {
        Value::of(&Details {
            images: self.image_rows(now),
            image_archives: self.archives(),
            containers: self.container_rows(now),
            volumes: self.volume_rows(),
            build_cache: Vec::new(),
        })
    }

    fn image_rows(&self, now: Timestamp) -> Vec<Value> {
        let rows = |view: &ImageView| {
            let size = self.usage.images.images.iter().find(|size| size.id == view.id);
            image::rows(view, size, false, now)
        };
        self.images.iter().flat_map(rows).collect()
    }

    fn container_rows(&self, now: Timestamp) -> Vec<Value> {
        let row = |container: &Summary| {
            // The image has rows of its own.
            let size = self.usage.containers.iter().find(|size| size.id == container.id);
            let size = size.map(|size| engine::ContainerSize { root: 0, ..size.clone() });
            row::row(container, size.as_ref(), false, now)
        };
        self.containers.iter().map(row).collect()
    }

    fn volume_rows(&self) -> Vec<Value> {
        let row = |volume: &VolumeUsage| {
            Value::of(&VolumeRow {
                links: volume.users.to_string(),
                name: volume.name.clone(),
                size: human::size(volume.bytes),
            })
        };
        self.volumes.iter().map(row).collect()
    }

    /// Bytes that containers wrote: all, and those of containers that do not run.
    fn written(&self) -> (u64, u64) {
        let (mut all, mut idle) = (0, 0);
        for size in &self.usage.containers {
            all += size.written;
            let container = self.containers.iter().find(|container| container.id == size.id);
            if !container.is_some_and(runs) {
                idle += size.written;
            }
        }
        (all, idle)
    }
}

fn runs(container: &Summary) -> bool {
    match container.state.state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => true,
        ContainerState::Created
        | ContainerState::Exited
        | ContainerState::Removing
        | ContainerState::Dead => false,
    }
}

/// Bytes, and how much of the whole that is.
fn part(bytes: u64, whole: u64) -> String {
    match (u128::from(bytes) * 100).checked_div(u128::from(whole)) {
        Some(percent) => format!("{} ({percent}%)", human::total(bytes)),
        None => human::total(bytes),
    }
}

#[cfg(test)]
mod tests {
    use engine::{ContainerSize, ImageUsage, Space};

    use super::*;
    use crate::{
        output::format::{Format, list},
        show::fixture,
    };

    #[test]
    fn a_row_for_each_kind_tells_what_could_be_free() {
        let container = fixture::summary();
        let id = container.id.clone();
        let all = Everything {
            images: Vec::new(),
            containers: vec![container],
            usage: DiskUsage {
                images: ImageUsage {
                    images: Vec::new(),
                    layers: Space { files: 3, bytes: 16_430_000, reclaimable: 11_630_000 },
                    archives: Space { files: 9, bytes: 5_000_000, reclaimable: 0 },
                },
                containers: vec![ContainerSize { id, written: 212, root: 212 }],
            },
            volumes: vec![
                VolumeUsage { name: "a".to_owned(), bytes: 36, users: 1 },
                VolumeUsage { name: "b".to_owned(), bytes: 12, users: 0 },
            ],
        };
        insta::assert_snapshot!(list(&Format::Table, TABLE, &COLUMNS, &all.rows()).unwrap(), @r"
        TYPE             TOTAL     ACTIVE    SIZE      RECLAIMABLE
        Images           0         0         16.43MB   11.63MB (70%)
        Image Archives   9         9         5MB       0B (0%)
        Containers       1         1         212B      0B (0%)
        Local Volumes    2         1         48B       12B (25%)
        Build Cache      0         0         0B        0B
        ");
    }
}
