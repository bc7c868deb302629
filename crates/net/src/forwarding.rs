//! Forwarding packets between interfaces, which containers need to reach the world: turned on
//! with the first network, and put back with the last if it was we who turned it on.
//!
//! What was changed is noted on the bridge (its alias), which lives exactly as long as the need
//! for it: through restarts of the daemon, and not through those of the host.
//!
//! Source: ip-sysctl.rst, `ip_forward`, `forwarding`, `accept_ra`.

use std::{fs, io};

const IPV4: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const IPV6_CONF: &str = "/proc/sys/net/ipv6/conf";

/// Longest note in bytes (`IFALIASZ` in `linux/if.h`, with its NUL).
const NOTE_MAX: usize = 255;
const NOTE_BEGINS: &str = "forwarding turned on by wythe:";

/// What was changed on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    /// Interfaces that go on taking router advertisements all the same.
    pub(crate) advertised: Vec<String>,
}

impl Changed {
    /// The note for it; none if nothing was changed, or so much that it cannot be noted.
    pub(crate) fn note(&self) -> Option<String> {
        if *self == Changed::default() {
            return None;
        }
        let mut note = NOTE_BEGINS.to_owned();
        let families = [(self.ipv4, " ipv4"), (self.ipv6, " ipv6")];
        families.iter().filter(|(on, _)| *on).for_each(|(_, word)| note.push_str(word));
        self.advertised.iter().for_each(|name| note.push_str(&format!(" ra={name}")));
        (note.len() < NOTE_MAX).then_some(note)
    }

    /// Reads a note.
    pub(crate) fn read(note: &str) -> Changed {
        let words = note.strip_prefix(NOTE_BEGINS).unwrap_or_default().split_whitespace();
        let mut changed = Changed::default();
        for word in words {
            match word.strip_prefix("ra=") {
                Some(name) => changed.advertised.push(name.to_owned()),
                None if word == "ipv4" => changed.ipv4 = true,
                None if word == "ipv6" => changed.ipv6 = true,
                None => {}
            }
        }
        changed
    }
}

/// Turns forwarding on, and says what that changed.
///
/// An interface that forwards IPv6 takes no router advertisements, and loses the default route it
/// has from one, unless `accept_ra` is 2: those that take them are told to go on.
pub(crate) fn turn_on(ipv6: bool) -> io::Result<Changed> {
    let mut changed = Changed::default();
    if read(IPV4)? == "0" {
        fs::write(IPV4, "1")?;
        changed.ipv4 = true;
    }
    if ipv6 && read(IPV6)? == "0" {
        for entry in fs::read_dir(IPV6_CONF)? {
            let path = entry?.path().join("accept_ra");
            let name = path.parent().and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
            if let (Some(name), Ok("1")) = (name, read_path(&path).as_deref())
                && name != "all"
            {
                fs::write(&path, "2")?;
                changed.advertised.push(name.to_owned());
            }
        }
        fs::write(IPV6, "1")?;
        changed.ipv6 = true;
    }
    Ok(changed)
}

/// Whether it is on.
pub(crate) fn is_on(ipv6: bool) -> io::Result<bool> {
    Ok(read(IPV4)? != "0" && (!ipv6 || read(IPV6)? != "0"))
}

/// Puts back what was changed. Interfaces that are gone meanwhile do not matter.
pub(crate) fn put_back(changed: &Changed) -> io::Result<()> {
    if changed.ipv4 {
        fs::write(IPV4, "0")?;
    }
    if changed.ipv6 {
        fs::write(IPV6, "0")?;
    }
    for name in changed.advertised.iter().filter(|name| !name.contains('/')) {
        let path = format!("{IPV6_CONF}/{name}/accept_ra");
        if read(&path).is_ok_and(|value| value == "2") {
            fs::write(path, "1")?;
        }
    }
    Ok(())
}

/// Whether interfaces of this namespace may have IPv6 addresses.
pub(crate) fn has_ipv6() -> bool {
    ["all", "default"].iter().all(|which| {
        read(&format!("{IPV6_CONF}/{which}/disable_ipv6")).is_ok_and(|value| value == "0")
    })
}

fn read(path: &str) -> io::Result<String> {
    read_path(path.as_ref())
}

fn read_path(path: &std::path::Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_read_as_it_is_noted() {
        let advertised = vec!["eth0".to_owned(), "default".to_owned()];
        let changed = Changed { ipv4: true, ipv6: true, advertised };
        let note = changed.note().unwrap();
        assert_eq!(note, "forwarding turned on by wythe: ipv4 ipv6 ra=eth0 ra=default");
        assert_eq!(Changed::read(&note), changed);
        assert_eq!(Changed::default().note(), None);
        assert_eq!(Changed::read("the wan"), Changed::default());
    }

    #[test]
    fn what_cannot_be_noted_is_not_put_back_by_half() {
        let advertised = (0..40).map(|n| format!("interface{n}")).collect();
        assert_eq!(Changed { ipv4: true, ipv6: true, advertised }.note(), None);
    }
}
