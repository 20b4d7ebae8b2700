//! What travels over the admin API: each type is one table that gives the struct, its JSON form and its schema.

use serde_json::{Value, json};

/// A type with a JSON schema.
pub trait Described {
    /// Its schema.
    fn schema() -> Value;

    /// Whether the member may be left out.
    fn optional() -> bool {
        false
    }
}

macro_rules! described {
    ($($type:ty => $schema:tt),+ $(,)?) => {
        $(impl Described for $type {
            fn schema() -> Value {
                json!($schema)
            }
        })+
    };
}

described! {
    bool => { "type": "boolean" },
    String => { "type": "string" },
    u16 => { "type": "integer", "minimum": 0, "maximum": 65_535 },
    u64 => { "type": "integer", "minimum": 0 },
    Value => {},
}

impl<T: Described> Described for Option<T> {
    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), { "type": "null" }] })
    }

    fn optional() -> bool {
        true
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

/// Declares a type that travels: the struct, its JSON form and its schema in one table. `question` types refuse
/// members they do not know; `answer` types may grow.
macro_rules! wire {
    (question $($rest:tt)+) => { $crate::wire::wire! { @type [#[serde(deny_unknown_fields)]] false, $($rest)+ } };
    (answer $($rest:tt)+) => { $crate::wire::wire! { @type [] true, $($rest)+ } };
    (@type [$(#[$serde:meta])*] $open:literal, $(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $fdoc:literal])+ $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[$serde])*
        pub struct $name { $($(#[doc = $fdoc])+ pub $field: $type),* }

        impl $crate::wire::Described for $name {
            fn schema() -> serde_json::Value {
                let required: &[Option<&str>] = &[$((!<$type>::optional()).then_some(stringify!($field))),*];
                let required: Vec<&str> = required.iter().copied().flatten().collect();
                let mut properties = serde_json::Map::new();
                $(properties.insert(
                    stringify!($field).to_owned(),
                    $crate::wire::with_doc(<$type>::schema(), concat!($($fdoc, "\n"),+)),
                );)*
                serde_json::json!({
                    "type": "object",
                    "description": $crate::wire::flat(concat!($($doc, "\n"),+)),
                    "properties": properties,
                    "required": required,
                    "additionalProperties": $open,
                })
            }
        }
    };
}

pub(crate) use wire;

/// `schema` with a description.
pub(crate) fn with_doc(mut schema: Value, doc: &str) -> Value {
    if let Value::Object(members) = &mut schema {
        members.insert("description".to_owned(), Value::String(flat(doc)));
    }
    schema
}

/// A doc comment as one line.
pub(crate) fn flat(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
