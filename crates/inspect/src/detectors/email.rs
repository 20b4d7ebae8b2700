//! E-mail addresses: personal data, and the commonest thing to leave a company by accident.
//!
//! Defaults: reported and let through, both ways, since much honest work is about addresses. A policy that
//! says `@mask("email")` hides them from a role.

use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> =
    Kind { name: "email", doc: "E-mail addresses.", build: |_| Ok(Box::new(Email)) };

/// RFC 5321, section 4.5.3.1.
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

#[derive(Debug)]
struct Email;

impl Detector for Email {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let bytes = raw.bytes();
        raw.is_disguised() || memchr::memchr_iter(b'@', bytes).any(|at| domain_end(bytes, at).is_some())
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        let bytes = text.as_bytes();
        for at in memchr::memchr_iter(b'@', bytes) {
            if let Some(range) = address(bytes, at) {
                found.push(Sighting::visible(range, Severity::Low));
            }
        }
    }
}

fn address(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let end = domain_end(bytes, at)?;
    let local =
        bytes.get(..at)?.iter().rev().take(LOCAL_BYTES_MAX).take_while(|byte| is_local(**byte)).count();
    let start = at - local;
    // `git@github.com:owner/repository` is an address of a machine.
    let machine = bytes.get(start..at) == Some(b"git") && bytes.get(end) == Some(&b':');
    (!machine).then_some(start..end)
}

/// Where the domain after the `@` at `at` ends, when one stands there and something that can end a local part
/// stands before. Reads only what JSON writes as itself, so that it serves raw and decoded text alike.
fn domain_end(bytes: &[u8], at: usize) -> Option<usize> {
    let before = bytes.get(at.checked_sub(1)?)?;
    if !is_local(*before) || *before == b'.' {
        return None;
    }
    let after = bytes.get(at + 1..)?;
    let run = after.iter().take(DOMAIN_BYTES_MAX).take_while(|byte| is_domain(**byte)).count();
    let domain = after.get(..run)?;
    // Dashes in a row are a line, not part of a name.
    let mut domain =
        memchr::memmem::find(domain, b"---").map_or(domain, |line| domain.get(..line).unwrap_or_default());
    while let [rest @ .., b'.' | b'-'] = domain {
        domain = rest;
    }
    let mut labels = domain.rsplit(|byte| *byte == b'.');
    let top = labels.next()?;
    let letters = (2..=24).contains(&top.len()) && top.iter().all(u8::is_ascii_alphabetic);
    if !(letters || top.starts_with(b"xn--")) || is_picture(top) {
        return None;
    }
    let mut count = 0;
    for label in labels {
        count += 1;
        if label.is_empty() || label.first() == Some(&b'-') || label.last() == Some(&b'-') {
            return None;
        }
    }
    (count > 0).then_some(at + 1 + domain.len())
}

/// `logo@2x.png` is a file.
fn is_picture(top: &[u8]) -> bool {
    [b"png".as_slice(), b"jpg", b"jpeg", b"gif", b"svg", b"webp"]
        .iter()
        .any(|one| top.eq_ignore_ascii_case(one))
}

const fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}

const fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_addresses_in_context() {
        for (text, expected) in [
            ("write to a.b+c@example.co.uk.", "a.b+c@example.co.uk"),
            ("<x@y.de>,\"z_1@sub-a.example.com\"", "x@y.de|z_1@sub-a.example.com"),
            ("mailto:me@xn--bcher-kva.xn--p1ai", "me@xn--bcher-kva.xn--p1ai"),
            ("a@b@c.org", "b@c.org"),
        ] {
            found("email", text, expected);
        }
    }

    #[test]
    fn leaves_what_only_has_the_sign() {
        for text in [
            "@types/node",
            "react@18.2.0",
            "user@localhost",
            "logo@2x.png",
            "git@github.com:a/b.git",
            "a.@b.com",
            "a@-b.com",
            "a@b..com",
            "@@@",
            "x@y.z",
        ] {
            nothing("email", text);
        }
    }
}
