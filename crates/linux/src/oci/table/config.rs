//! `[config.…]`: every property of `config.json`.
//!
//! `oci-runtime.json` beside the table has every property there is. Without the refused ones it is
//! carried out; with any of these it is refused by that one's name; without any supported one it
//! means something else; without any ignored one it means the same.

use std::{fs, path::Path};

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::{Entry, State, entries, fields, file};
use crate::oci::convert::{Converted, convert};

/// A document with every property of the specification.
fn everything() -> Value {
    let text = fs::read_to_string(file("docs/compat/oci-runtime.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// [`everything`] without what is refused.
fn accepted(entries: &[Entry]) -> Value {
    let mut config = everything();
    for entry in entries.iter().filter(|entry| entry.state == State::Refused) {
        remove(&mut config, &entry.name);
    }
    config
}

pub(super) fn converted(config: &Value) -> Result<Converted, String> {
    let spec: Spec = serde_json::from_value(config.clone()).map_err(|error| error.to_string())?;
    let id = "box".parse().unwrap();
    convert(&spec, &id, Path::new("/bundle")).map_err(|error| error.to_string())
}

/// Whether two configurations mean the same to the driver.
pub(super) fn same(one: &Converted, other: &Converted) -> bool {
    (&one.sandbox, &one.process, one.personality)
        == (&other.sandbox, &other.process, other.personality)
}

/// `linux.devices[].path` as `linux`, `devices`, `[]`, `path`.
fn segments(path: &str) -> Vec<String> {
    path.replace("[]", ".[]").split('.').map(str::to_owned).collect()
}

/// Whether a path of the table, which may have `*` for a name, means this path.
fn means(entry: &[String], path: &[String]) -> bool {
    let fits = |(want, is): (&String, &String)| want == is || want == "*" && is != "[]";
    entry.len() == path.len() && entry.iter().zip(path).all(fits)
}

/// Calls back with every value at a path. A callback that answers `true` has it removed.
fn visit(value: &mut Value, path: &[String], found: &mut dyn FnMut(&mut Value) -> bool) {
    let Some((first, rest)) = path.split_first() else { return };
    let mut one = |value: &mut Value| {
        if rest.is_empty() {
            return found(value);
        }
        visit(value, rest, found);
        false
    };
    if let Value::Array(items) = value
        && first == "[]"
    {
        items.retain_mut(|item| !one(item));
    } else if let Value::Object(members) = value {
        members.retain(|name, member| !((first == "*" || name == first) && one(member)));
    }
}

fn remove(config: &mut Value, path: &str) {
    visit(config, &segments(path), &mut |_| true);
}

fn count(config: &mut Value, path: &[String]) -> usize {
    let mut count = 0;
    visit(config, path, &mut |_| {
        count += 1;
        false
    });
    count
}

/// Puts back what is at a path of `from`.
fn restore(from: &Value, to: &mut Value, path: &[String]) {
    let [first, rest @ ..] = path else { return };
    match (from, to) {
        (Value::Array(from), Value::Array(to)) if first == "[]" => {
            from.iter().zip(to).for_each(|(from, to)| restore(from, to, rest));
        }
        (Value::Object(from), Value::Object(to)) => {
            for (name, value) in from.iter().filter(|(name, _)| first == "*" || *name == first) {
                if rest.is_empty() {
                    to.insert(name.clone(), value.clone());
                } else if let Some(to) = to.get_mut(name) {
                    restore(value, to, rest);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_property_of_the_specification_is_in_the_table() {
    let entries: Vec<_> = entries("config").into_iter().map(|e| (segments(&e.name), e)).collect();
    let mut everything = everything();
    let met = fields::of::<Spec>(&everything);
    assert!(met.fields.len() > 200, "{met:?}");
    let mut used = vec![false; entries.len()];
    for field in &met.fields {
        let path = segments(field);
        let whole = |(at, entry): &(Vec<String>, Entry)| {
            entry.state != State::Supported && path.len() > at.len() && means(at, &path[..at.len()])
        };
        let covered = entries.iter().any(whole);
        let own = entries.iter().position(|(at, _)| means(at, &path));
        assert!(covered || own.is_some(), "{field} is missing from the table");
        assert!(
            covered || count(&mut everything, &path) > 0,
            "{field} is missing from the document of all properties"
        );
        if let Some(at) = own {
            used[at] = true;
        }
    }
    let idle = entries.iter().zip(used).find(|(_, used)| !used);
    assert!(idle.is_none(), "the specification has no such property: {idle:?}");
}

#[test]
fn what_is_supported_is_carried_out() {
    let entries = entries("config");
    let accepted = accepted(&entries);
    let whole = converted(&accepted).unwrap();
    for entry in entries.iter().filter(|entry| entry.state == State::Supported) {
        let mut without = accepted.clone();
        remove(&mut without, &entry.name);
        assert_ne!(without, accepted, "{} is nowhere", entry.name);
        let unchanged = converted(&without).is_ok_and(|other| same(&whole, &other));
        assert_eq!(unchanged, entry.has("elsewhere"), "{}: without it", entry.name);
    }
}

#[test]
fn what_is_refused_is_refused_by_its_name() {
    let entries = entries("config");
    let (accepted, everything) = (accepted(&entries), everything());
    for entry in entries.iter().filter(|entry| entry.state == State::Refused) {
        let mut with = accepted.clone();
        restore(&everything, &mut with, &segments(&entry.name));
        let error = converted(&with).map(drop).expect_err(&entry.name);
        assert!(error.contains(&entry.name.replace("[]", "")), "{}: {error}", entry.name);
    }
}

#[test]
fn what_is_ignored_changes_nothing() {
    let entries = entries("config");
    let accepted = accepted(&entries);
    let whole = converted(&accepted).unwrap();
    for entry in entries.iter().filter(|entry| entry.state == State::Ignored) {
        let mut without = accepted.clone();
        remove(&mut without, &entry.name);
        assert_ne!(without, accepted, "{} is nowhere", entry.name);
        assert!(same(&whole, &converted(&without).unwrap()), "{}", entry.name);
    }
}

#[test]
fn every_value_of_every_enumeration_is_in_the_table() {
    let entries = entries("config");
    let accepted = accepted(&entries);
    for (path, variants) in fields::of::<Spec>(&accepted).variants {
        let at = segments(&path);
        let own = segments(path.trim_end_matches("[]"));
        let entry = entries.iter().find(|entry| means(&segments(&entry.name), &own));
        let entry = entry.unwrap_or_else(|| panic!("{path} is missing from the table"));
        let (good, bad, idle) =
            (entry.list("values"), entry.list("refused"), entry.list("ignored"));
        for variant in variants {
            let lists = [&good, &bad, &idle].map(|list| list.contains(&variant));
            assert_eq!(lists.iter().filter(|there| **there).count(), 1, "{path}: {variant}");
            let there = every(&accepted, &at).iter().any(|value| value == variant);
            if there && !bad.contains(&variant) {
                continue;
            }
            let mut config = accepted.clone();
            let mut first = true;
            visit(&mut config, &at, &mut |value| {
                if std::mem::take(&mut first) {
                    *value = variant.into();
                }
                false
            });
            match converted(&config) {
                Ok(_) => assert!(!bad.contains(&variant), "{path}: {variant} is not refused"),
                Err(error) => {
                    assert!(bad.contains(&variant), "{path}: {variant}: {error}");
                    let name = path.replace("[]", "");
                    assert!(error.contains(&name) && error.contains(variant), "{error}");
                }
            }
        }
    }
}

/// All values at a path.
fn every(config: &Value, path: &[String]) -> Vec<Value> {
    let mut values = Vec::new();
    visit(&mut config.clone(), path, &mut |value| {
        values.push(value.clone());
        false
    });
    values
}
