//! Settings that are plain values: booleans, numbers, text, paths, addresses, URLs, and lists and maps of them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde_json::json;
use url::Url;

use super::{
    decode::{Setting, Shape, Walk},
    yaml::{Node, Value},
};

impl Setting for bool {
    fn shape() -> Shape {
        Shape::Boolean
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => {
                Some(true)
            }
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
                Some(false)
            }
            Value::List(_) | Value::Map(_) | Value::Null | Value::Scalar { .. } => {
                walk.expected(node, "`true` or `false`", "write `true` or `false`, without quotes");
                None
            }
        }
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self))
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Setting for Bounded<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Integer { min: MIN, max: MAX }
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        integer(node, walk, MIN, MAX).map(Self)
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self.0))
    }
}

/// Reads a whole number of `min..=max`.
pub(crate) fn integer(node: &Node, walk: &mut Walk, min: u64, max: u64) -> Option<u64> {
    let hint = format!("write a whole number from {min} to {max}");
    let Value::Scalar { text, plain: true } = &node.value else {
        walk.expected(node, "a whole number", &hint);
        return None;
    };
    // YAML readers agree on digits alone; `1_000`, `0x10` and `1e3` mean different things to different ones.
    match text.parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Some(value),
        Ok(value) => {
            walk.report(node, format!("{value} is out of range"), hint);
            None
        }
        Err(_) => {
            walk.report(node, format!("`{text}` is not a whole number"), hint);
            None
        }
    }
}

impl Setting for String {
    fn shape() -> Shape {
        Shape::Text("text")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, plain } if !*plain || node.describe() == "text" => {
                if text.chars().any(char::is_control) {
                    walk.report(
                        node,
                        "contains a control character",
                        "remove line breaks, tabs and other control characters",
                    );
                    return None;
                }
                Some(text.clone())
            }
            Value::List(_) | Value::Map(_) | Value::Null | Value::Scalar { .. } => {
                walk.expected(
                    node,
                    "text",
                    "write text; put it in quotes where it looks like a number or a boolean",
                );
                None
            }
        }
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self))
    }
}

impl Setting for PathBuf {
    fn shape() -> Shape {
        Shape::Text("path")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        if text.is_empty() {
            walk.report(node, "the path is empty", "write a path, relative to this file or absolute");
            return None;
        }
        Some(walk.base.join(text))
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self))
    }
}

impl Setting for SocketAddr {
    fn shape() -> Shape {
        Shape::Text("address")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let hint = "write an IP address and a port, like `127.0.0.1:7300` or `[::1]:7300`";
        let text = walk.scalar(node, "an address", hint)?;
        let address = text.replacen("localhost:", "127.0.0.1:", 1).parse().ok();
        if address.is_none() {
            walk.report(node, format!("`{text}` is not an address"), hint);
        }
        address
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self.to_string()))
    }
}

impl Setting for Url {
    fn shape() -> Shape {
        Shape::Text("url")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let hint = "write a whole URL, like `https://tools.example/mcp`";
        let text = walk.scalar(node, "a URL", hint)?;
        match Self::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                walk.report(
                    node,
                    format!("the scheme `{}` is not supported", url.scheme()),
                    "use `https://` or `http://`",
                );
                None
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                walk.report(
                    node,
                    "a URL must not carry a user name or password",
                    "put credentials into `headers`, as `env:NAME` or `file:PATH`",
                );
                None
            }
            Ok(url) if url.fragment().is_some() => {
                walk.report(node, "a URL must not carry a fragment here", "remove the `#…`");
                None
            }
            Ok(url) => Some(url),
            Err(error) => {
                walk.report(node, format!("not a URL: {error}"), hint);
                None
            }
        }
    }
}

impl<T: Setting> Setting for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        T::read(node, walk).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn json(&self) -> Option<serde_json::Value> {
        self.as_ref().and_then(T::json)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let Value::List(items) = &node.value else {
            walk.expected(node, "a list", "write `[first, second]`, or one `- item` per line");
            return None;
        };
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| walk.enter(format!("[{index}]"), |walk| T::read(item, walk)))
            .collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn json(&self) -> Option<serde_json::Value> {
        self.iter().map(T::json).collect::<Option<Vec<_>>>().map(serde_json::Value::Array)
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let read: Vec<Option<(String, T)>> = walk
            .pairs(node)?
            .iter()
            .map(|(key, value)| {
                walk.key(&key.text, |walk| T::read(value, walk)).map(|value| (key.text.clone(), value))
            })
            .collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}
