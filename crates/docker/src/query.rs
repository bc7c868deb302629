//! What stands behind the question mark.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::ApiError;

/// Names and values, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Query {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Query(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The value of this name, unless it is empty.
    pub(crate) fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of this name.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let wanted = name.to_owned();
        self.0.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }

    /// Whether it is switched on.
    ///
    /// Source: moby, `httputils.BoolValue`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// Whether it is switched on, where not being there means something too.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        let value = self.get(name).map(|value| value.trim().to_ascii_lowercase());
        value.map_or(default, |value| !matches!(value.as_str(), "" | "0" | "no" | "false" | "none"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 for what is none.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| ApiError::bad(format!("{name}: \"{value}\" is no number")))
        };
        self.some(name).map(parse).transpose()
    }

    /// The parameter `filters`: names, each with its values.
    ///
    /// # Errors
    /// 400 for what is neither of Docker's two forms.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        match self.some("filters") {
            None => Ok(Filters::default()),
            Some(text) => Filters::parse(text),
        }
    }
}

/// What is wanted of a list: names, each with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

/// `{"name":{"value":true}}`, and as clients before 1.22 wrote it, `{"name":["value"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Set(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    fn parse(text: &str) -> Result<Filters, ApiError> {
        let read: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| ApiError::bad(format!("invalid filters {text:?}: {error}")))?;
        let values = |values: Values| match values {
            Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(v, _)| v).collect(),
            Values::List(list) => list,
        };
        Ok(Filters(read.into_iter().map(|(name, given)| (name, values(given))).collect()))
    }

    /// The values of this name.
    pub(crate) fn of(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The one value of this name that is a truth value.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let invalid = || ApiError::bad(format!("invalid filter '{name}={:?}'", self.of(name)));
        match self.of(name) {
            [] => Ok(None),
            [one] => match one.as_str() {
                "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(Some(true)),
                "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(Some(false)),
                _ => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }

    /// Refuses names that nobody here knows.
    ///
    /// # Errors
    /// 400, in Docker's words.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::bad(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_on_unless_they_say_no() {
        let query = Query::parse("a=1&b=0&c=&d=False&e=yes&f");
        let on: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(|name| query.flag(name)).into();
        assert_eq!(on, [true, false, false, false, true, false, false]);
        assert!(query.flag_or("g", true));
    }

    #[test]
    fn both_forms_of_filters_are_read() {
        let set = Filters::parse(r#"{"label":{"a=b":true,"c":false},"dangling":{"true":true}}"#);
        let set = set.unwrap();
        assert_eq!(set.of("label"), ["a=b"]);
        assert_eq!(set.flag("dangling"), Ok(Some(true)));
        assert!(set.flag("label").is_err());
        assert_eq!(Filters::parse(r#"{"label":["a","b"]}"#).unwrap().of("label"), ["a", "b"]);
        assert!(Filters::parse("[]").is_err());
        assert!(set.only(&["label"]).is_err());
        assert!(set.only(&["label", "dangling"]).is_ok());
    }

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = Query::parse("names=a%2Fb&names=c+d&n=7&bad=x");
        assert_eq!(query.all("names").collect::<Vec<_>>(), ["a/b", "c d"]);
        assert_eq!(query.number::<u32>("n"), Ok(Some(7)));
        assert_eq!(query.number::<u32>("none"), Ok(None));
        assert!(query.number::<u32>("bad").is_err());
    }
}
