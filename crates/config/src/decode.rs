//! One description of every setting, from which decoding, the JSON schema and the reference page are made: the
//! [`Setting`] trait for values, the `section!` and `choice!` tables for mappings and enumerations.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    mistake::{ConfigMistake, Place},
    yaml::{Key, Node, Value},
};

/// The form of a setting, for the schema and the reference page.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Boolean,
    Choice(Vec<(&'static str, &'static str)>),
    Integer {
        min: u64,
        max: u64,
    },
    List(Box<Shape>),
    Map(Box<Shape>),
    Section(SectionShape),
    /// Text; the name says of what kind.
    Text(&'static str),
}

/// The form of a mapping with fixed keys.
#[derive(Clone, Debug)]
pub(crate) struct SectionShape {
    pub name: &'static str,
    pub doc: &'static str,
    pub fields: Vec<FieldShape>,
    /// What may stand under other keys, where there may be any.
    pub more: Option<Box<Shape>>,
}

/// One key of a section.
#[derive(Clone, Debug)]
pub(crate) struct FieldShape {
    pub key: &'static str,
    pub doc: &'static str,
    pub shape: Shape,
    pub required: bool,
    pub default: Option<serde_json::Value>,
}

/// A value that can stand in the configuration.
pub(crate) trait Setting: Sized {
    /// Its form.
    fn shape() -> Shape;

    /// Reads it; `None` when a mistake was reported.
    fn read(node: &Node, walk: &mut Walk) -> Option<Self>;

    /// What its absence means; `None` where it is required.
    fn absent() -> Option<Self> {
        None
    }

    /// How the value is written, for defaults in the schema and the reference page.
    fn json(&self) -> Option<serde_json::Value> {
        None
    }
}

/// Where reading stands, and the mistakes so far.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    path: Vec<String>,
    last_key: Option<String>,
    pub mistakes: Vec<ConfigMistake>,
    /// Folder that relative paths start from.
    pub base: PathBuf,
    /// Roles that may be named.
    pub roles: BTreeSet<String>,
    /// Recognisers that may be named, as detectors are.
    pub recognisers: BTreeSet<String>,
}

impl Walk {
    /// At the top of a file in `base` whose values may name `roles` and `recognisers`.
    pub(crate) fn new(base: PathBuf, roles: BTreeSet<String>, recognisers: BTreeSet<String>) -> Self {
        Self { base, roles, recognisers, ..Self::default() }
    }

    /// The key that was entered last.
    pub(crate) fn last_key(&self) -> Option<String> {
        self.last_key.clone()
    }

    /// The key path of where reading stands.
    pub(crate) fn path(&self) -> String {
        self.path.concat()
    }

    /// Reports a mistake at `node`.
    pub(crate) fn report(&mut self, node: &Node, message: impl Into<String>, hint: impl Into<String>) {
        self.mistakes.push(ConfigMistake::new(node.at, self.path(), message, hint));
    }

    /// Reads `inside` with `step` added to the path.
    pub(crate) fn enter<T>(&mut self, step: String, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let out = inside(self);
        self.path.pop();
        out
    }

    /// Reads `inside` at `key` of a mapping.
    pub(crate) fn key<T>(&mut self, key: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.last_key = Some(key.to_owned());
        let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        let step = if self.path.is_empty() { key } else { format!(".{key}") };
        self.enter(step, inside)
    }

    /// The pairs of a mapping.
    pub(crate) fn pairs<'n>(&mut self, node: &'n Node) -> Option<&'n [(Key, Node)]> {
        match &node.value {
            Value::Map(pairs) => Some(pairs),
            Value::Null => Some(&[]),
            Value::List(_) | Value::Scalar { .. } => {
                self.expected(node, "a mapping", "write `key: value` lines, indented below");
                None
            }
        }
    }

    /// Reports keys that are none of `known`.
    pub(crate) fn only_keys(&mut self, node: &Node, known: &[&str]) -> bool {
        let Some(pairs) = self.pairs(node) else { return false };
        let before = self.mistakes.len();
        for (key, _) in pairs {
            if !known.contains(&key.text.as_str()) {
                let hint = nearest(&key.text, known).map_or_else(
                    || {
                        if known.len() > 16 {
                            String::from("docs/reference/config.md lists the keys")
                        } else {
                            format!("known keys: {}", known.join(", "))
                        }
                    },
                    |near| format!("did you mean `{near}`?"),
                );
                let at = Node { at: key.at, value: Value::Null };
                self.key(&key.text, |walk| walk.report(&at, "unknown key", hint));
            }
        }
        before == self.mistakes.len()
    }

    /// Reads the value under `key`, or what its absence means.
    pub(crate) fn field<T: Setting>(&mut self, node: &Node, key: &str, default: Option<T>) -> Option<T> {
        match node.get(key) {
            Some((_, value)) if value.value != Value::Null => self.key(key, |walk| T::read(value, walk)),
            Some(_) | None => {
                let absent = default.or_else(T::absent);
                if absent.is_none() {
                    self.key(key, |walk| walk.report(node, "missing", "this key is required here"));
                }
                absent
            }
        }
    }

    /// The text of a scalar.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, what: &str, hint: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) | Value::Null => {
                self.expected(node, what, hint);
                None
            }
        }
    }

    /// Reports a value of the wrong kind.
    pub(crate) fn expected(&mut self, node: &Node, what: &str, hint: &str) {
        self.report(node, format!("expected {what}, found {}", node.describe()), hint);
    }
}

/// The known word most like `word`, where one is close.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The place of a key path, or of the nearest parent that is written.
pub(crate) fn place(root: &Node, path: &str) -> Place {
    let mut node = root;
    let mut at = Place::START;
    for step in path.split('.') {
        let (key, index) = match step.trim_end_matches(']').split_once('[') {
            Some((key, index)) => (key, index.parse::<usize>().ok()),
            None => (step, None),
        };
        let Some((found, value)) = node.get(key) else { break };
        (at, node) = (found.at, value);
        if let (Some(index), Value::List(items)) = (index, &node.value) {
            let Some(item) = items.get(index) else { break };
            (at, node) = (item.at, item);
        }
    }
    at
}

/// Declares a section: the type, how it is read, its schema and its documentation, in one table. `(crate)` before the name
/// keeps it here.
macro_rules! section {
    ($(#[doc = $doc:literal])+ $(($scope:tt))? $name:ident { $($(#[doc = $fdoc:literal])+ $field:ident: $type:ty $(= $default:expr)?;)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub $(($scope))? struct $name { $($(#[doc = $fdoc])+ pub $field: $type),+ }

        impl $crate::decode::Setting for $name {
            fn shape() -> $crate::decode::Shape {
                use $crate::decode::{FieldShape, SectionShape, Setting, Shape};
                Shape::Section(SectionShape {
                    name: stringify!($name),
                    doc: concat!($($doc, "\n"),+),
                    more: None,
                    fields: vec![$({
                        let default = section!(@default $type $(, $default)?).or_else(<$type as Setting>::absent);
                        FieldShape {
                            key: stringify!($field),
                            doc: concat!($($fdoc, "\n"),+),
                            shape: <$type as Setting>::shape(),
                            required: default.is_none(),
                            default: default.as_ref().and_then(Setting::json),
                        }
                    }),+],
                })
            }

            fn read(node: &$crate::yaml::Node, walk: &mut $crate::decode::Walk) -> Option<Self> {
                let known = walk.only_keys(node, &[$(stringify!($field)),+]);
                use $crate::yaml::Value;
                // A key with nothing behind it is an empty section: what it lacks is said below.
                if !matches!(node.value, Value::Map(_) | Value::Null) {
                    return None;
                }
                $(let $field = walk.field(node, stringify!($field), section!(@default $type $(, $default)?));)+
                let read = Self { $($field: $field?),+ };
                known.then_some(read)
            }

            fn absent() -> Option<Self> {
                Self::read(&$crate::yaml::Node::empty(), &mut $crate::decode::Walk::default())
            }
        }
    };
    (@default $type:ty) => { None::<$type> };
    (@default $type:ty, $default:expr) => { Some::<$type>($default) };
}

/// Declares an enumeration: the type, its words and their documentation, in one table.
macro_rules! choice {
    ($(#[doc = $doc:literal])+ $(($scope:tt))? $name:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub $(($scope))? enum $name { $($(#[doc = $vdoc])+ $variant),+ }

        impl $name {
            /// The word for it in the configuration.
            pub $(($scope))? const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::decode::Setting for $name {
            fn shape() -> $crate::decode::Shape {
                $crate::decode::Shape::Choice(vec![$(($word, concat!($($vdoc),+))),+])
            }

            fn read(node: &$crate::yaml::Node, walk: &mut $crate::decode::Walk) -> Option<Self> {
                let words = [$($word),+];
                $crate::decode::one_of(node, walk, &words, &[$(Self::$variant),+])
            }

            fn json(&self) -> Option<serde_json::Value> {
                Some(serde_json::Value::from(self.word()))
            }
        }
    };
}

pub(crate) use {choice, section};

/// Reads one of `words`, as the value at the same position.
pub(crate) fn one_of<T: Copy>(node: &Node, walk: &mut Walk, words: &[&str], values: &[T]) -> Option<T> {
    let all = format!("one of: {}", words.join(", "));
    let text = walk.scalar(node, &format!("one word of {}", words.join(", ")), &all)?;
    let found = words.iter().zip(values).find(|(word, _)| **word == text).map(|(_, value)| *value);
    if found.is_none() {
        let hint = nearest(text, words).map_or(all, |near| format!("did you mean `{near}`?"));
        walk.report(node, format!("`{text}` is not known here"), hint);
    }
    found
}
