//! The table of what of Docker's API is carried out, `docs/compat/docker-api.toml`, proved: every
//! endpoint of the sections that are written is in it, every field that a request to create is
//! read for is in it, and what it says of each is so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use engine::Create;
use serde_json::{Value, json};

use crate::{containers, error::ApiError, fields::Asked, networks, route};

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    kind: String,
    pub(crate) name: String,
    pub(crate) keys: BTreeMap<String, String>,
}

impl Entry {
    pub(crate) fn state(&self) -> &str {
        let state = &self.keys["state"];
        assert!(["supported", "refused", "ignored"].contains(&state.as_str()), "{self:?}");
        assert!(state == "supported" || self.keys.contains_key("why"), "{self:?}: why?");
        state
    }
}

/// The part of TOML that the table is written in: `[kind."name"]`, and one string a line.
pub(crate) fn entries(kind: &str) -> Vec<Entry> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/compat/docker-api.toml");
    let text = fs::read_to_string(path).unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (kind, name) = header.split_once('.').expect(line);
            let name = serde_json::from_str(name).expect(line);
            assert!(entries.iter().all(|e| e.name != name || e.kind != kind), "twice: {line}");
            entries.push(Entry { kind: kind.to_owned(), name, keys: BTreeMap::new() });
            continue;
        }
        let (key, value) = line.split_once(" = ").expect(line);
        let value = match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
            Some(literal) => literal.to_owned(),
            None => serde_json::from_str(value).expect(line),
        };
        let entry = entries.last_mut().expect(line);
        assert!(entry.keys.insert(key.to_owned(), value).is_none(), "twice: {line}");
    }
    entries.retain(|entry| entry.kind == kind);
    assert!(!entries.is_empty(), "there is no [{kind}.…]");
    entries
}

#[test]
fn every_endpoint_is_in_the_table_and_every_entry_is_one() {
    let listed: BTreeSet<String> = entries("endpoint").iter().map(|e| e.name.clone()).collect();
    let routed: BTreeSet<String> = route::all().map(|(of, path)| format!("{of} {path}")).collect();
    let unknown: Vec<_> = listed.difference(&routed).collect();
    assert!(unknown.is_empty(), "no such endpoints: {unknown:?}");
    let missing: Vec<_> = routed.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    entries("endpoint").iter().for_each(|entry| drop(entry.state().to_owned()));
}

/// A request that is read for every field there is: one item in every list.
fn everything() -> Value {
    let endpoint = json!({ "bridge": {} });
    let mount =
        |kind: &str, source: &str| json!({ "Type": kind, "Source": source, "Target": "/t" });
    let disk = json!([{ "Path": "/dev/null", "Rate": 1 }]);
    let mut host = json!({
        "Devices": [{ "PathOnHost": "/dev/null" }], "Ulimits": [{}],
        "PortBindings": { "80": [{}] },
        "Mounts": [mount("bind", "/a"), mount("volume", "a"), mount("tmpfs", "")],
    });
    for name in ["ReadBps", "WriteBps", "ReadIOps", "WriteIOps"] {
        host[format!("BlkioDevice{name}")] = disk.clone();
    }
    host["BlkioWeightDevice"] = json!([{ "Path": "/dev/null", "Weight": 10 }]);
    json!({ "Image": "demo", "HostConfig": host,
        "NetworkingConfig": { "EndpointsConfig": endpoint } })
}

fn read(body: &Value, asked: Option<&Asked>) -> Result<Create, String> {
    // No host has the same disks: any device is one here.
    let read = containers::read_create(body.to_string().as_bytes(), asked);
    read.map_err(|error| {
        assert!([400, 501].contains(&error.status.as_u16()), "{}", error.message);
        error.message
    })
}

#[test]
fn every_field_that_is_read_is_in_the_table() {
    // Each disk ends the reading where it is none, so they are asked for one by one.
    let asked = Asked::default();
    let mut body = everything();
    let disks: Vec<String> = body["HostConfig"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| key.starts_with("Blkio"))
        .cloned()
        .collect();
    for disk in &disks {
        let only = json!({ "Image": "demo", "HostConfig": { disk: body["HostConfig"][disk] } });
        assert!(read(&only, Some(&asked)).is_err());
    }
    for disk in &disks {
        body["HostConfig"].as_object_mut().unwrap().remove(disk);
    }
    read(&body, Some(&asked)).unwrap();
    let asked: BTreeSet<String> = asked.into_inner().into_iter().collect();
    let listed: BTreeSet<String> = entries("field").iter().map(|e| e.name.clone()).collect();
    let missing: Vec<_> = asked.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&asked).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

/// Reads a body of another kind; what came of it as text.
type Reader = fn(&[u8], Option<&Asked>) -> Result<String, ApiError>;

/// Bodies that are about networks: what their fields are called in the table, and who reads them.
const OF_NETWORKS: [(&str, Reader); 3] = [
    ("network-create-field", |body, asked| Ok(format!("{:?}", networks::request(body, asked)?))),
    ("network-connect-field", |body, asked| Ok(format!("{:?}", networks::joining(body, asked)?))),
    ("network-disconnect-field", |body, asked| networks::leaving(body, asked)),
];

#[test]
fn every_field_of_a_network_that_is_read_is_in_the_table() {
    let everything = json!({ "IPAM": { "Config": [{}] } });
    for (kind, reader) in OF_NETWORKS {
        let asked = Asked::default();
        let body = if kind == "network-create-field" { everything.clone() } else { json!({}) };
        reader(body.to_string().as_bytes(), Some(&asked)).unwrap();
        let asked: BTreeSet<String> = asked.into_inner().into_iter().collect();
        let listed: BTreeSet<String> = entries(kind).into_iter().map(|e| e.name).collect();
        assert_eq!(listed, asked, "{kind}");
        let error = reader(br#"{"Nonsense":1}"#, None).unwrap_err();
        assert!(error.message.contains("Nonsense"), "{kind}: {}", error.message);
    }
}

#[test]
fn what_the_table_says_of_each_field_of_a_network_is_so() {
    for (kind, reader) in OF_NETWORKS {
        for entry in entries(kind) {
            let body: Value = serde_json::from_str(&entry.keys["body"]).expect(&entry.name);
            let read = |body: &Value| {
                let read = reader(body.to_string().as_bytes(), None);
                read.map_err(|error| error.message)
            };
            said_is_so(&entry, read(&body), read(&without(&body, &entry.name)));
        }
    }
}

/// Takes a field out of a request.
fn without(body: &Value, path: &str) -> Value {
    let mut body = body.clone();
    let mut at = &mut body;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        at = &mut at[part.trim_end_matches("[]")];
        if part.ends_with("[]") {
            if let Value::Object(map) = at {
                at = map.values_mut().next().unwrap();
            }
            if let Value::Array(list) = at {
                at = &mut list[0];
            }
        }
    }
    at.as_object_mut().unwrap().remove(last).unwrap_or_else(|| panic!("{path} is not in it"));
    body
}

#[test]
fn what_the_table_says_of_each_field_is_so() {
    for entry in entries("field") {
        let mut body: Value = serde_json::from_str(&entry.keys["body"]).expect(&entry.name);
        if body.get("Image").is_none() {
            body["Image"] = "demo".into();
        }
        let (with, less) = (read(&body, None), read(&without(&body, &entry.name), None));
        match entry.state() {
            // It is looked up, and refused for being none: no host has the same disks.
            "supported" if entry.name.contains("Blkio") && entry.name.contains("Device") => {
                let error = with.unwrap_err();
                assert!(error.contains("not a block device"), "{}: {error}", entry.name);
            }
            _ => said_is_so(&entry, with, less),
        }
    }
}

/// Whether what came of a request, with a field and without, is what the table says of it.
fn said_is_so<T: PartialEq + std::fmt::Debug>(
    entry: &Entry,
    with: Result<T, String>,
    less: Result<T, String>,
) {
    let last = entry.name.rsplit('.').next().unwrap();
    match entry.state() {
        "supported" => {
            let with = with.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert!(less.is_err() || less.is_ok_and(|less| less != with), "{}", entry.name);
        }
        "ignored" => assert_eq!(with.unwrap(), less.unwrap(), "{}", entry.name),
        _ => {
            let error = with.unwrap_err();
            assert!(error.contains(last), "{}: {error}", entry.name);
            less.unwrap();
        }
    }
}
