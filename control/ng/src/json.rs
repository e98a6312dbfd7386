//! JSON to and from [`Value`], through serde_json.
//!
//! What bencode lacks is mapped: `true` and `false` to 1 and 0, `null` to the empty string.
//! Numbers that are not 64-bit integers are refused. serde_json sees every byte, but builds
//! nothing of its own: depth and number of values are bounded while it reads.

use crate::value::{Budget, DecodeError, Dict, MAX_DEPTH, Value};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// Decodes one value that fills `bytes`, but for white space.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value<'static>, DecodeError> {
    let mut budget = Budget::default();
    let mut over = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let node = Node {
        budget: &mut budget,
        over: &mut over,
        depth: 0,
    };
    let value = node
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| over.unwrap_or_else(|| DecodeError::Json(error.to_string())))
}

/// One value to come: what may still be spent, and where to note that it was not enough.
struct Node<'a> {
    budget: &'a mut Budget,
    over: &'a mut Option<DecodeError>,
    depth: usize,
}

impl Node<'_> {
    fn fail<E: de::Error>(&mut self, error: DecodeError) -> E {
        let shown = E::custom(&error);
        *self.over = Some(error);
        shown
    }

    /// The node for what stands within this one.
    fn child(&mut self) -> Node<'_> {
        Node {
            budget: self.budget,
            over: self.over,
            depth: self.depth + 1,
        }
    }

    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        match self.depth == MAX_DEPTH {
            true => Err(self.fail(DecodeError::TooDeep)),
            false => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value<'static>;

    fn deserialize<D: Deserializer<'de>>(mut self, reader: D) -> Result<Value<'static>, D::Error> {
        if let Err(error) = self.budget.spend() {
            return Err(self.fail(error));
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a 64-bit integer, a string, a list or an object")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value<'static>, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value<'static>, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value<'static>, E> {
        i64::try_from(value)
            .map(Value::Integer)
            .map_err(|_| E::custom("integer beyond 64 bits"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value<'static>, E> {
        Ok(Value::from(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value<'static>, E> {
        Ok(Value::from(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value<'static>, A::Error> {
        self.enter()?;
        let mut list = Vec::new();
        while let Some(value) = items.next_element_seed(self.child())? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut pairs: A) -> Result<Value<'static>, A::Error> {
        self.enter()?;
        let mut dict = Dict::default();
        while let Some(key) = pairs.next_key::<String>()? {
            dict.push(key, pairs.next_value_seed(self.child())?);
        }
        Ok(Value::Dict(dict))
    }
}

/// Appends `dict` to `out`.
pub(crate) fn encode_dict(dict: &Dict, out: &mut Vec<u8>) {
    // Neither a Vec nor Shown's string keys give serde_json a reason to fail.
    let _ = serde_json::to_writer(out, &Shown(dict));
}

/// A dictionary or value as JSON shows it.
struct Shown<'a, T>(&'a T);

impl Serialize for Shown<'_, Dict<'_>> {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        let mut map = writer.serialize_map(Some(self.0.0.len()))?;
        for (key, value) in &self.0.0 {
            map.serialize_entry(&String::from_utf8_lossy(key), &Shown(value))?;
        }
        map.end()
    }
}

impl Serialize for Shown<'_, Value<'_>> {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Integer(number) => writer.serialize_i64(*number),
            Value::Bytes(bytes) => writer.serialize_str(&String::from_utf8_lossy(bytes)),
            Value::List(list) => writer.collect_seq(list.iter().map(Shown)),
            Value::Dict(dict) => Shown(dict).serialize(writer),
        }
    }
}
