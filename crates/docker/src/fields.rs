//! A request's JSON object, whose fields are taken out one by one, so that what nobody took can be
//! refused by its name.
//!
//! As with Docker's own (Go's `encoding/json`), `null` is as good as nothing, and a field's name
//! may be written in capitals or not. Unlike there, what is no field is refused: whoever asks for
//! something that nobody knows is better told.

use std::{cell::RefCell, collections::BTreeMap};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Names of fields that somebody asked for: what the table of what is compatible is compared with.
pub(crate) type Asked = RefCell<Vec<String>>;

/// One object.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// Where it stands: `HostConfig.`, or nothing.
    path: String,
    /// By their names in small letters: the name as it was written, and the value.
    left: BTreeMap<String, (String, Value)>,
    asked: Option<&'a Asked>,
}

impl<'a> Fields<'a> {
    /// Reads a body; nothing is as good as `{}`.
    ///
    /// # Errors
    /// 400 if it is no object.
    pub(crate) fn read(bytes: &[u8], asked: Option<&'a Asked>) -> Result<Fields<'a>, ApiError> {
        match crate::body::json::<Option<Map<String, Value>>>(bytes) {
            Ok(map) => Ok(Fields::of(String::new(), map.unwrap_or_default(), asked)),
            Err(error) => Err(error),
        }
    }

    fn of(path: String, map: Map<String, Value>, asked: Option<&'a Asked>) -> Fields<'a> {
        let given = map.into_iter().filter(|(_, value)| !value.is_null());
        let left = given.map(|(name, value)| (name.to_ascii_lowercase(), (name, value)));
        Fields { path, left: left.collect(), asked }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// 400 that names a field.
    pub(crate) fn wrong(&self, name: &str, why: impl std::fmt::Display) -> ApiError {
        ApiError::bad(format!("{}: {why}", self.full(name)))
    }

    /// 501 that names a field.
    pub(crate) fn unbuilt(&self, name: &str, why: impl std::fmt::Display) -> ApiError {
        let text = format!("{} is not supported: {why}", self.full(name));
        ApiError::new(hyper::StatusCode::NOT_IMPLEMENTED, text)
    }

    fn value(&mut self, name: &str) -> Option<Value> {
        if let Some(asked) = self.asked {
            asked.borrow_mut().push(self.full(name));
        }
        self.left.remove(&name.to_ascii_lowercase()).map(|(_, value)| value)
    }

    /// A number that is looked at, and still to be taken.
    pub(crate) fn peek(&self, name: &str) -> Option<i64> {
        self.left.get(&name.to_ascii_lowercase())?.1.as_i64()
    }

    /// A field's value.
    ///
    /// # Errors
    /// 400 if it is of another type.
    pub(crate) fn some<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|error| self.wrong(name, error))
    }

    /// A field's value, or Go's zero.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn take<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
    ) -> Result<T, ApiError> {
        self.some(name).map(Option::unwrap_or_default)
    }

    /// A text, unless it is empty.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        Ok(self.some::<String>(name)?.filter(|text| !text.is_empty()))
    }

    /// A number above nothing; nothing is as if it were not there.
    ///
    /// # Errors
    /// As [`Fields::some`], and for what is below nothing.
    pub(crate) fn above_zero(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let number = self.take::<i64>(name)?;
        let below = |_| self.wrong(name, format!("{number} is below 0"));
        Ok(Some(u64::try_from(number).map_err(below)?).filter(|number| *number > 0))
    }

    /// What is an object of its own; an empty one where there is none.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn object(&mut self, name: &str) -> Result<Fields<'a>, ApiError> {
        let map = self.take(name)?;
        Ok(Fields::of(format!("{}.", self.full(name)), map, self.asked))
    }

    /// A list of objects.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn objects(&mut self, name: &str) -> Result<Vec<Fields<'a>>, ApiError> {
        let maps: Vec<Option<Map<String, Value>>> = self.take(name)?;
        let path = format!("{}[].", self.full(name));
        let one = |map: Option<_>| Fields::of(path.clone(), map.unwrap_or_default(), self.asked);
        Ok(maps.into_iter().map(one).collect())
    }

    /// Objects by names that are the client's own.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn named(&mut self, name: &str) -> Result<Vec<(String, Fields<'a>)>, ApiError> {
        let maps: BTreeMap<String, Option<Map<String, Value>>> = self.take(name)?;
        let path = format!("{}[].", self.full(name));
        let one = |(key, map): (String, Option<_>)| {
            (key, Fields::of(path.clone(), map.unwrap_or_default(), self.asked))
        };
        Ok(maps.into_iter().map(one).collect())
    }

    /// Lists of objects by names that are the client's own.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn named_lists(
        &mut self,
        name: &str,
    ) -> Result<Vec<(String, Vec<Fields<'a>>)>, ApiError> {
        let lists: BTreeMap<String, Option<Vec<Map<String, Value>>>> = self.take(name)?;
        let path = format!("{}[].", self.full(name));
        let one = |map| Fields::of(path.clone(), map, self.asked);
        let list = |maps: Option<Vec<_>>| maps.unwrap_or_default().into_iter().map(one).collect();
        Ok(lists.into_iter().map(|(key, maps)| (key, list(maps))).collect())
    }

    /// Words, or one word for itself: Docker's `StrSlice`.
    ///
    /// # Errors
    /// As [`Fields::some`].
    pub(crate) fn words(&mut self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(word)) => Ok(Some(vec![word])),
            Some(value) => {
                serde_json::from_value(value).map(Some).map_err(|error| self.wrong(name, error))
            }
        }
    }

    /// Fields that mean nothing on Linux, or to anybody but the client itself.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.value(name);
        }
    }

    /// A field that cannot be honoured.
    ///
    /// # Errors
    /// 501 unless it is empty, `false` or 0.
    pub(crate) fn refuse(&mut self, name: &str, why: &str) -> Result<(), ApiError> {
        let empty = match self.value(name) {
            None | Some(Value::Null) => true,
            Some(Value::Bool(on)) => !on,
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
        };
        if empty { Ok(()) } else { Err(self.unbuilt(name, why)) }
    }

    /// Nothing more is taken.
    ///
    /// # Errors
    /// 400 that names a field that nobody took.
    pub(crate) fn done(self) -> Result<(), ApiError> {
        match self.left.values().next() {
            None => Ok(()),
            Some((name, _)) => {
                let name = self.full(&name.chars().take(64).collect::<String>());
                Err(ApiError::bad(format!("unknown field in the request: {name}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_nothing_and_capitals_do_not_matter() {
        let text = br#"{"Name":null,"hostConfig":{"MEMORY":7,"Nosuch":null},"Cmd":"sh"}"#;
        let mut fields = Fields::read(text, None).unwrap();
        assert_eq!(fields.some::<u8>("Name"), Ok(None));
        assert_eq!(fields.words("Cmd").unwrap(), Some(vec!["sh".to_owned()]));
        let mut host = fields.object("HostConfig").unwrap();
        assert_eq!(host.above_zero("Memory"), Ok(Some(7)));
        host.done().unwrap();
        fields.done().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = br#"{"HostConfig":{"Memory":"7","Links":["a"],"Cpu":1,"Binds":[]}}"#;
        let mut host = Fields::read(text, None).unwrap().object("HostConfig").unwrap();
        let error = host.take::<i64>("Memory").unwrap_err().message;
        assert!(error.starts_with("HostConfig.Memory: invalid type"), "{error}");
        let error = host.refuse("Links", "use networks").unwrap_err();
        assert_eq!(error.message, "HostConfig.Links is not supported: use networks");
        host.refuse("Binds", "").unwrap();
        let error = host.done().unwrap_err().message;
        assert_eq!(error, "unknown field in the request: HostConfig.Cpu");
        assert!(Fields::read(b"[]", None).is_err());
    }
}
