//! What a request for a network on a link of the host means. Pure; options and texts are Docker's.

use std::collections::BTreeMap;

use base::ErrorKind;
use net::{Macvlan, MacvlanMode};

use super::design::{invalid, refused};
use crate::EngineError;

/// What its options say. Docker passes over options that it does not know here, and so do we.
///
/// Source: moby, `drivers/macvlan`.
pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Macvlan, EngineError> {
    let given = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mode = match given("macvlan_mode") {
        None => MacvlanMode::default(),
        Some(text) => {
            text.parse().map_err(|error: net::MacvlanModeError| invalid(error.to_string()))?
        }
    };
    let parent = match given("parent") {
        Some("lo") => {
            return Err(invalid("loopback interface is not a valid macvlan parent link"));
        }
        Some(text) => {
            let wrong = |error: net::InterfaceNameError| invalid(format!("parent: {error}"));
            Some(text.parse().map_err(wrong)?)
        }
        None => None,
    };
    Ok(Macvlan { parent, mode })
}

/// The options that mean the same to every driver.
pub(super) fn of_all_drivers(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mtu = options.get_key_value("com.docker.network.driver.mtu");
    mtu.map(|(name, value)| (name.clone(), value.clone())).into_iter().collect()
}

/// Refuses a parent that is somebody's alone, or shall be and is not.
pub(super) fn check(wanted: &Macvlan, others: &[(String, Macvlan)]) -> Result<(), EngineError> {
    let Some(parent) = &wanted.parent else { return Ok(()) };
    let alone = |one: &Macvlan| one.mode == MacvlanMode::Passthru;
    let mut others = others.iter().filter(|(_, other)| other.parent == wanted.parent);
    let Some((name, _)) = others.find(|(_, other)| alone(wanted) || alone(other)) else {
        return Ok(());
    };
    let text = match alone(wanted) {
        true => format!(
            "cannot use mode passthru, macvlan network {name} is already using parent interface {parent}"
        ),
        false => format!(
            "macvlan network {name} is already using parent interface {parent} in mode passthru"
        ),
    };
    Err(refused(ErrorKind::Conflict, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<Macvlan, EngineError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        read(&options.iter().map(own).collect())
    }

    #[test]
    fn options_say_parent_and_mode() {
        let plain = of(&[]).unwrap();
        assert_eq!(plain, Macvlan { parent: None, mode: MacvlanMode::Bridge });
        let all = of(&[("parent", "eth0.50"), ("macvlan_mode", "vepa"), ("other", "x")]).unwrap();
        assert_eq!(all.parent, Some("eth0.50".parse().unwrap()));
        assert_eq!(all.mode, MacvlanMode::Vepa);
        for (bad, says) in [
            (("parent", "lo"), "loopback interface is not a valid macvlan parent link"),
            (("parent", "a/b"), "a/b"),
            (("macvlan_mode", "l2"), "requested macvlan mode 'l2' is not valid"),
        ] {
            let error = of(&[bad]).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(says));
        }
    }

    #[test]
    fn a_parent_in_passthru_is_shared_with_nobody() {
        let on = |mode: &str| of(&[("parent", "eth0"), ("macvlan_mode", mode)]).unwrap();
        let first = |mode: &str| [("first".to_owned(), on(mode))];
        check(&on("bridge"), &first("private")).unwrap();
        check(&of(&[]).unwrap(), &[("a".to_owned(), of(&[]).unwrap())]).unwrap();
        check(&of(&[("parent", "eth1")]).unwrap(), &first("passthru")).unwrap();
        let text = check(&on("bridge"), &first("passthru")).unwrap_err().to_string();
        assert!(text.starts_with("macvlan network first is already using"), "{text}");
        let text = check(&on("passthru"), &first("bridge")).unwrap_err().to_string();
        assert!(text.starts_with("cannot use mode passthru, macvlan network first"), "{text}");
    }
}
