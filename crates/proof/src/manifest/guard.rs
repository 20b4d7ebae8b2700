//! Reads JSON and refuses what canonical JSON would blur: repeated members and integers that readers round.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::ManifestError;

/// The largest integer that every reader of JSON reads exactly (RFC 7493, 2.2).
const SAFE_MAX: u64 = (1 << 53) - 1;

/// Parses one JSON text.
pub(super) fn parse(raw: &[u8]) -> Result<Value, ManifestError> {
    let mut strict = Strict { repeated: None };
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    let parsed = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match (parsed, strict.repeated) {
        (_, Some(name)) => Err(ManifestError::Repeated(name)),
        (Err(error), None) => Err(ManifestError::Json(error.to_string())),
        (Ok(value), None) => check_integers(raw).map(|()| value),
    }
}

/// Builds a value; remembers the first repeated member.
struct Strict {
    repeated: Option<String>,
}

impl<'de> DeserializeSeed<'de> for &mut Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(&mut *self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(&mut *self)?;
            if object.contains_key(&name) {
                self.repeated = Some(name);
                return Err(serde::de::Error::custom("a member occurs twice"));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Looks at numbers as they are written: a parsed one is rounded already. `raw` is valid JSON.
fn check_integers(raw: &[u8]) -> Result<(), ManifestError> {
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'-' | b'0'..=b'9' => {
                let mut number = String::from(char::from(byte));
                let numeric = |b: &u8| matches!(*b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                while let Some(next) = bytes.next_if(numeric) {
                    number.push(char::from(next));
                }
                let integer = !number.contains(['.', 'e', 'E']);
                let digits = number.trim_start_matches('-').parse::<u64>();
                if integer && digits.map_or(true, |digits| digits > SAFE_MAX) {
                    return Err(ManifestError::UnsafeInteger(number));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                let _ = bytes.next();
            }
            _ => {}
        }
    }
}
