//! NoSQL injection: operators of a document store where a value is meant, and code for its `$where`.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "nosql_injection",
    doc: "Operators of document stores where a value is meant, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Operators that make a condition true or run code.
const OPERATORS: &[&str] = &[
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$nin",
    "$in",
    "$regex",
    "$exists",
    "$where",
    "$or",
    "$and",
    "$not",
    "$eq",
    "$expr",
    "$function",
    "$accumulator",
    "$lookup",
];

/// Those of them that run code on the server: no condition needs one.
const PROGRAMS: &[&str] = &["$where", "$function", "$accumulator"];

/// Parameters, or members of one, that hold a whole query of a document store.
const QUERIES: &str = "query|filter|pipeline|aggregat|where|match|selector|criteria|\
     condition|find|stage|predicate|lookup|expr";

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    if let Some(around) = argument.named_in()
        && let Ok(name) = core::str::from_utf8(argument.raw)
        && name.starts_with('$')
    {
        return score_of_member(name, around);
    }
    let operators = memchr::memchr_iter(b'$', text).any(|at| is_operator(text, at));
    let breaks = argument.has_any(&["';", "\";", "' ||", "'||", "\" ||", "\"||", "' &&", "'&&"]);
    let code = breaks && argument.has_any(&["return ", "this.", "sleep(", "function("]);
    let score = if operators || code { 800 } else { 0 };
    // A whole query where one is meant.
    if argument.is_query() || argument.is_prose() || argument.is_long() { score / 4 } else { score }
}

/// Of a member that is called like an operator, by what it stands in, the nearest first: `{"password":{"$ne":null}}` is
/// no password, `{"filter":{"age":{"$gt":18}}}` is a filter.
fn score_of_member<'a>(name: &str, mut around: impl Iterator<Item = &'a str>) -> u16 {
    let is_called = |part: &str, word: &str| {
        part.as_bytes().windows(word.len()).any(|piece| piece.eq_ignore_ascii_case(word.as_bytes()))
    };
    // What the protocol calls the place of arguments is no name of a parameter.
    let mut inside = around.by_ref().take_while(|part| !matches!(*part, "arguments" | "params"));
    let queried = inside.any(|part| QUERIES.split('|').any(|word| is_called(part, word)));
    match (OPERATORS.contains(&name), PROGRAMS.contains(&name)) {
        (true, false) if queried => 200,
        (true, _) => 800,
        (false, _) => 0,
    }
}

/// The name of an operator as that of a member: `"$ne":`, `[$ne]=`.
fn is_operator(text: &[u8], at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let before = at.checked_sub(1).and_then(|at| text.get(at));
    OPERATORS.iter().any(|operator| {
        let after = rest.get(operator.len()..).unwrap_or_default();
        rest.starts_with(operator.as_bytes())
            && match before {
                Some(b'[') => after.first() == Some(&b']'),
                Some(quote @ (b'"' | b'\'')) => after.first() == Some(quote),
                Some(b'{' | b' ' | b',') => after.trim_ascii_start().first() == Some(&b':'),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_operators_where_a_value_is_meant() {
        for text in [
            "{\"$ne\": null}",
            "username[$ne]=x&password[$gt]=",
            "{'$where': 'sleep(1000)'}",
            "'; return this.password == 'x' || '1'=='1",
            "{$gt: ''}",
        ] {
            attacks("nosql_injection", "user", text);
        }
    }

    #[test]
    fn catches_operators_that_are_members_of_a_value_and_leaves_those_of_a_query() {
        for (place, name) in [
            ("password/$ne", "$ne"),
            ("user/name/$regex", "$regex"),
            ("login/0/$gt", "$gt"),
            ("$where", "$where"),
            ("filter/$where", "$where"),
            ("username[$ne]", "username[$ne]"),
        ] {
            attacks("nosql_injection", place, name);
        }
        for (place, name) in [
            ("filter/age/$gt", "$gt"),
            ("pipeline/0/$match/age/$in", "$in"),
            ("userQuery/$or", "$or"),
            ("schema/$ref", "$ref"),
            ("$top", "$top"),
            ("document/$set", "$set"),
            // A value that only looks like the name of a member.
            ("currency", "$in"),
        ] {
            harmless("nosql_injection", place, name);
        }
    }

    #[test]
    fn leaves_prices_variables_and_whole_queries() {
        for text in ["it costs $net 5", "$HOME/in", "$in", "this.is fine", "$100"] {
            harmless("nosql_injection", "user", text);
        }
        harmless("nosql_injection", "query", "{\"age\": {\"$gt\": 18}}");
    }
}
