//! LDAP injection: parentheses that end one filter and begin another.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "ldap_injection",
    doc: "Values that break out of an LDAP filter, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let whole = text.trim_ascii_start().first() == Some(&b'(');
    // Behind the second parenthesis an attribute and a sign that compares, or an operator of filters.
    let begins = memchr::memmem::find_iter(text, b")(").any(|at| {
        let rest = text.get(at + 2..).unwrap_or_default();
        let name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.');
        let length = rest.iter().take_while(name).count();
        let compares = matches!(rest.get(length..), Some([b'=', ..] | [b'>' | b'<' | b'~', b'=', ..]));
        (length >= 1 && compares) || matches!(rest.first(), Some(b'(' | b'&' | b'|' | b'!'))
    });
    let score = match () {
        () if whole => 0,
        () if begins || argument.has_any(&["*)(", "*))%00", "*))\0", "*()|"]) => 850,
        () if argument.has_any(&["(|(", "(&("]) => 750,
        () => 0,
    };
    if argument.is_prose() || argument.is_long() { score / 3 } else { score }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_filters_that_are_broken_out_of() {
        for text in
            ["*)(uid=*))(|(uid=*", "admin)(&)", "admin)(!(&(1=0", "x*)(objectClass=*", "%2A%29%28uid%3D%2A"]
        {
            attacks("ldap_injection", "user", text);
        }
    }

    #[test]
    fn leaves_whole_filters_and_formulas() {
        for text in ["(&(objectClass=person)(uid=jdoe))", "f(x)(y)", "(a)(b)", "sum(a) (b)"] {
            harmless("ldap_injection", "filter", text);
        }
    }
}
