//! Which argument is meant: a name, or a JSON pointer (RFC 6901) with `*` for every member or element.

use alloc::{borrow::ToOwned, format, string::String, vec, vec::Vec};
use core::str::FromStr;

use portcullis_mcp::json::{ValueKind, View};

/// Steps of a pointer.
const STEPS_MAX: usize = 16;

/// Where a parameter lies in the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Every,
    /// A name with case folded, and as it was written.
    Named(String, String),
}

impl FromStr for Pointer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let Some(pointer) = text.strip_prefix('/') else {
            return if text.is_empty() {
                Err("names no parameter")
            } else {
                Ok(Self(vec![Step::named(text)]))
            };
        };
        let steps: Vec<Step> = pointer
            .split('/')
            .map(|step| {
                if step == "*" {
                    Step::Every
                } else {
                    Step::named(&step.replace("~1", "/").replace("~0", "~"))
                }
            })
            .collect();
        if steps.len() > STEPS_MAX {
            return Err("is too deep a pointer");
        }
        let whole = steps.iter().all(|step| !matches!(step, Step::Named(_, name) if name.is_empty()));
        if whole { Ok(Self(steps)) } else { Err("has an empty step") }
    }
}

impl Step {
    fn named(name: &str) -> Self {
        Self::Named(folded(name), name.to_owned())
    }
}

/// Case folded as readers do that ignore case: `ſ` and the Kelvin sign are letters to them.
fn folded(name: &str) -> String {
    name.replace('\u{17f}', "s").replace('\u{212a}', "k").to_lowercase()
}

impl Pointer {
    /// Calls `judge` with the place and value of everything that this names in `arguments`, and without a value where
    /// something stands that could hold it and cannot be looked into.
    pub(crate) fn visit<'a>(&self, arguments: View<'a>, judge: &mut dyn FnMut(String, Option<View<'a>>)) {
        descend(&self.0, arguments, String::new(), judge);
    }
}

fn descend<'a>(
    steps: &[Step],
    value: View<'a>,
    place: String,
    judge: &mut dyn FnMut(String, Option<View<'a>>),
) {
    let Some((step, rest)) = steps.split_first() else {
        return if value.kind() == ValueKind::Array {
            elements(steps, value, &place, judge);
        } else {
            judge(place, Some(value));
        };
    };
    match (value.kind(), step) {
        (ValueKind::Object, _) => {
            for (name, member) in value.members() {
                // Some servers ignore case.
                if matches!(step, Step::Named(wanted, _) if folded(&name) != *wanted) {
                    continue;
                }
                let escaped = name.replace('~', "~0").replace('/', "~1");
                descend(rest, member, format!("{place}/{escaped}"), judge);
            }
        }
        (ValueKind::Array, Step::Every) => elements(rest, value, &place, judge),
        (ValueKind::Array, Step::Named(_, index)) => match index.parse::<usize>() {
            Ok(index) => {
                if let Some(element) = value.elements().nth(index) {
                    descend(rest, element, format!("{place}/{index}"), judge);
                }
            }
            // Where a structure is awaited, each of several is looked into.
            Err(_) => elements(steps, value, &place, judge),
        },
        (ValueKind::Null, _) => {}
        (ValueKind::Bool | ValueKind::Number | ValueKind::String, _) => judge(place, None),
    }
}

fn elements<'a>(
    steps: &[Step],
    array: View<'a>,
    place: &str,
    judge: &mut dyn FnMut(String, Option<View<'a>>),
) {
    for (index, element) in array.elements().enumerate() {
        descend(steps, element, format!("{place}/{index}"), judge);
    }
}
