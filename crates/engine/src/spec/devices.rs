//! Which devices a container may use.

use workload::{DeviceKind, DeviceRule, profile};

use super::Facts;
use crate::{Create, EngineError, plan::invalid};

/// The allow-list: the default, the devices that were handed in, the rules that were asked for.
/// `None`, everything, for the privileged.
pub(super) fn rules(
    config: &Create,
    facts: &Facts,
) -> Result<Option<Vec<DeviceRule>>, EngineError> {
    if config.security.privileged {
        return Ok(None);
    }
    let mut rules = profile::device_rules();
    for (node, permissions) in &facts.devices {
        if node.kind != DeviceKind::Fifo {
            rules.push(DeviceRule {
                allow: true,
                kind: Some(node.kind),
                major: Some(node.major),
                minor: Some(node.minor),
                read: permissions.contains('r'),
                write: permissions.contains('w'),
                mknod: permissions.contains('m'),
            });
        }
    }
    for rule in &config.device_rules {
        rules.push(parse_device_rule(rule)?);
    }
    Ok(Some(rules))
}

/// Reads a line such as `c 1:3 rwm` or `a *:* rw`.
///
/// Source: docker/cli, `--device-cgroup-rule`.
///
/// # Errors
/// [`EngineError::Invalid`] if it is none.
pub(crate) fn parse_device_rule(text: &str) -> Result<DeviceRule, EngineError> {
    let parse = || {
        let mut words = text.split_ascii_whitespace();
        let kind = match words.next()? {
            "a" => None,
            "b" => Some(DeviceKind::Block),
            "c" => Some(DeviceKind::Character),
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let permissions = words.next()?;
        let letters = permissions.bytes().all(|b| b"rwm".contains(&b)) && permissions.len() <= 3;
        if words.next().is_some() || !letters {
            return None;
        }
        Some(DeviceRule {
            allow: true,
            kind,
            major: number(major)?,
            minor: number(minor)?,
            read: permissions.contains('r'),
            write: permissions.contains('w'),
            mknod: permissions.contains('m'),
        })
    };
    parse().ok_or_else(|| {
        invalid("device cgroup rule", format!("invalid device cgroup format '{text}'"))
    })
}

/// A number, or `*` for all.
fn number(text: &str) -> Option<Option<u32>> {
    if text == "*" { Some(None) } else { text.parse().ok().map(Some) }
}
