//! An image as a row of `images`.

use base::clock::Timestamp;
use engine::{ImageSize, ImageView};
use serde::Serialize;

use super::short_id;
use crate::{
    output::{format::Column, human, table},
    template::Value,
    time,
};
use docker::shape::image::{familiar, split};

/// The columns of `images`.
pub(crate) const COLUMNS: [Column; 11] = [
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
];

/// The table of `images`.
pub(crate) const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// The table of `images --digests`.
pub(crate) const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// The fields that Docker's `images` has, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    containers: String,
    created_at: String,
    created_since: String,
    digest: String,
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    shared_size: String,
    size: String,
    tag: String,
    unique_size: String,
    virtual_size: String,
}

/// A row for each reference of the image, or one for an image without any.
pub(crate) fn rows(
    image: &ImageView,
    size: Option<&ImageSize>,
    no_trunc: bool,
    now: Timestamp,
) -> Vec<Value> {
    let counted = |bytes: Option<u64>| bytes.map_or_else(|| "N/A".to_owned(), human::size);
    let created = image.created.as_deref().and_then(time::from_rfc3339);
    let row = |repository: &str, tag: &str| {
        Value::of(&Row {
            containers: image.containers.to_string(),
            created_at: created.map_or_else(|| "N/A".to_owned(), time::table),
            created_since: match created {
                Some(at) => time::human(time::between(at, now)) + " ago",
                None => "N/A".to_owned(),
            },
            digest: image.manifest.clone(),
            id: if no_trunc { image.id.clone() } else { short_id(&image.id).to_owned() },
            repository: repository.to_owned(),
            shared_size: counted(size.map(|size| size.shared)),
            size: human::size(image.size),
            tag: tag.to_owned(),
            unique_size: counted(size.map(|size| size.unique)),
            virtual_size: human::size(image.size),
        })
    };
    if image.references.is_empty() {
        return vec![row("<none>", "<none>")];
    }
    let reference = |reference: &String| {
        let (repository, tag) = split(reference);
        row(repository, tag)
    };
    image.references.iter().map(reference).collect()
}

/// The table of `images --tree`: each image with what there is of it, by platform.
pub(crate) fn tree(images: &[ImageView]) -> String {
    let mut text = "IMAGE\tID\tSIZE\tCONTAINERS\n".to_owned();
    for image in images {
        let names = image.references.iter().map(|name| familiar(name));
        let names: Vec<_> = if names.len() == 0 { vec!["<untagged>"] } else { names.collect() };
        let (id, size) = (short_id(&image.id), human::size(image.size));
        for name in names {
            text += &format!("{name}\t{id}\t{size}\t{}\n", image.containers);
        }
        let last = image.variants.len().saturating_sub(1);
        for (number, variant) in image.variants.iter().enumerate() {
            let branch = if number == last { "└─" } else { "├─" };
            let (id, size) = (short_id(&variant.id), human::size(variant.size));
            text += &format!("{branch} {}\t{id}\t{size}\t\n", variant.platform);
        }
    }
    table::align(&text).lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use docker::fixture::{NOW, image};

    use super::*;
    use crate::output::format::{Format, list};

    #[test]
    fn an_image_has_a_row_for_each_reference() {
        let none = ImageView { references: Vec::new(), created: None, ..image() };
        let all: Vec<Value> =
            [image(), none].iter().flat_map(|i| rows(i, None, false, NOW)).collect();
        insta::assert_snapshot!(list(&Format::Table, TABLE, &COLUMNS, &all).unwrap(), @r"
        REPOSITORY           TAG        IMAGE ID       CREATED       SIZE
        debian               bookworm   abababababab   4 weeks ago   117MB
        localhost:5000/a/b   1          abababababab   4 weeks ago   117MB
        <none>               <none>     abababababab   N/A           117MB
        ");
    }

    #[test]
    fn a_tree_shows_what_there_is_for_each_platform() {
        let variant = |platform: &str, byte: &str, size| engine::ImageVariant {
            platform: platform.to_owned(),
            id: format!("sha256:{}", byte.repeat(32)),
            manifest: String::new(),
            media_type: String::new(),
            manifest_bytes: 0,
            size,
            blob_bytes: 0,
        };
        let variants =
            vec![variant("linux/amd64", "ab", 116_953_321), variant("linux/arm64", "ac", 12_000)];
        insta::assert_snapshot!(tree(&[ImageView { variants, ..image() }]), @r"
        IMAGE                  ID             SIZE      CONTAINERS
        debian:bookworm        abababababab   117MB     1
        localhost:5000/a/b:1   abababababab   117MB     1
        ├─ linux/amd64         abababababab   117MB
        └─ linux/arm64         acacacacacac   12kB
        ");
    }
}
