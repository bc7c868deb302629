//! Which manifests a client understands. Pure.
//!
//! Source: RFC 9110, section 12.5.1.

/// What `Accept` says, all its lines together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted(Vec<String>);

impl Accepted {
    /// Reads the lines of the header.
    pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Accepted {
        let words = lines.flat_map(|line| line.split(','));
        let words = words.filter(|word| !is_refused(word));
        let types = words.filter_map(|word| word.split(';').next());
        let types = types.map(|media_type| media_type.trim().to_ascii_lowercase());
        Accepted(types.filter(|media_type| !media_type.is_empty()).collect())
    }

    /// Whether it takes this type. Who says nothing takes everything.
    pub(crate) fn takes(&self, media_type: &str) -> bool {
        let media_type = media_type.to_ascii_lowercase();
        let family = media_type.split('/').next().unwrap_or_default();
        let fits = |word: &String| {
            *word == media_type
                || word == "*/*"
                || word.strip_suffix("/*").is_some_and(|word| word == family)
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }
}

/// `q=0`: anything but that.
fn is_refused(word: &str) -> bool {
    word.split(';').skip(1).any(|parameter| {
        let value = parameter.trim().strip_prefix("q=");
        value.is_some_and(|value| value.trim().parse::<f32>() == Ok(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_taken_by_name_and_by_family() {
        let takes = |header: &'static str, media_type| {
            Accepted::parse([header].into_iter()).takes(media_type)
        };
        assert!(takes("a/b;q=0.5, c/d", "c/d") && takes("A/B", "a/b"));
        assert!(takes("*/*", "a/b") && takes("a/*", "a/b") && takes("", "a/b"));
        assert!(!takes("a/c", "a/b") && !takes("c/*", "a/b") && !takes("a/b;q=0, x/y", "a/b"));
    }
}
