//! Whether a URI is an instance of a URI template (RFC 6570). Servers choose how they match; this is the widest
//! reading that keeps literals fixed and lets a simple expression hold no `/`.

use alloc::{vec, vec::Vec};

/// Bytes of a URI, and of a template, beyond which neither is looked at: the work grows with the product of both, and a
/// caller's URI is held against every template of a server.
const BYTES_MAX: usize = 8_192;

/// Whether `uri` can come from `template`. Linear in the product of their lengths at worst.
#[must_use]
pub fn matches(template: &str, uri: &str) -> bool {
    if uri.len() > BYTES_MAX || template.len() > BYTES_MAX || climbs(uri) {
        return false;
    }
    let Some(parts) = parse(template) else { return false };
    // Which offsets of the URI the parts so far can reach.
    let bytes = uri.as_bytes();
    let mut reach = vec![false; bytes.len() + 1];
    if let Some(first) = reach.first_mut() {
        *first = true;
    }
    for part in parts {
        let mut next = vec![false; bytes.len() + 1];
        let mut open = false;
        for at in 0..=bytes.len() {
            let here = reach.get(at).copied().unwrap_or(false);
            match &part {
                Part::Literal(text) => {
                    let fits = here && bytes.get(at..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
                    if let Some(slot) = next.get_mut(at + text.len()).filter(|_| fits) {
                        *slot = true;
                    }
                }
                Part::Hole { slashes, empty } => {
                    if let Some(slot) = next.get_mut(at) {
                        *slot = open || (here && *empty);
                    }
                    open |= here;
                    open &= *slashes || bytes.get(at) != Some(&b'/');
                }
            }
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

/// Whether a segment of the path is `.` or `..`, also percent-encoded, or parted by a backslash. Policy judges the text
/// of the URI, most servers what is left of it when such segments are resolved (RFC 3986 section 5.2.4).
fn climbs(uri: &str) -> bool {
    let path = uri.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let plain = path.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

enum Part<'a> {
    Literal(&'a str),
    Hole { slashes: bool, empty: bool },
}

fn parse(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let (expression, after) = after.split_once('}')?;
        let operator = expression.bytes().next()?;
        // Reserved, fragment, path and exploded expansions may hold slashes; queries may be empty altogether.
        let slashes = matches!(operator, b'+' | b'#' | b'/' | b'?' | b'&') || expression.ends_with('*');
        let empty = matches!(operator, b'?' | b'&' | b'#' | b'/' | b';' | b'.');
        parts.push(Part::Hole { slashes, empty });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String};

    use super::matches;

    #[test]
    fn a_uri_matches_its_template_and_nothing_beside_it() {
        for (template, uri, expected) in [
            ("test://t/{id}/data", "test://t/12/data", true),
            ("test://t/{id}/data", "test://t/1/2/data", false),
            ("test://t/{id}/data", "test://t//data", false),
            ("test://t/{id}/data", "test://t/12/dat", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{path*}", "file:///a/b/c", true),
            ("x://{a}-{b}", "x://1-2-3", true),
            ("x://s{?q}", "x://s", true),
            ("x://s{?q}", "x://s?q=1", true),
            ("x://{", "x://{", false),
            ("file:///pub/{+path}", "file:///pub/a..b/.c/...", true),
            ("file:///pub/{+path}", "file:///pub/../secret", false),
            ("file:///pub/{+path}", "file:///pub/a/..", false),
            ("file:///pub/{path}", "file:///pub/..%2Fsecret", false),
            ("file:///pub/{path}", "file:///pub/%2e%2E%5csecret", false),
            ("file:///pub/{path}", "file:///pub/..\\secret", false),
            ("x://s{?q}", "x://s?q=../..", true),
            ("x://a", "x://a", true),
            ("x://a", "x://b", false),
        ] {
            assert_eq!(matches(template, uri), expected, "{template} {uri}");
        }
        let long = |bytes: usize| -> String { format!("x://{}", "a".repeat(bytes)) };
        assert!(matches("x://{a}", &long(8_000)) && !matches("x://{a}", &long(9_000)));
    }
}
