//! `volume ls --filter` and `volume prune --filter`.
//!
//! Source: moby, `volume/service/convert.go`: conditions of one kind are alternatives, but of
//! labels all must hold; a name is a part of the name.

use engine::{VolumeLabel, VolumeView};

use crate::error::CliError;

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Filters {
    dangling: Option<bool>,
    drivers: Vec<String>,
    names: Vec<String>,
    /// Conditions on labels.
    pub(super) labels: Vec<VolumeLabel>,
    /// `all=true`, of `prune`.
    pub(super) all: Option<bool>,
}

impl Filters {
    /// Reads `kind=value` each, for `ls`.
    pub(super) fn parse(texts: &[String]) -> Result<Filters, CliError> {
        Filters::read(texts, &["dangling", "driver", "label", "name"])
    }

    /// Reads `kind=value` each, for `prune`.
    pub(super) fn parse_prune(texts: &[String]) -> Result<Filters, CliError> {
        Filters::read(texts, &["all", "label", "label!"])
    }

    fn read(texts: &[String], kinds: &[&str]) -> Result<Filters, CliError> {
        let mut filters = Filters::default();
        for text in texts {
            let bad = |why: String| CliError::Usage(format!("invalid filter \"{text}\": {why}"));
            let (kind, value) =
                text.split_once('=').ok_or_else(|| bad("write kind=value".to_owned()))?;
            if !kinds.contains(&kind) {
                return Err(bad(format!("use one of {}", kinds.join(", "))));
            }
            let truth = || match value {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(bad("use true or false".to_owned())),
            };
            match kind {
                "all" => filters.all = Some(truth()?),
                "dangling" => filters.dangling = Some(truth()?),
                "driver" => filters.drivers.push(value.to_owned()),
                "name" => filters.names.push(value.to_owned()),
                _ => filters.labels.push(label(value, kind == "label!")),
            }
        }
        Ok(filters)
    }

    /// Whether this one is wanted.
    pub(super) fn wants(&self, volume: &VolumeView) -> bool {
        let any = |list: &[String], matches: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|one| matches(one))
        };
        self.dangling.is_none_or(|dangling| dangling == volume.users.is_empty())
            && any(&self.drivers, &|driver| driver == "local")
            && any(&self.names, &|name| volume.name.contains(name))
            && self.labels.iter().all(|label| label.holds(&volume.labels))
    }
}

fn label(text: &str, absent: bool) -> VolumeLabel {
    match text.split_once('=') {
        Some((name, value)) => {
            VolumeLabel { name: name.to_owned(), value: Some(value.to_owned()), absent }
        }
        None => VolumeLabel { name: text.to_owned(), value: None, absent },
    }
}

#[cfg(test)]
mod tests {
    use base::{ContainerId, clock::Timestamp};

    use super::*;

    #[test]
    fn volumes_are_picked_by_what_they_are() {
        let mut volume = VolumeView {
            name: "web-data".to_owned(),
            created: Timestamp(0),
            labels: [("tier".to_owned(), "back".to_owned())].into(),
            options: std::collections::BTreeMap::new(),
            anonymous: false,
            mountpoint: String::new(),
            users: Vec::new(),
        };
        let wants = |volume: &VolumeView, texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Filters::parse(&texts).unwrap().wants(volume)
        };
        for (texts, want) in [
            (&[][..], true),
            (&["dangling=true"], true),
            (&["dangling=false"], false),
            (&["name=data"], true),
            (&["name=no", "name=web"], true),
            (&["name=no"], false),
            (&["driver=local"], true),
            (&["driver=nfs"], false),
            (&["label=tier"], true),
            (&["label=tier=back"], true),
            (&["label=tier", "label=other"], false),
        ] {
            assert_eq!(wants(&volume, texts), want, "{texts:?}");
        }
        volume.users.push(ContainerId::from_random([1; 32]));
        assert!(!wants(&volume, &["dangling=1"]));
        assert!(Filters::parse(&["dangling=maybe".to_owned()]).is_err());
        assert!(Filters::parse(&["size=1".to_owned()]).is_err());
        let prune = Filters::parse_prune(&["label!=keep".to_owned(), "all=1".to_owned()]).unwrap();
        assert!(prune.labels[0].absent && prune.all == Some(true));
    }
}
