//! A network as a row of `network ls`.

use engine::NetworkInfo;
use serde::Serialize;

use crate::{output::format::Column, template::Value};

/// The columns of `network ls`.
pub(crate) const COLUMNS: [Column; 9] = [
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
];

/// The table of `network ls`.
pub(crate) const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

/// The fields that Docker's `network ls` has, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    created_at: String,
    driver: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "IPv4")]
    four: &'static str,
    #[serde(rename = "IPv6")]
    six: String,
    internal: String,
    labels: String,
    name: String,
    scope: &'static str,
}

/// The network as a row, its id cut or not.
pub(crate) fn row(network: &NetworkInfo, cut: bool) -> Value {
    let labels: Vec<String> =
        network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let short = network.id.get(..12).filter(|_| cut).unwrap_or(&network.id);
    let created = network.created.unwrap_or(base::clock::Timestamp(0));
    let mut row = Value::of(&Row {
        created_at: crate::time::table(created),
        driver: network.driver.clone(),
        id: short.to_owned(),
        four: "true",
        six: network.ipv6.to_string(),
        internal: network.internal.to_string(),
        labels: labels.join(","),
        name: network.name.clone(),
        scope: "local",
    });
    if let Value::Map(fields) = &mut row {
        let labels = network.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        fields.push(("Label".to_owned(), Value::Lookup(labels.collect())));
    }
    row
}
