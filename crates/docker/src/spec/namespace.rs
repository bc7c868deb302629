//! Whose namespaces are used, in Docker's words.

use engine::NamespaceMode;
use workload::{IdMap, UserMap};

/// `host`, `container:NAME`, or one of the words for one's own.
///
/// # Errors
/// What would be right.
pub fn mode(text: &str, own: &[&str]) -> Result<NamespaceMode, String> {
    match text.split_once(':') {
        None if text.is_empty() || own.contains(&text) => Ok(NamespaceMode::Private),
        None if text == "host" => Ok(NamespaceMode::Host),
        Some(("container", who)) if !who.is_empty() => Ok(NamespaceMode::Container(who.to_owned())),
        None if text == "none" => Err("\"none\" is not built yet: use private".to_owned()),
        _ => Err(format!("use host or {}", own.join(" or "))),
    }
}

/// What is right.
const USERS: &str = "use host, auto or remap:FIRST[:COUNT]";

/// How many ids `remap:FIRST` means.
const COUNT: u32 = 65_536;

/// `host`; a namespace with ids of its own (`auto`, podman's word, or `private`, as of the other
/// namespaces); or which ids of the host stand for those inside: `remap:FIRST[:COUNT]`. A map
/// without ranges leaves them to the daemon.
///
/// # Errors
/// What would be right.
pub fn user_map(text: &str) -> Result<Option<UserMap>, String> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    let wrong = || USERS.to_owned();
    match (word, rest) {
        ("" | "host", "") => Ok(None),
        ("auto" | "private" | "remap", "") => Ok(Some(UserMap::default())),
        ("remap", ids) => {
            let (first, count) = ids.split_once(':').map_or((ids, None), |(f, c)| (f, Some(c)));
            let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
            let outside = number(first)?;
            let count = count.map_or(Ok(COUNT), number)?;
            if count == 0 || outside.checked_add(count).is_none() {
                return Err(wrong());
            }
            let map = vec![IdMap { inside: 0, outside, count }];
            Ok(Some(UserMap { uids: map.clone(), gids: map, join: None }))
        }
        ("keep-id" | "nomap" | "container" | "ns", _) => {
            Err(format!("it is not built yet: {USERS}"))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_are_the_hosts_open_or_said() {
        let map = |text| user_map(text).ok();
        assert_eq!(map(""), Some(None));
        assert_eq!(map("host"), Some(None));
        assert_eq!(map("auto"), Some(Some(UserMap::default())));
        let said = |text| map(text).flatten().map(|map| map.uids);
        let range = |outside, count| Some(vec![IdMap { inside: 0, outside, count }]);
        assert_eq!(said("remap:100000"), range(100_000, 65_536));
        assert_eq!(said("remap:100000:10"), range(100_000, 10));
        for bad in ["keep-id", "remap:x", "remap:1:0", "remap:4294967295:2", "other", "host:1"] {
            assert_eq!(map(bad), None, "{bad}");
        }
    }
}
