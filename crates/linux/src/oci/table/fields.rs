//! Which fields and values the types of the specification have, learnt by reading a document with
//! them: serde's derive tells a deserializer the names of every struct's fields and of every
//! enumeration's variants.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    Visitor, value::Error,
};
use serde_json::Value;

/// What the types that a document met have, by path: `linux.devices[].path`. A map's keys are `*`.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) fields: BTreeSet<String>,
    pub(super) variants: BTreeMap<String, Vec<&'static str>>,
}

/// Reads a document as a `T`, and what `T` consists of.
pub(super) fn of<T: serde::de::DeserializeOwned>(document: &Value) -> Met {
    let met = RefCell::default();
    T::deserialize(Place { met: &met, path: String::new(), value: document }).unwrap();
    met.into_inner()
}

/// A value in the document, and the way to it.
struct Place<'a> {
    met: &'a RefCell<Met>,
    path: String,
    value: &'a Value,
}

impl<'a> Place<'a> {
    fn member(&self, name: &str, value: &'a Value) -> Place<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Place { met: self.met, path: format!("{}{dot}{name}", self.path), value }
    }

    fn items(&self) -> Vec<Place<'a>> {
        let path = format!("{}[]", self.path);
        let items = self.value.as_array().into_iter().flatten();
        items.map(|value| Place { met: self.met, path: path.clone(), value }).collect()
    }

    fn members(&self, wild: bool) -> Vec<(&'a String, Place<'a>)> {
        let members = self.value.as_object().into_iter().flatten();
        members
            .map(|(name, value)| (name, self.member(if wild { "*" } else { name }, value)))
            .collect()
    }
}

impl<'de> Deserializer<'de> for Place<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => Err(Error::custom("a fraction")),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(_) => visitor.visit_seq(Items(self.items().into_iter())),
            Value::Object(_) => {
                visitor.visit_map(Members { left: self.members(true).into_iter(), next: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let paths = fields.iter().map(|field| self.member(field, self.value).path);
        self.met.borrow_mut().fields.extend(paths);
        visitor.visit_map(Members { left: self.members(false).into_iter(), next: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.met.borrow_mut().variants.insert(self.path.clone(), variants.to_vec());
        visitor.visit_enum(self.value.as_str().unwrap_or_default().into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a>(std::vec::IntoIter<Place<'a>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }
}

struct Members<'a> {
    left: std::vec::IntoIter<(&'a String, Place<'a>)>,
    next: Option<Place<'a>>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, place)) = self.left.next() else { return Ok(None) };
        self.next = Some(place);
        seed.deserialize(name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.next.take().expect("a key comes before its value"))
    }
}
