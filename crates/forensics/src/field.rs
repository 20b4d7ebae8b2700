//! The fields by which entries are found: what each is called, where it stands in an entry, and when a value is the one
//! that is looked for. One row each; filters of the command line, the admin API and the index follow from the table.

use serde_json::Value;

/// How values of a field are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// The whole value; a trailing `*` stands for any rest.
    Name,
    /// As names of classes, like `call.refused`; with `|` between several, one of which it is.
    Names,
    /// As a name, or one word of it.
    Words,
    /// A digest, with or without `sha256:`, or its first eight digits and more.
    Hex,
    /// A trace id (W3C), alone or within its header.
    Trace,
}

/// Letters and digits of a value that its token has. Longer values share a token, and are told apart when they are read.
const TOKEN_CHARS: usize = 40;
/// Digits of a digest that its token has.
const HEX_CHARS: usize = 16;
/// Digits of a digest that are enough to look for.
const HEX_MIN: usize = 8;

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $variant:ident $letter:literal $name:literal $compared:ident [$($pointer:literal),+];)+) => {
        /// What entries are found by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $($(#[doc = $doc])+ $variant),+ }

        impl Field {
            /// Every field, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in questions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What its tokens begin with.
            const fn letter(self) -> char {
                match self { $(Self::$variant => $letter),+ }
            }

            const fn compared(self) -> Compared {
                match self { $(Self::$variant => Compared::$compared),+ }
            }

            /// Where it stands; `*` is every item of a list.
            const fn pointers(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($pointer),+]),+ }
            }
        }
    };
}

fields! {
    /// The event, like `call.refused`; `call.*` is every event of calls, `kill.*|grant.*` those of either.
    Event 'e' "event" Names ["event"];
    /// Id of who asked, or of whom an entry is about; a whole word of it will do.
    Caller 'c' "caller" Words ["actor/id", "data/caller", "data/owner", "data/actors/*"];
    /// The server.
    Server 's' "server" Name ["target/server", "data/server"];
    /// Name of the tool, prompt or resource.
    Tool 'i' "tool" Name ["target/name"];
    /// What the message asked for, like `call_tool`.
    Action 'a' "action" Name ["action"];
    /// The method of the message.
    Method 'm' "method" Name ["method"];
    /// Code of the refusal.
    Code 'o' "code" Names ["code", "data/code"];
    /// What policy decided: `allow` or `deny`.
    Decision 'd' "decision" Name ["decision/effect"];
    /// Id of a policy that decided.
    Policy 'p' "policy" Name ["decision/policies/*"];
    /// Role that the caller had.
    Role 'j' "role" Name ["actor/roles/*"];
    /// Kind of a finding, like `payment_card`.
    Finding 'f' "finding" Name ["findings/*/kind"];
    /// How grave a finding is: `info`, `low`, `medium`, `high` or `critical`.
    Severity 'g' "severity" Name ["findings/*/severity"];
    /// Digest of what was found, the same wherever it was found.
    Evidence 'h' "evidence" Hex ["findings/*/evidence"];
    /// Trace id (W3C), or the whole header.
    Trace 't' "trace" Trace ["trace"];
    /// Digest of the session.
    Session 'n' "session" Hex ["session"];
    /// Digest of the definition that was used, pinned or changed: the version of a tool or model.
    Definition 'v' "definition" Hex ["target/digest", "data/digest"];
    /// Digest of the message that came in, arguments included.
    Input 'r' "input" Hex ["input/digest"];
    /// Digest of the answer.
    Output 'u' "output" Hex ["output/digest"];
    /// Digest of the rules in force.
    Rules 'l' "rules" Hex ["rules"];
    /// Digest of the token or certificate that proved who asked.
    Token 'k' "token" Hex ["actor/token"];
    /// Id of the approval.
    Approval 'q' "approval" Name ["data/approval"];
    /// Address the message came from.
    Source 'x' "source" Name ["source"];
}

impl Field {
    /// The field of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Its values in an entry.
    #[must_use]
    pub fn values(self, entry: &Value) -> Vec<&str> {
        let mut out = Vec::new();
        for pointer in self.pointers() {
            follow(entry, pointer, &mut out);
        }
        out
    }

    /// What is wrong with a value that is looked for, and what would be right.
    pub(crate) fn check(self, wanted: &str) -> Result<(), (String, &'static str)> {
        let name = self.name();
        let no = |what: &str, hint| {
            Err((format!("`{name}` is {what}, `{}` is none", wanted.escape_default()), hint))
        };
        match self.compared() {
            _ if wanted.is_empty() => Err((format!("`{name}` is empty"), "leave it out")),
            Compared::Hex if bare(wanted).len() < HEX_MIN || !is_hex(bare(wanted)) => {
                no("a digest", "write `sha256:` and its digits, the first eight at least")
            }
            Compared::Trace if trace_id(wanted).len() != 32 || !is_hex(trace_id(wanted)) => {
                no("a trace id", "write 32 hex digits, or the whole `traceparent`")
            }
            Compared::Name | Compared::Names | Compared::Words | Compared::Hex | Compared::Trace => Ok(()),
        }
    }

    /// Whether a value is the one that is looked for.
    pub(crate) fn is(self, value: &str, wanted: &str) -> bool {
        match self.compared() {
            Compared::Name => named(value, wanted),
            Compared::Names => wanted.split('|').any(|wanted| named(value, wanted)),
            Compared::Words => named(value, wanted) || words_of(value).any(|word| word == wanted),
            Compared::Hex => {
                let (value, wanted) = (bare(value), bare(wanted));
                value.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted))
            }
            Compared::Trace => trace_id(value).eq_ignore_ascii_case(trace_id(wanted)),
        }
    }

    /// The tokens under which an entry with this value is found.
    pub(crate) fn tokens(self, value: &str, mut token: impl FnMut(String)) {
        match self.compared() {
            Compared::Name => token(self.token(squashed(value))),
            Compared::Names => {
                token(self.token(squashed(value)));
                if let Some((class, _)) = value.split_once('.') {
                    token(self.class(class));
                }
            }
            Compared::Words => {
                let whole = self.token(squashed(value));
                for word in words_of(value).map(|word| self.token(squashed(word))) {
                    if word != whole {
                        token(word);
                    }
                }
                token(whole);
            }
            Compared::Hex => token(self.token(squashed(bare(value)).take(HEX_CHARS))),
            Compared::Trace => token(self.token(squashed(trace_id(value)).take(HEX_CHARS))),
        }
    }

    /// What to look for in the index: every entry with the value is under it, and few others. `None` where the index
    /// cannot help.
    pub(crate) fn sought(self, wanted: &str) -> Option<String> {
        let (start, open) = match self.compared() {
            Compared::Names if wanted.contains('|') => {
                let each = wanted.split('|').map(|wanted| self.sought(wanted)).collect::<Option<Vec<_>>>()?;
                return Some(format!("({})", each.join(" OR ")));
            }
            // A class has a token of its own: to go through all that begin with it would take long.
            Compared::Names if wanted.strip_suffix(".*").is_some_and(|class| !class.contains(['.', '*'])) => {
                let class = self.class(wanted.strip_suffix(".*").unwrap_or_default());
                return Some(format!("\"{class}\""));
            }
            Compared::Name | Compared::Names | Compared::Words => match wanted.strip_suffix('*') {
                Some(start) => (squashed(start).collect::<String>(), true),
                None => (squashed(wanted).collect(), false),
            },
            Compared::Hex => {
                let digits: String = squashed(bare(wanted)).take(HEX_CHARS).collect();
                let open = digits.len() < HEX_CHARS;
                (digits, open)
            }
            Compared::Trace => (squashed(trace_id(wanted)).take(HEX_CHARS).collect(), false),
        };
        if start.is_empty() && open {
            return None;
        }
        let star = if open { "*" } else { "" };
        Some(format!("\"{}\"{star}", self.token(start.chars())))
    }

    /// The token of all names that begin with `class` and a dot.
    fn class(self, class: &str) -> String {
        self.token("0".chars().chain(squashed(class)))
    }

    fn token(self, chars: impl Iterator<Item = char>) -> String {
        std::iter::once(self.letter()).chain(chars).collect()
    }
}

/// A name, or the beginning of one.
fn named(value: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value == wanted,
    }
}

fn words_of(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Letters and digits alone, in lower case. One after the other, so that the beginning of a value becomes the beginning
/// of its token.
fn squashed(value: &str) -> impl Iterator<Item = char> {
    value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(TOKEN_CHARS)
}

fn bare(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The id within a `traceparent`, or the text itself.
fn trace_id(trace: &str) -> &str {
    trace.split('-').nth(1).unwrap_or(trace)
}

/// Every text at a place.
fn follow<'v>(value: &'v Value, pointer: &str, out: &mut Vec<&'v str>) {
    let (step, rest) = match pointer.split_once('/') {
        Some((step, rest)) => (step, Some(rest)),
        None => (pointer, None),
    };
    let mut on = |value: &'v Value| match rest {
        Some(rest) => follow(value, rest, out),
        None => out.extend(value.as_str()),
    };
    match (step, value) {
        ("*", Value::Array(items)) => items.iter().for_each(on),
        (_, Value::Object(members)) => {
            if let Some(member) = members.get(step) {
                on(member);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn no_two_fields_share_a_letter_or_a_name_and_none_has_that_of_words() {
        let letters: BTreeSet<char> = Field::ALL.iter().map(|field| field.letter()).chain(['w']).collect();
        assert_eq!(letters.len(), Field::ALL.len() + 1);
        let names: BTreeSet<&str> = Field::ALL.iter().map(|field| field.name()).collect();
        assert_eq!(names.len(), Field::ALL.len());
        assert!(names.iter().all(|name| Field::named(name).is_some()));
    }

    #[test]
    fn values_are_found_where_they_stand_and_compared_as_their_field_is() {
        let entry = json!({
            "actor": {"id": "key:k3jd92", "roles": ["reader", "writer"]}, "event": "call.refused",
            "findings": [{"kind": "email", "severity": "low"}, {"kind": "iban"}],
            "input": {"digest": "sha256:0123456789abcdef00"}, "target": 7,
            "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        });
        for (field, wanted, fits) in [
            (Field::Event, "call.refused", true),
            (Field::Event, "call.*", true),
            (Field::Event, "call", false),
            (Field::Event, "*", true),
            (Field::Caller, "key:k3jd92", true),
            (Field::Caller, "k3jd92", true),
            (Field::Caller, "k3jd", false),
            (Field::Caller, "key:k3*", true),
            (Field::Role, "writer", true),
            (Field::Finding, "iban", true),
            (Field::Severity, "high", false),
            (Field::Input, "01234567", true),
            (Field::Input, "sha256:0123456789abcdef00", true),
            (Field::Input, "sha256:0123456789abcdef01", false),
            (Field::Server, "x", false),
            (Field::Trace, "0af7651916cd43dd8448eb211c80319c", true),
            (Field::Trace, "00-0AF7651916CD43DD8448EB211C80319C-0000000000000000-00", true),
        ] {
            let found = field.values(&entry).iter().any(|value| field.is(value, wanted));
            assert_eq!(found, fits, "{field:?} {wanted}");
        }
        for (field, wanted) in
            [(Field::Input, "0123"), (Field::Input, "none at all"), (Field::Trace, "abc"), (Field::Tool, "")]
        {
            assert!(field.check(wanted).is_err(), "{wanted}");
        }
    }
}
