//! `x-mcp-header`: arguments that a tool's schema wants mirrored in `Mcp-Param-*` headers.

use alloc::{format, rc::Rc, string::String, vec::Vec};

use super::{EraError, McpHeaders, header};
use crate::json::{ValueKind, View};

/// The annotation in a schema.
const ANNOTATION: &str = "x-mcp-header";
/// Bytes of all paths of one tool together: each call is held against every one of them.
const PATHS_BYTES_MAX: usize = 65_536;
/// The greatest integer that every double-based reader holds exactly: 2^53 - 1.
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// One annotated argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamHeader {
    /// What follows `Mcp-Param-` in the header's name.
    pub header: String,
    /// Member names that lead to the value, from `arguments` down.
    pub path: Vec<String>,
}

/// Why an annotation makes a tool invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamHeaderError {
    /// More of them, or longer paths, than are kept.
    #[error("`x-mcp-header` stands in more places, or deeper ones, than are mirrored")]
    Length,
    /// Not a non-empty token (RFC 9110).
    #[error("`x-mcp-header` is not a token")]
    Name,
    /// Not reached by `properties` alone.
    #[error("`x-mcp-header` is not reached by `properties` alone")]
    Place,
    /// Two annotations with names that are equal without regard to case.
    #[error("`x-mcp-header` names `{name}` twice")]
    Repeated {
        /// The name.
        name: String,
    },
    /// The argument is not declared a string, an integer or a boolean.
    #[error("`x-mcp-header` on something else than a string, an integer or a boolean")]
    Type,
}

/// A member name on the way to an argument; ways share what they have in common, since a name can be long.
struct Step {
    above: Way,
    name: String,
}

/// Where a schema stands below `arguments`; nothing at the root.
type Way = Option<Rc<Step>>;

/// The names from the root down.
fn names(mut way: &Way) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(step) = way {
        names.push(step.name.clone());
        way = &step.above;
    }
    names.reverse();
    names
}

/// Bytes of the names, each with its end.
fn length(mut way: &Way) -> usize {
    let mut bytes = 0_usize;
    while let Some(step) = way {
        bytes = bytes.saturating_add(step.name.len()).saturating_add(1);
        way = &step.above;
    }
    bytes
}

impl ParamHeader {
    /// The annotated arguments of an input schema, sorted by path.
    ///
    /// # Errors
    /// An annotation that the specification calls invalid; the whole tool is then invalid.
    pub fn from_schema(schema: &View<'_>) -> Result<Vec<Self>, ParamHeaderError> {
        let (mut found, mut bytes) = (Vec::<Self>::new(), 0_usize);
        // Schemas to look at, with the way where only `properties` leads there.
        let mut schemas = alloc::vec![(*schema, Some(Way::None))];
        while let Some((schema, way)) = schemas.pop() {
            for (keyword, value) in schema.members() {
                match keyword.as_ref() {
                    ANNOTATION => {
                        let way = way.as_ref().filter(|way| way.is_some()).ok_or(ParamHeaderError::Place)?;
                        let header = annotation(&schema, &value)?;
                        bytes = bytes.saturating_add(header.len()).saturating_add(length(way));
                        if bytes > PATHS_BYTES_MAX {
                            return Err(ParamHeaderError::Length);
                        }
                        found.push(Self { header, path: names(way) });
                    }
                    "properties" => {
                        for (name, property) in value.members() {
                            let below = |above: &Way| {
                                Some(Rc::new(Step { above: above.clone(), name: name.into_owned() }))
                            };
                            schemas.push((property, way.as_ref().map(below)));
                        }
                    }
                    "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                        schemas.extend(value.members().map(|(_, schema)| (schema, None)));
                    }
                    // Data, not schemas: what looks like an annotation there is none.
                    "const" | "default" | "enum" | "examples" => {}
                    _ if value.kind() == ValueKind::Array => {
                        schemas.extend(value.elements().map(|schema| (schema, None)));
                    }
                    _ => schemas.push((value, None)),
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let mut names: Vec<String> = found.iter().map(|one| one.header.to_ascii_lowercase()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(a.clone()),
            _ => None,
        });
        twice.map_or(Ok(found), |name| Err(ParamHeaderError::Repeated { name }))
    }
}

/// The header name of an annotation that is valid where it stands.
fn annotation(schema: &View<'_>, value: &View<'_>) -> Result<String, ParamHeaderError> {
    let name = value.as_str().ok_or(ParamHeaderError::Name)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(ParamHeaderError::Name);
    }
    let declared = schema.get("type").and_then(|kind| kind.as_str()).ok_or(ParamHeaderError::Type)?;
    if !matches!(declared.as_ref(), "string" | "integer" | "boolean") {
        return Err(ParamHeaderError::Type);
    }
    Ok(name.into_owned())
}

/// Proves that each annotated argument is mirrored by its header, and that no annotated header comes without its
/// argument. Other `Mcp-Param-*` headers are nobody's business here.
///
/// # Errors
/// The first header that is missing, superfluous, repeated, malformed or in disagreement.
pub fn agree_params(
    annotated: &[ParamHeader],
    headers: &McpHeaders<'_>,
    arguments: Option<View<'_>>,
) -> Result<(), EraError> {
    for ParamHeader { header: name, path } in annotated {
        let mut sent = headers.params.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        let header = sent.next().map(|(_, value)| *value);
        if sent.next().is_some() {
            return Err(EraError::mismatch(format!("`Mcp-Param-{name}` is repeated")));
        }
        let value = path.iter().try_fold(arguments, |view, step| Some(view?.get(step)));
        let value = value.flatten().filter(|value| !value.is_null());
        match (header, value) {
            (None, None) => {}
            (None, Some(_)) => return Err(EraError::mismatch(format!("`Mcp-Param-{name}` is missing"))),
            (Some(_), None) => {
                return Err(EraError::mismatch(format!("`Mcp-Param-{name}` comes without its argument")));
            }
            (Some(header), Some(value)) => {
                let text = header::decode(header);
                if !text.is_some_and(|text| mirrors(&text, &value)) {
                    return Err(EraError::mismatch(format!(
                        "`Mcp-Param-{name}` disagrees with its argument"
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Whether a decoded header says the same as an argument.
fn mirrors(header: &str, value: &View<'_>) -> bool {
    match value.kind() {
        ValueKind::String => value.is_str(header),
        ValueKind::Bool => value.raw() == header.as_bytes(),
        ValueKind::Number => {
            let own = core::str::from_utf8(value.raw()).ok().and_then(safe_integer);
            own.is_some() && own == safe_integer(header)
        }
        ValueKind::Array | ValueKind::Null | ValueKind::Object => false,
    }
}

/// The integer that a number text stands for (`42`, `42.0`), within what a double holds exactly.
fn safe_integer(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b'e' | b'E' | b'+'));
    let value: f64 = text.parse().ok().filter(|_| plain)?;
    if !(-SAFE_INTEGER_MAX..=SAFE_INTEGER_MAX).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the safe range; a fraction is found by the next line"
    )]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "within the safe range")]
    let same = whole as f64 == value;
    same.then_some(whole)
}
