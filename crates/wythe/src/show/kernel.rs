//! A kernel as a row of `kernel ls`.

use base::{Digest, chain, clock::Timestamp};
use kernels::{Entry, Source};
use serde::Serialize;

use super::short_id;
use crate::{
    output::{format::Column, human},
    template::Value,
    time,
};

/// The columns of `kernel ls`.
pub(crate) const COLUMNS: [Column; 10] = [
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Default", "DEFAULT"),
    ("Digest", "DIGEST"),
    ("Modules", "MODULES"),
    ("Name", "NAME"),
    ("Release", "RELEASE"),
    ("Size", "SIZE"),
    ("Source", "SOURCE"),
    ("State", "STATE"),
];

/// The table of `kernel ls`.
pub(crate) const TABLE: &str =
    "{{.Name}}\t{{.Source}}\t{{.Digest}}\t{{.CreatedSince}}\t{{.Size}}\t{{.State}}";

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    created_at: String,
    created_since: String,
    default: bool,
    digest: String,
    modules: usize,
    name: String,
    release: String,
    size: String,
    source: String,
    state: String,
}

/// What a kernel is called: a damaged one by its digest.
pub(crate) fn name(entry: &Entry) -> &str {
    match entry {
        Entry::Whole(kernel) => &kernel.manifest.name,
        Entry::Damaged { name, .. } => name,
    }
}

/// The kernel as a row; its digest is cut short unless `no_trunc`.
pub(crate) fn row(entry: &Entry, default: Option<Digest>, no_trunc: bool, now: Timestamp) -> Value {
    let cut = |hex: &str| match no_trunc {
        true => format!("sha256:{hex}"),
        false => short_id(hex).to_owned(),
    };
    let row = match entry {
        Entry::Whole(kernel) => {
            let manifest = &kernel.manifest;
            let created = Timestamp(manifest.created.saturating_mul(1_000_000_000));
            let default = default == Some(kernel.digest);
            Row {
                created_at: time::table(created),
                created_since: time::human(time::between(created, now)) + " ago",
                default,
                digest: cut(&kernel.digest.hex()),
                modules: manifest.modules.len(),
                name: manifest.name.clone(),
                release: manifest.release.clone(),
                size: human::size(kernel.bytes()),
                source: source(&manifest.source),
                state: if default { "default" } else { "" }.to_owned(),
            }
        }
        Entry::Damaged { name, damage } => Row {
            digest: cut(name),
            name: short_id(name).to_owned(),
            state: format!("damaged: {}", chain(damage)),
            ..Row::default()
        },
    };
    Value::of(&row)
}

/// Where a kernel is from, in words.
fn source(source: &Source) -> String {
    match source {
        Source::Debian { package, version, .. } => format!("{package} {version}"),
        Source::Built { from } => format!("built from {from}"),
        Source::Imported { file } => file.clone(),
    }
}

#[cfg(test)]
mod tests {
    use kernels::{Damage, Kernel, Manifest};

    use super::*;
    use crate::output::format::{Format, list};

    fn entries() -> [Entry; 2] {
        let text = include_str!("../../../kernels/tests/data/manifest.json");
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        let digest = Digest::from_sha256([0xab; 32]);
        let damage = Damage::Length { file: "vmlinuz".to_owned(), found: 1, wanted: 2 };
        [
            Entry::Whole(Kernel { digest, directory: "/k".into(), manifest }),
            Entry::Damaged { name: "0".repeat(64), damage },
        ]
    }

    #[test]
    fn kernels_are_shown_with_the_default_and_with_what_is_wrong() {
        let now = Timestamp((1_795_305_600 + 7200) * 1_000_000_000);
        let default = Some(Digest::from_sha256([0xab; 32]));
        let rows: Vec<Value> =
            entries().iter().map(|entry| row(entry, default, false, now)).collect();
        insta::assert_snapshot!(list(&Format::Table, TABLE, &COLUMNS, &rows).unwrap());
        insta::assert_snapshot!(list(&Format::Json, TABLE, &COLUMNS, &rows).unwrap());
    }
}
