//! What a server says with a refusal (RFC 6750 section 3, RFC 9728 section 5.1): where its metadata is and which scopes
//! it wants.

/// Bytes of a challenge that are looked at.
const BYTES_MAX: usize = 8_192;
/// Scopes in one challenge.
const SCOPES_MAX: usize = 64;

/// The Bearer challenge of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Where the metadata of the resource is.
    pub(crate) resource_metadata: Option<String>,
    /// The scopes that the request needs.
    pub(crate) scopes: Vec<String>,
    /// What was wrong.
    pub(crate) error: Option<String>,
}

impl Challenge {
    /// The first Bearer challenge among the values of `WWW-Authenticate`.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        values.into_iter().filter(|value| value.len() <= BYTES_MAX).find_map(bearer).unwrap_or_default()
    }

    /// Whether the token is good and only its scopes are not enough.
    pub(crate) fn wants_more_scope(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }
}

/// Splits a list of scopes; what no scope can be called is left out (RFC 6749 section 3.3).
pub(crate) fn scopes(text: &str) -> Vec<String> {
    let is_scope = |scope: &&str| {
        !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    let mut scopes: Vec<String> = text.split(' ').filter(is_scope).map(str::to_owned).collect();
    scopes.truncate(SCOPES_MAX);
    scopes.sort();
    scopes.dedup();
    scopes
}

fn bearer(value: &str) -> Option<Challenge> {
    let mut rest = value;
    let (mut found, mut inside) = (Challenge::default(), false);
    let mut any = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = word(rest)?;
        if word.is_empty() {
            return any.then_some(found);
        }
        let next = after.trim_start_matches([' ', '\t']);
        match next.strip_prefix('=').filter(|_| !next.starts_with("==")) {
            Some(value) => {
                let (text, after) = quoted(value.trim_start_matches([' ', '\t']))?;
                rest = after;
                if inside {
                    found.take(word, text);
                }
            }
            None if any => return Some(found),
            None => {
                inside = word.eq_ignore_ascii_case("bearer");
                any = inside;
                rest = after;
            }
        }
    }
}

impl Challenge {
    /// The first value counts: two readers must not take different ones.
    fn take(&mut self, name: &str, text: String) {
        match name.to_ascii_lowercase().as_str() {
            "resource_metadata" if self.resource_metadata.is_none() => self.resource_metadata = Some(text),
            "scope" if self.scopes.is_empty() => self.scopes = scopes(&text),
            "error" if self.error.is_none() => self.error = Some(text),
            _ => {}
        }
    }
}

/// A token, and what follows it; nothing where there is a character that none holds.
fn word(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
    let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
    if end == 0 && !text.is_empty() {
        return None;
    }
    text.split_at_checked(end)
}

/// A value, with or without quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let (word, rest) = word(text)?;
        return Some((word.to_owned(), rest));
    };
    let (mut out, mut escaped) = (String::new(), false);
    for (at, c) in inner.char_indices() {
        if escaped {
            out.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '"' {
            return Some((out, inner.get(at + 1..)?));
        } else {
            out.push(c);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bearer_challenge_is_found_among_others_and_read_as_written() {
        let read = |values: &[&str]| Challenge::of(values.iter().copied());
        let whole = Challenge {
            resource_metadata: Some("https://a.example/x?y=1,2".into()),
            scopes: vec!["files:read".into(), "files:write".into()],
            error: Some("insufficient_scope".into()),
        };
        let text = r#"Bearer error="insufficient_scope", scope="files:write files:read", resource_metadata="https://a.example/x?y=1,2""#;
        assert_eq!(read(&[text]), whole);
        assert_eq!(read(&[&text.replace(", ", " , ").replace("Bearer", "bEARER")]), whole);
        assert_eq!(read(&[&format!("Basic realm=\"a, Bearer scope=x\", {text}")]), whole);
        assert_eq!(read(&["Basic realm=\"x\"", text]), whole);
        assert_eq!(read(&[&format!("{text}, DPoP algs=\"ES256\", scope=\"other\"")]), whole);
        assert!(whole.wants_more_scope());
        assert_eq!(read(&["Bearer scope=\"a\", scope=\"b\""]).scopes, ["a"]);
        assert_eq!(read(&[r#"Bearer error="in\"valid""#]).error.unwrap(), "in\"valid");
    }

    #[test]
    fn what_is_no_challenge_says_nothing_and_breaks_nothing() {
        for text in [
            "",
            "Bearer scope=\"never closed",
            "\"",
            "Basic",
            "Bearer é",
            "=",
            "Bearer =",
            ",,,",
            "Bearer a==b",
        ] {
            let read = Challenge::of([text]);
            assert!(read.resource_metadata.is_none() && read.scopes.is_empty(), "{text}");
        }
        assert_eq!(
            Challenge::of([&*format!("Bearer scope=\"{}\"", "a ".repeat(10_000))]),
            Challenge::default()
        );
        assert_eq!(scopes("a  b a \u{e9} \"x\" c"), ["a", "b", "c"]);
        assert_eq!(scopes(&(0..200).map(|n| format!("s{n} ")).collect::<String>()).len(), SCOPES_MAX);
    }
}
