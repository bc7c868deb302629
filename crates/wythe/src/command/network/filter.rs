//! `network ls --filter`.

use engine::NetworkInfo;

use crate::error::CliError;

/// Conditions: of one kind they are alternatives, but of labels all must hold.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

/// What can be asked for.
const KINDS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Filters {
    pub(super) fn parse(texts: &[String]) -> Result<Filters, CliError> {
        let mut all = Vec::new();
        for text in texts {
            let bad = |why: String| CliError::Usage(format!("invalid filter \"{text}\": {why}"));
            let (kind, value) =
                text.split_once('=').ok_or_else(|| bad("write kind=value".to_owned()))?;
            if !KINDS.contains(&kind) {
                return Err(bad(format!("use one of {}", KINDS.join(", "))));
            }
            let right = match kind {
                "dangling" => matches!(value, "true" | "1" | "false" | "0"),
                "type" => matches!(value, "builtin" | "custom"),
                _ => true,
            };
            if !right {
                return Err(bad(format!("{value} is no value of {kind}")));
            }
            all.push((kind.to_owned(), value.to_owned()));
        }
        Ok(Filters(all))
    }

    /// Whether this one is wanted.
    pub(super) fn wants(&self, network: &NetworkInfo) -> bool {
        let any = |kind: &str, matches: &dyn Fn(&str) -> bool| {
            let mut values = self.0.iter().filter(|(of, _)| of == kind).peekable();
            values.peek().is_none() || values.any(|(_, value)| matches(value))
        };
        let dangling = !network.builtin && network.users.is_empty();
        let label = |text: &str| match text.split_once('=') {
            Some((key, value)) => network.labels.get(key).is_some_and(|own| own == value),
            None => network.labels.contains_key(text),
        };
        any("dangling", &|value| matches!(value, "true" | "1") == dangling)
            && any("driver", &|value| network.driver == value)
            && any("id", &|value| network.id.starts_with(value))
            && any("name", &|value| network.name.contains(value))
            && any("scope", &|value| value == "local")
            && any("type", &|value| (value == "builtin") == network.builtin)
            && self.0.iter().filter(|(kind, _)| kind == "label").all(|(_, text)| label(text))
    }
}
