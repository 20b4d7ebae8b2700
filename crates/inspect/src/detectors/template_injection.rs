//! Template injection: expressions that a template engine would run.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "template_injection",
    doc: "Expressions of template engines that compute or call something, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

const OPENINGS: &[(&str, &str)] = &[
    ("{{", "}}"),
    ("${", "}"),
    ("#{", "}"),
    ("*{", "}"),
    ("@{", "}"),
    ("~{", "}"),
    ("{%", "%}"),
    ("<%", "%>"),
    ("[[", "]]"),
    ("[#", "]"),
    ("<#", ">"),
    ("{$", "}"),
    ("{php}", "{/php}"),
    ("#set(", ")"),
    ("$class.", ")"),
    ("@(", ")"),
    ("{@", "}"),
];

/// What reaches from an expression into the program round it.
const REACH: &[&str] = &[
    "__",
    "class",
    "config",
    "request",
    "self.",
    "os.",
    "subprocess",
    "popen",
    "system",
    "exec",
    "eval",
    "runtime",
    "process",
    "getenv",
    "environ",
    "import",
    "require(",
    "global",
    "builtins",
    "mro",
    "subclasses",
    "getclass",
    "forname",
    "java.",
    "freemarker",
    "smarty",
    "settings",
    "session",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
    "file",
    "passwd",
    "dump(",
    "app.",
    "_self",
    "constructor",
    "prototype",
    "this",
    "root.",
    "?new(",
    "t(",
    "debug",
    "secret",
    "version",
    "payload",
    "include",
    "print",
    "sleep",
    "ioutils",
    "attr",
];

/// Expressions of one kind that are read.
const OPENINGS_MAX: usize = 24;
/// Bytes of an expression that are read.
const EXPRESSION_BYTES_MAX: usize = 600;

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let mut best = 0;
    for (open, close) in OPENINGS {
        let mut from = 0;
        for _ in 0..OPENINGS_MAX {
            let Some(at) = find(text, from, open) else { break };
            let inner = at + open.len();
            let near = text.get(..text.len().min(inner + EXPRESSION_BYTES_MAX)).unwrap_or_default();
            let end = find(near, inner, close).unwrap_or(near.len().min(inner + 200));
            best = best.max(expression(open, text.get(inner..end).unwrap_or_default()));
            from = inner;
            if best >= 900 {
                return if argument.is_prose() && argument.is_long() { best / 3 } else { best };
            }
        }
    }
    if argument.is_long() { best / 2 } else { best }
}

fn find(text: &[u8], from: usize, needle: &str) -> Option<usize> {
    memchr::memmem::find(text.get(from..)?, needle.as_bytes()).map(|at| from + at)
}

/// How sure an expression is more than a place for a value.
fn expression(open: &str, inner: &[u8]) -> u16 {
    let has = |sign: u8| memchr::memchr(sign, inner).is_some();
    let reach = REACH.iter().any(|word| memchr::memmem::find(inner, word.as_bytes()).is_some());
    let shell = open == "${" && !has(b'(') && !has(b'.') && !has(b'*');
    let calls = has(b'(') && has(b')');
    let operators = [b'*', b'+', b'-', b'/'].iter().any(|sign| computes(inner, *sign));
    let single = matches!(open, "[[" | "@(" | "[#" | "@{" | "~{");
    match (reach, calls, operators) {
        // A variable of a shell, a place in a file.
        _ if shell && !operators => 100,
        (true, true, _) => 950,
        (_, _, true) => 900,
        (true, ..)
            if matches!(
                open,
                "{$" | "{{" | "${" | "#{" | "<#" | "<%" | "{%" | "[#" | "{php}" | "*{" | "#set(" | "$class."
            ) =>
        {
            800
        }
        (_, true, _) if !single => 750,
        _ if matches!(open, "{%" | "<%" | "<#" | "#set(" | "{php}" | "$class.") => 600,
        _ if open == "{{" => 150,
        _ => 0,
    }
}

/// Numbers, or a quoted text and a number, with a sign between them: `7*7`, `7*'7'`.
fn computes(inner: &[u8], sign: u8) -> bool {
    let literal = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'\'' | b'"' | b')'))
    };
    inner.iter().enumerate().filter(|(_, byte)| **byte == sign).any(|(at, _)| {
        let before = inner.get(..at).unwrap_or_default().trim_ascii_end();
        let after = inner.get(at + 1..).unwrap_or_default().trim_ascii_start();
        literal(before.last()) && (literal(after.first()) || after.first() == Some(&b'('))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_expressions_that_compute_or_call() {
        for text in [
            "{{7*7}}",
            "{{7*'7'}}",
            "${7*7}",
            "#{3*3}",
            "<%= 7 * 7 %>",
            "{{config.items()}}",
            "{{''.__class__.__mro__[1].__subclasses__()}}",
            "${T(java.lang.Runtime).getRuntime().exec('id')}",
            "{% for x in ().__class__.__base__.__subclasses__() %}{%endfor%}",
            "<#assign ex = \"freemarker.template.utility.Execute\"?new()>${ ex(\"id\")}",
            "{$smarty.version}",
            "{{constructor.constructor('alert(1)')()}}",
        ] {
            attacks("template_injection", "name", text);
        }
    }

    #[test]
    fn leaves_places_for_values_and_variables_of_shells() {
        for text in [
            "Hello {{name}}",
            "${HOME}/bin",
            "{\"a\": {\"b\": 1}}",
            "[[wiki link]]",
            "#{tag}",
            "a < b > c",
            "{{ user.name }}",
        ] {
            harmless("template_injection", "name", text);
        }
    }
}
