//! YAML text to a tree that remembers where everything stands, within bounds: no anchors, aliases or tags (so no
//! text can grow while it is read), one document, limited size, depth and number of nodes.

pub mod mistake;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use mistake::{ConfigMistake, Place};

/// Bytes of one configuration file.
const FILE_BYTES_MAX: usize = 1_048_576;
/// Nesting of mappings and lists.
const DEPTH_MAX: usize = 16;
/// Scalars, mappings and lists in one file.
const NODES_MAX: usize = 10_000;
/// Mistakes of form reported before reading stops.
const MISTAKES_MAX: usize = 100;

/// One value with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What is written there. Scalars keep their text: the key they belong to decides what they mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
    /// Nothing, `~` or `null`.
    Null,
    /// Anything else.
    Scalar {
        /// As it is written, without quotes.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
    },
}

/// A key of a mapping with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Where it begins.
    pub at: Place,
    /// The key.
    pub text: String,
}

impl Node {
    /// What an empty file means.
    #[must_use]
    pub const fn empty() -> Self {
        Self { at: Place::START, value: Value::Map(Vec::new()) }
    }

    /// The value under `key`, where this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<(&Key, &Self)> {
        match &self.value {
            Value::Map(pairs) => pairs.iter().find(|(k, _)| k.text == key).map(|(k, v)| (k, v)),
            Value::List(_) | Value::Null | Value::Scalar { .. } => None,
        }
    }

    /// What kind of value this is, in words for messages.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Null => "nothing",
            Value::Scalar { plain: true, text } => match text.as_str() {
                "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "a boolean",
                number if number.parse::<f64>().is_ok() => "a number",
                _ => "text",
            },
            Value::Scalar { plain: false, .. } => "text",
        }
    }
}

/// Reads `text`; all mistakes of form at once, as far as the parser can go on.
///
/// # Errors
/// Each mistake with its place: what is no YAML, what is not accepted of it, what is too large or too deep.
pub fn parse(text: &str) -> Result<Node, Vec<ConfigMistake>> {
    if text.len() > FILE_BYTES_MAX {
        return Err(vec![ConfigMistake::new(
            Place::START,
            "",
            format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len()),
            "move parts of it to policy files (`policies:`)",
        )]);
    }
    let mut builder = Builder::default();
    for step in Parser::new_from_str(text) {
        match step {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let mark = error.marker();
                let at = Place::new(mark.line(), mark.col());
                builder.report(
                    at,
                    format!("not well-formed YAML: {}", error.info()),
                    "check indentation, quotes and brackets here",
                );
                return Err(builder.mistakes);
            }
        }
        if builder.stopped {
            break;
        }
    }
    if builder.mistakes.is_empty() {
        Ok(builder.root.unwrap_or(Node::empty()))
    } else {
        Err(builder.mistakes)
    }
}

/// A collection under construction.
#[derive(Debug)]
enum Open {
    List(Place, Vec<Node>),
    Map(Place, Vec<(Key, Node)>, Option<Key>),
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    mistakes: Vec<ConfigMistake>,
    nodes: usize,
    documents: usize,
    stopped: bool,
}

impl Builder {
    fn report(&mut self, at: Place, message: impl Into<String>, hint: &str) {
        self.mistakes.push(ConfigMistake::new(at, self.path(), message, hint));
        self.stopped |= self.mistakes.len() >= MISTAKES_MAX;
    }

    /// The key path of what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for level in &self.open {
            match level {
                Open::List(_, items) => path.push_str(&format!("[{}]", items.len())),
                Open::Map(_, _, Some(key)) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                }
                Open::Map(_, _, None) => {}
            }
        }
        path
    }

    fn take(&mut self, event: Event<'_>, span: Span) {
        let at = Place::new(span.start.line(), span.start.col());
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.report(
                        at,
                        "more than one document in the file",
                        "remove the `---` line and what follows it",
                    );
                    self.stopped = true;
                }
            }
            Event::Alias(_) => {
                self.report(at, "aliases are not supported", "write the value out where it is used");
                self.add(Node { at, value: Value::Null });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_decoration(at, anchor, tag.is_some());
                let plain = matches!(style, ScalarStyle::Plain);
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    _ => Value::Scalar { text: text.into_owned(), plain },
                };
                self.add(Node { at, value });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_decoration(at, anchor, tag.is_some());
                self.push(Open::List(at, Vec::new()), at);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_decoration(at, anchor, tag.is_some());
                self.push(Open::Map(at, Vec::new(), None), at);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(at, items)) => self.add(Node { at, value: Value::List(items) }),
                Some(Open::Map(at, pairs, _)) => self.add(Node { at, value: Value::Map(pairs) }),
                None => {}
            },
        }
    }

    fn refuse_decoration(&mut self, at: Place, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.report(at, "anchors are not supported", "write the value out where it is used");
        }
        if tagged {
            self.report(at, "tags are not supported", "remove the `!…`");
        }
    }

    fn push(&mut self, level: Open, at: Place) {
        if self.open.len() >= DEPTH_MAX {
            self.report(
                at,
                format!("nested more than {DEPTH_MAX} levels deep"),
                "no setting needs that depth",
            );
            self.stopped = true;
        }
        self.open.push(level);
    }

    fn add(&mut self, node: Node) {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.report(
                node.at,
                format!("more than {NODES_MAX} values in the file"),
                "move parts of it to policy files",
            );
            self.stopped = true;
            return;
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, pairs, waiting)) => match waiting.take() {
                Some(key) => {
                    if pairs.iter().any(|(other, _)| other.text == key.text) {
                        let (at, text) = (key.at, key.text.clone());
                        *waiting = Some(key);
                        self.report(at, format!("`{text}` is given twice"), "keep one of the two");
                        if let Some(Open::Map(_, _, waiting)) = self.open.last_mut() {
                            *waiting = None;
                        }
                        return;
                    }
                    pairs.push((key, node));
                }
                None => match node.value {
                    Value::Scalar { text, .. } => *waiting = Some(Key { at: node.at, text }),
                    Value::List(_) | Value::Map(_) | Value::Null => {
                        *waiting = Some(Key { at: node.at, text: String::from("?") });
                        self.report(node.at, "a key must be text", "write `key: value`");
                    }
                },
            },
        }
    }
}
