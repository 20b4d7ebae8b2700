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

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let operators = memchr::memchr_iter(b'$', text).any(|at| is_operator(text, at));
    let breaks = argument.has_any(&["';", "\";", "' ||", "'||", "\" ||", "\"||", "' &&", "'&&"]);
    let code = breaks && argument.has_any(&["return ", "this.", "sleep(", "function("]);
    let score = if operators || code { 800 } else { 0 };
    // A whole query where one is meant.
    if argument.is_query() || argument.is_prose() || argument.is_long() { score / 4 } else { score }
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
    fn leaves_prices_variables_and_whole_queries() {
        for text in ["it costs $net 5", "$HOME/in", "$in", "this.is fine", "$100"] {
            harmless("nosql_injection", "user", text);
        }
        harmless("nosql_injection", "query", "{\"age\": {\"$gt\": 18}}");
    }
}
