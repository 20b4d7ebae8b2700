//! Reads one configuration file of a client: bounded, strict JSON, or JSON with comments where the client takes them.
//! A file in which a member stands twice is refused, since another reader may see another server in it.

use std::{collections::BTreeSet, io::Read as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use jsonc_parser::{CollectOptions, ParseOptions, ast, common::Ranged as _, parse_to_ast};
use serde_json::{Map, Value};

/// Bytes of one file. `~/.claude.json` also keeps a history and grows to megabytes.
pub const FILE_BYTES_MAX: u64 = 16_777_216;
/// Containers open at once.
const DEPTH_MAX: usize = 64;
/// Values in one file.
const VALUES_MAX: usize = 500_000;

/// How much more than JSON a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// JSON as in RFC 8259.
    Json,
    /// JSON with comments and trailing commas.
    Jsonc,
}

impl Dialect {
    /// For the parser.
    pub(crate) const fn options(self) -> ParseOptions {
        let more = matches!(self, Self::Jsonc);
        ParseOptions {
            allow_comments: more,
            allow_trailing_commas: more,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        }
    }
}

/// The bytes of a regular file, or why they are not read. A device, a pipe or an endless file cannot stall this.
///
/// # Errors
/// Why it is not read.
pub fn read_bytes(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    // A pipe that nobody writes to would block the opening itself.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = open.map_err(|error| format!("cannot be read: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err(String::from("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > max {
        return Err(format!("has more than {max} bytes"));
    }
    Ok(bytes)
}

/// The text of a file without its byte order mark.
pub fn read_text(path: &Path) -> Result<String, String> {
    let bytes = read_bytes(path, FILE_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| String::from("is not UTF-8 text"))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The value of a text.
pub fn parse(text: &str, dialect: Dialect) -> Result<Value, String> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &dialect.options())
        .map_err(|error| format!("is not well-formed: {error}"))?;
    let root = parsed.value.ok_or_else(|| String::from("is empty"))?;
    Reader { text, values: 0 }.value(&root, 0)
}

struct Reader<'t> {
    text: &'t str,
    values: usize,
}

impl Reader<'_> {
    fn value(&mut self, node: &ast::Value<'_>, depth: usize) -> Result<Value, String> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(format!("has more than {VALUES_MAX} values"));
        }
        if depth > DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} levels deep"));
        }
        Ok(match node {
            ast::Value::StringLit(text) => Value::String(text.value.to_string()),
            ast::Value::NumberLit(number) => serde_json::from_str(number.value)
                .map_err(|_| format!("has a number that is none{}", self.at(node)))?,
            ast::Value::BooleanLit(boolean) => Value::Bool(boolean.value),
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::Array(array) => {
                let elements = array.elements.iter().map(|element| self.value(element, depth + 1));
                Value::Array(elements.collect::<Result<_, _>>()?)
            }
            ast::Value::Object(object) => {
                let mut names = BTreeSet::new();
                let mut members = Map::new();
                for property in &object.properties {
                    let name = property.name.as_str();
                    if !names.insert(name) {
                        return Err(format!("has the member `{name}` twice{}", self.at(&property.value)));
                    }
                    members.insert(name.to_owned(), self.value(&property.value, depth + 1)?);
                }
                Value::Object(members)
            }
        })
    }

    fn at(&self, node: &ast::Value<'_>) -> String {
        let before = self.text.get(..node.start()).unwrap_or_default();
        format!(" in line {}", before.matches('\n').count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, parse};

    #[test]
    fn comments_and_trailing_commas_are_read_where_the_client_reads_them_and_nothing_else_is() {
        let commented = "{ // why\n \"a\": [1, 2,], /* and */ \"b\": \"//no\", }";
        let read = parse(commented, Dialect::Jsonc).unwrap();
        assert_eq!(read, serde_json::json!({"a": [1, 2], "b": "//no"}));
        assert!(parse(commented, Dialect::Json).is_err());
        for text in [
            "{a: 1}",
            "{'a': 1}",
            "{\"a\": 0x10}",
            "{\"a\": 1 \"b\": 2}",
            "",
            "{} {}",
            "{\"a\": NaN}",
            "{\"a\": .5}",
        ] {
            assert!(parse(text, Dialect::Jsonc).is_err(), "{text}");
        }
    }

    #[test]
    fn what_readers_could_see_differently_or_never_end_is_refused_with_its_line() {
        let twice = parse("{\"x\": {\n\"a\": 1,\n\"\\u0061\": 2}}", Dialect::Json).unwrap_err();
        assert!(twice.contains("`a` twice in line 3"), "{twice}");
        let deep = format!("{}1{}", "[".repeat(66), "]".repeat(66));
        assert!(parse(&deep, Dialect::Json).unwrap_err().contains("64 levels"));
        let deeper = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deeper, Dialect::Json).is_err());
        let many = format!("[{}1]", "1,".repeat(500_001));
        assert!(parse(&many, Dialect::Json).unwrap_err().contains("values"));
    }
}
