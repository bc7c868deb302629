//! Who has which name on which network.
//!
//! Pure. Names are compared without regard to case (RFC 4343); a name is looked for on the
//! networks of whoever asks, and the first network that has it answers, by the networks' names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// Somebody's place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which network.
    pub network: String,
    /// What it is called.
    pub network_name: String,
    /// What they are called there, their own name first.
    pub names: Vec<String>,
    /// Their addresses there.
    pub addresses: Vec<IpAddr>,
}

/// The book of names.
#[derive(Debug, Default)]
pub struct Names {
    networks: HashMap<String, Zone>,
    clients: HashMap<String, Presence>,
}

#[derive(Debug, Default)]
struct Zone {
    /// Who has a name, by the name in lower case. In order, so that turns are taken in order.
    by_name: HashMap<String, BTreeMap<String, Vec<IpAddr>>>,
    /// Own names, by address.
    by_address: HashMap<IpAddr, String>,
}

/// Where somebody is.
#[derive(Debug, Default)]
struct Presence {
    /// By the networks' names in lower case, so that they are asked in that order.
    places: BTreeMap<String, Place>,
    leads_out: bool,
}

impl Names {
    /// Somebody is at these places and nowhere else. `leads_out`: whether they reach those who
    /// are on none of their networks.
    pub fn set(&mut self, who: &str, places: Vec<Place>, leads_out: bool) {
        self.remove(who);
        for place in &places {
            self.networks.entry(place.network.clone()).or_default().enter(who, place);
        }
        let places = places.into_iter().map(|place| (place.network_name.to_lowercase(), place));
        self.clients.insert(who.to_owned(), Presence { places: places.collect(), leads_out });
    }

    /// Whether anything is known of somebody.
    pub fn knows(&self, who: &str) -> bool {
        self.clients.contains_key(who)
    }

    /// Somebody is nowhere any more. Tells whether anything was known of them.
    pub fn remove(&mut self, who: &str) -> bool {
        let Some(Presence { places, .. }) = self.clients.remove(who) else { return false };
        for place in places.into_values() {
            let Some(zone) = self.networks.get_mut(&place.network) else { continue };
            zone.leave(who, &place);
            if zone.by_name.is_empty() {
                self.networks.remove(&place.network);
            }
        }
        true
    }

    /// Whether somebody reaches those who are on none of their networks.
    pub fn leads_out(&self, who: &str) -> bool {
        self.clients.get(who).is_some_and(|presence| presence.leads_out)
    }

    /// The addresses of a name, as somebody sees it. The name is in lower case and has no dot at
    /// its end; it may have the network's name behind it.
    pub(crate) fn find(&self, who: &str, name: &str) -> Option<Vec<IpAddr>> {
        let places = &self.clients.get(who)?.places;
        let on = |(network, place): (&String, &Place)| {
            let zone = self.networks.get(&place.network)?;
            let within = || name.strip_suffix(network.as_str())?.strip_suffix('.');
            let all = zone.by_name.get(name).or_else(|| zone.by_name.get(within()?))?;
            Some(all.values().flatten().copied().collect())
        };
        places.iter().find_map(on)
    }

    /// The name of whoever has an address, with the network's name behind it.
    pub(crate) fn whose(&self, who: &str, address: IpAddr) -> Option<String> {
        let places = &self.clients.get(who)?.places;
        places.values().find_map(|place| {
            let name = self.networks.get(&place.network)?.by_address.get(&address)?;
            Some(format!("{name}.{}", place.network_name))
        })
    }
}

impl Zone {
    fn enter(&mut self, who: &str, place: &Place) {
        let names: BTreeSet<_> = place.names.iter().map(|name| name.to_lowercase()).collect();
        for name in names {
            let all = self.by_name.entry(name).or_default();
            all.insert(who.to_owned(), place.addresses.clone());
        }
        let Some(own) = place.names.first() else { return };
        for address in &place.addresses {
            self.by_address.insert(*address, own.clone());
        }
    }

    fn leave(&mut self, who: &str, place: &Place) {
        for name in place.names.iter().map(|name| name.to_lowercase()) {
            let Some(all) = self.by_name.get_mut(&name) else { continue };
            all.remove(who);
            if all.is_empty() {
                self.by_name.remove(&name);
            }
        }
        // Somebody else may have it already.
        for address in &place.addresses {
            let own = self.by_address.get(address);
            if own == place.names.first() {
                self.by_address.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(network: &str, names: &[&str], last: u8) -> Place {
        Place {
            network: format!("id-of-{network}"),
            network_name: network.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: vec![IpAddr::from([10, 0, 0, last])],
        }
    }

    fn found(names: &Names, who: &str, name: &str) -> Vec<String> {
        let all = names.find(who, name).unwrap_or_default();
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_seen_by_those_on_the_same_network_and_by_nobody_else() {
        let mut names = Names::default();
        names.set("a", vec![place("one", &["Web", "front"], 2)], true);
        names.set("b", vec![place("one", &["db"], 3), place("two", &["db", "store"], 4)], true);
        names.set("c", vec![place("two", &["other"], 5)], false);
        assert_eq!(found(&names, "b", "web"), ["10.0.0.2"]);
        assert_eq!(found(&names, "b", "front.one"), ["10.0.0.2"]);
        assert_eq!(found(&names, "b", "front.two"), [""; 0]);
        assert_eq!(found(&names, "c", "db"), ["10.0.0.4"]);
        assert_eq!(found(&names, "a", "db"), ["10.0.0.3"]);
        assert_eq!(found(&names, "a", "store"), [""; 0]);
        assert_eq!(found(&names, "stranger", "db"), [""; 0]);
        let whose = |who: &str, last: u8| names.whose(who, IpAddr::from([10, 0, 0, last]));
        assert_eq!(whose("b", 2).as_deref(), Some("Web.one"));
        assert_eq!(whose("c", 2), None);
        assert!(names.leads_out("a") && !names.leads_out("c") && !names.leads_out("d"));
    }

    #[test]
    fn several_have_one_name_until_they_go() {
        let mut names = Names::default();
        for (who, last) in [("a", 2), ("b", 3), ("c", 4)] {
            names.set(who, vec![place("one", &[who, "web"], last)], true);
        }
        assert_eq!(found(&names, "a", "web"), ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        names.set("b", vec![place("one", &["renamed"], 3)], true);
        assert_eq!(found(&names, "a", "web"), ["10.0.0.2", "10.0.0.4"]);
        names.remove("a");
        assert_eq!(found(&names, "b", "web"), ["10.0.0.4"]);
        assert_eq!(found(&names, "a", "web"), [""; 0]);
    }

    proptest! {
        #[test]
        fn whoever_comes_and_goes_leaves_nothing(
            steps in prop::collection::vec((0u8..4, any::<bool>(), 0u8..3, "[a-c]{1,2}"), 0..40),
        ) {
            let mut names = Names::default();
            for (who, comes, network, name) in steps {
                let (who, network) = (who.to_string(), network.to_string());
                match comes {
                    true => names.set(&who, vec![place(&network, &[&name, &who], 7)], true),
                    false => drop(names.remove(&who)),
                }
            }
            for who in 0..4 {
                names.remove(&who.to_string());
            }
            prop_assert!(names.networks.is_empty() && names.clients.is_empty());
        }
    }
}
