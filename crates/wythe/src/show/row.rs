//! A container as a row of `ps`.

use base::clock::Timestamp;
use engine::{ContainerSize, MountKind, Summary};
use serde::Serialize;

use super::{ports, status};
use crate::{
    output::{format::Column, human},
    template::Value,
    time,
};

/// The columns of `ps`.
pub(crate) const COLUMNS: [Column; 14] = [
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

/// The table of `ps`.
pub(crate) const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// The table of `ps --size`.
pub(crate) const TABLE_WITH_SIZE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

/// The fields that Docker's `ps` has, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    command: String,
    created_at: String,
    #[serde(rename = "ID")]
    id: String,
    image: String,
    labels: String,
    local_volumes: String,
    mounts: String,
    names: String,
    networks: String,
    ports: String,
    running_for: String,
    size: String,
    state: &'static str,
    status: String,
}

/// The container as a row; cut short unless `no_trunc`.
pub(crate) fn row(
    container: &Summary,
    size: Option<&ContainerSize>,
    no_trunc: bool,
    now: Timestamp,
) -> Value {
    /// Longest command and mount that a table shows.
    const CHARS_MAX: usize = 20;
    let cut = |text: &str| if no_trunc { text.to_owned() } else { ellipsis(text, CHARS_MAX) };
    let labels: Vec<String> =
        container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => Some(cut(&source.display().to_string())),
            MountKind::Volume(volume) => Some(cut(&volume.name)),
            MountKind::Tmpfs { .. } => None,
        })
        .collect();
    let is_volume = |mount: &&engine::MountRequest| matches!(mount.kind, MountKind::Volume(_));
    let volumes = container.mounts.iter().filter(is_volume).count();
    let row = Row {
        command: format!("{:?}", cut(&container.command.join(" "))),
        created_at: time::table(container.created),
        id: if no_trunc { container.id.as_str() } else { container.id.short() }.to_owned(),
        image: super::familiar(&container.image).to_owned(),
        labels: labels.join(","),
        local_volumes: volumes.to_string(),
        mounts: mounts.join(","),
        names: container.name.as_str().to_owned(),
        networks: super::host_config::network_name(&container.network),
        ports: ports::column(&container.expose, &container.ports),
        running_for: time::human(time::between(container.created, now)) + " ago",
        size: size.map_or_else(|| "0B".to_owned(), size_column),
        state: status::word(container.state.state),
        status: status::sentence(&container.state, now),
    };
    let mut row = Value::of(&row);
    if let Value::Map(fields) = &mut row {
        let labels = container.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        fields.push(("Label".to_owned(), Value::Lookup(labels.collect())));
    }
    row
}

/// What it wrote, and that with its image.
fn size_column(size: &ContainerSize) -> String {
    let written = human::size(size.written);
    if size.root == 0 {
        return written;
    }
    format!("{written} (virtual {})", human::size(size.root))
}

fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::format::{Format, list},
        show::fixture,
    };

    #[test]
    fn a_container_is_a_row_as_docker_shows_it() {
        let rows = [row(&fixture::summary(), None, false, fixture::NOW)];
        insta::assert_snapshot!(list(&Format::Table, TABLE, &COLUMNS, &rows).unwrap(), @r#"
        CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                          NAMES
        c0c0c0c0c0c0   web:1     "/bin/server --port …"   2 minutes ago   Up 5 seconds   53/udp, 0.0.0.0:8080->80/tcp   web
        "#);
        let wanted =
            Format::parse(Some("{{.Label \"tier\"}} {{.Networks}} {{.Mounts}} {{.State}}"));
        assert_eq!(
            list(&wanted, TABLE, &COLUMNS, &rows).unwrap(),
            "front bridge /srv/a-rather-long-… running\n"
        );
    }

    #[test]
    fn sizes_are_shown_beside_their_images() {
        let container = fixture::summary();
        let id = container.id.clone();
        let size = ContainerSize { id, written: 13_256, root: 117_000_000 };
        let rows = [row(&container, Some(&size), false, fixture::NOW)];
        let wanted = Format::parse(Some("{{.Size}}"));
        let shown = list(&wanted, TABLE_WITH_SIZE, &COLUMNS, &rows).unwrap();
        assert_eq!(shown, "13.3kB (virtual 117MB)\n");
    }

    #[test]
    fn json_has_dockers_fields() {
        let rows = [row(&fixture::summary(), None, true, fixture::NOW)];
        insta::assert_snapshot!(list(&Format::Json, TABLE, &COLUMNS, &rows).unwrap());
    }
}
