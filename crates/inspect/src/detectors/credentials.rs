//! Credentials of the formats that providers publish: tokens known by their prefix, private keys in PEM, JSON Web
//! Tokens. Nothing is guessed from randomness alone, so ordinary text is left alone.
//!
//! Defaults: reported in arguments (a call may need one), masked in answers, where none has any business.

use alloc::{boxed::Box, format, vec::Vec};
use core::{cmp::Reverse, ops::Range};

use aho_corasick::{AhoCorasick, AhoCorasickKind, Match};
use memchr::memmem;
use portcullis_core::{
    Severity, Treatment,
    kind::{Kind, KindError},
};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, chance::Made, raw::Raw};
use formats::{FORMATS, Format, JWT, Letters, OPENAI, PEM};

mod formats;

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "credentials",
    doc: "Provider tokens, private keys (PEM) and JSON Web Tokens.",
    build: |_| Ok(Box::new(Credentials::new()?)),
};

struct Credentials {
    prefixes: AhoCorasick,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    fn new() -> Result<Self, KindError> {
        let prefixes = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .build(FORMATS.iter().map(|format| format.0))
            .map_err(|error| KindError { name: KIND.name, reason: format!("{error}") })?;
        Ok(Self { prefixes })
    }
}

impl Detector for Credentials {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
    }

    fn anchors(&self) -> Vec<&'static str> {
        FORMATS.iter().map(|format| format.0).collect()
    }

    fn threshold(&self, _role: Role) -> Option<u16> {
        Some(UNPROVEN)
    }

    // A prefix alone is enough to look closer: escapes (`\n` before a token) make boundaries unclear here. Only the
    // length of what follows is asked, which decoding cannot make longer.
    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let bytes = raw.bytes();
        let may = |format: &Format, hit: Match| {
            let body = bytes.get(hit.end()..).unwrap_or_default();
            // `/` may be written `\/`.
            let letters = |byte: &&u8| format.1.has(**byte) || **byte == b'\\';
            body.iter().take(format.2).take_while(letters).count() >= format.2
        };
        raw.is_disguised()
            || self
                .prefixes
                .find_overlapping_iter(bytes)
                .any(|hit| FORMATS.get(hit.pattern().as_usize()).is_some_and(|format| may(format, hit)))
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let bytes = subject.text.as_bytes();
        let mut ranges = Vec::new();
        // What a format looked at before this is not looked at again for the same format, whether it was a credential
        // or not: the search stays linear.
        let mut done = [0_usize; FORMATS.len()];
        for hit in self.prefixes.find_overlapping_iter(bytes) {
            let index = hit.pattern().as_usize();
            let (Some(format), Some(done)) = (FORMATS.get(index), done.get_mut(index)) else { continue };
            if hit.start() < *done {
                continue;
            }
            let seen = match format.0 {
                PEM => pem(bytes, hit.start()),
                JWT => jwt(bytes, &hit),
                OPENAI => openai(bytes, &hit),
                _ => token(format, bytes, &hit),
            };
            *done = seen.done;
            ranges.extend(seen.credential.map(|range| (range, checksum(format.0, bytes, &hit))));
        }
        ranges.sort_by_key(|(range, _)| (range.start, Reverse(range.end)));
        let mut done = 0;
        for (range, proven) in ranges {
            if range.start >= done {
                done = range.end;
                let confidence = if proven { Sighting::CERTAIN } else { UNPROVEN };
                found.push(Sighting { confidence, ..Sighting::visible(range, Severity::High) });
            }
        }
    }
}

/// The confidence in a token of the right form without a check digit that holds.
const UNPROVEN: u16 = 900;

/// Whether the token carries the checksum that its provider puts into it: the CRC-32 (IEEE) of what stands between
/// prefix and checksum, in base 62 (GitHub since 2021, npm).
fn checksum(prefix: &str, bytes: &[u8], hit: &Match) -> bool {
    if !matches!(prefix, "ghp_" | "gho_" | "ghu_" | "ghs_" | "ghr_" | "npm_") {
        return false;
    }
    let Some((body, sum)) = bytes.get(hit.end()..hit.end() + 36).and_then(|token| token.split_at_checked(30))
    else {
        return false;
    };
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        _ => byte.wrapping_sub(b'a').wrapping_add(36),
    };
    let written = sum.iter().fold(0_u64, |sum, byte| sum * 62 + u64::from(digit(byte)));
    let crc = body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    written == u64::from(!crc)
}

/// What came of a closer look.
struct Seen {
    /// The text before this needs no other look.
    done: usize,
    credential: Option<Range<usize>>,
}

fn is_joined(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

fn token(format: &Format, bytes: &[u8], hit: &Match) -> Seen {
    let Format(prefix, letters, min, max) = format;
    let before = hit.start().checked_sub(1).and_then(|at| bytes.get(at));
    if before.is_some_and(is_joined) && !prefix.starts_with('.') {
        return Seen { done: hit.start(), credential: None };
    }
    let rest = bytes.get(hit.end()..).unwrap_or_default();
    let length = rest.iter().take(*max).take_while(|byte| letters.has(**byte)).count();
    let body = rest.get(..length).unwrap_or_default();
    // A sentence may end after the token.
    let body = match body {
        [shorter @ .., b'.'] => shorter,
        whole => whole,
    };
    let exact = min != max || rest.get(length).is_none_or(|next| !letters.has(*next));
    let range = hit.start()..hit.end() + body.len();
    let fits = body.len() >= *min && exact && is_varied(body) && proves(prefix, body);
    Seen { done: range.end, credential: fits.then_some(range) }
}

/// RFC 7515: header, payload and signature in base64url, header and payload JSON objects.
fn jwt(bytes: &[u8], hit: &Match) -> Seen {
    let before = bytes.get(hit.start().saturating_sub(2048)..hit.start()).unwrap_or_default();
    let run = before.iter().rev().take_while(|byte| Letters::Url.has(**byte)).count();
    let run = before.get(before.len() - run..).unwrap_or_default();
    let nothing = Seen { done: hit.end(), credential: None };
    let Some(at) = memmem::find(run, b"eyJ") else { return nothing };
    let joined = at.checked_sub(1).and_then(|at| run.get(at)).is_some_and(is_joined);
    let rest = bytes.get(hit.end()..).unwrap_or_default();
    let url = |part: &[u8]| part.iter().take(8192).take_while(|byte| Letters::Url.has(**byte)).count();
    let payload = url(rest);
    let after = rest.get(payload..).unwrap_or_default();
    let signature = if after.first() == Some(&b'.') { url(after.get(1..).unwrap_or_default()) } else { 0 };
    let end = hit.end() + payload + 1 + signature;
    if joined || run.len() - at < 12 || payload < 5 || signature < 16 {
        return Seen { done: hit.end() + payload, credential: None };
    }
    Seen { done: end, credential: Some(hit.start() + at - run.len()..end) }
}

/// `sk-`, 20 letters, the mark, 20 letters; keys for projects are longer.
fn openai(bytes: &[u8], hit: &Match) -> Seen {
    let before = bytes.get(hit.start().saturating_sub(128)..hit.start()).unwrap_or_default();
    let run = before.iter().rev().take_while(|byte| Letters::Url.has(**byte)).count();
    let run = before.get(before.len() - run..).unwrap_or_default();
    let rest = bytes.get(hit.end()..).unwrap_or_default();
    let after = rest.iter().take(128).take_while(|byte| Letters::Url.has(**byte)).count();
    let done = hit.end() + after;
    let start = memmem::find(run, b"sk-").filter(|at| run.len() - at >= 19 && after >= 20);
    let joined = start.and_then(|at| run.get(at.checked_sub(1)?)).is_some_and(is_joined);
    let credential = start.filter(|_| !joined).map(|at| hit.start() + at - run.len()..done);
    Seen { done, credential }
}

/// What a format asks beyond letters and length.
fn proves(prefix: &str, body: &[u8]) -> bool {
    let starts = |kinds: &[&[u8]]| kinds.iter().any(|kind| body.starts_with(kind));
    match prefix {
        "xoxa-" | "xoxb-" | "xoxe" | "xoxp-" | "xoxr-" | "xoxs-" => {
            body.iter().filter(|byte| byte.is_ascii_digit()).count() >= 8
        }
        "hooks.slack.com" => starts(&[b"/services/", b"/workflows/", b"/triggers/"]),
        "pscale_" => starts(&[b"tkn_", b"oauth_", b"pw_"]),
        "duffel_" | "shippo_" => starts(&[b"live_", b"test_"]),
        "sntry" => starts(&[b"s_", b"u_"]),
        "glsa_" => body.get(32) == Some(&b'_'),
        "sha256~" => body.iter().any(u8::is_ascii_digit),
        "PMAK-" => body.get(24) == Some(&b'-'),
        _ => true,
    }
}

/// Placeholders such as `ghp_xxxx…` and `AKIA…EXAMPLE` are no credentials.
fn is_varied(token: &[u8]) -> bool {
    let examples: [&[u8]; 5] = [
        b"EXAMPLE",
        b"abc123",
        b"abcdefgh",
        // Keys that providers print in their documents.
        b"4eC39HqLyjWDarjtT1zdp7dc",
        b"BQokikJOvBiI2HlWgH4olfQ2",
    ];
    if examples.iter().any(|one| memmem::find(token, one).is_some())
        || Made::of(token).steps * 2 > token.len()
    {
        return false;
    }
    let mut seen = [false; 256];
    for byte in token {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() >= 8
}

/// Bytes that are searched for the end of a key.
const PEM_BYTES_MAX: usize = 16_384;
const END: &[u8] = b"-----END";
/// No private key is shorter.
const KEY_BYTES_MIN: usize = 32;

/// RFC 7468: the block whose label ends with the `PRIVATE KEY` at `at`, to its end line or as far as it was not cut.
fn pem(bytes: &[u8], at: usize) -> Seen {
    let nothing = Seen { done: at, credential: None };
    let from = at.saturating_sub(40);
    let opening = bytes.get(from..at).and_then(|before| memmem::rfind(before, b"-----BEGIN "));
    let rest = bytes.get(at + PEM.len()..).unwrap_or_default();
    let dashes = [b"-----".as_slice(), b" BLOCK-----"].into_iter().find(|dashes| rest.starts_with(dashes));
    let (Some(start), Some(dashes)) = (opening, dashes) else { return nothing };
    let body = at + PEM.len() + dashes.len();
    let text = bytes.get(body..bytes.len().min(body + PEM_BYTES_MAX)).unwrap_or_default();
    // The next dashes must be those of the end line; nothing beyond them is searched.
    let end =
        memmem::find(text, b"-----").filter(|end| text.get(*end..).is_some_and(|line| line.starts_with(END)));
    let length = match end {
        Some(end) if end < KEY_BYTES_MIN => 0,
        Some(end) => {
            let tail = text.get(end + END.len()..).unwrap_or_default();
            let close = memmem::find(tail.get(..64).unwrap_or(tail), b"-----").map_or(0, |close| close + 5);
            end + END.len() + close
        }
        None => {
            let key = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\\\r\n".contains(byte);
            Some(text.iter().take_while(|byte| key(byte)).count())
                .filter(|cut| *cut >= KEY_BYTES_MIN)
                .unwrap_or(0)
        }
    };
    // Also where it is no key: the same bytes are not searched for an end again.
    let done = if length > 0 { body + length } else { body };
    Seen { done, credential: (length > 0).then_some(from + start..done) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use crate::testing::{found, nothing};

    // Put together here, so that no scanner of a code host takes the source for a leak.
    const PLAIN: &str = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";
    const TWENTY: &str = "A1b2C3d4E5f6G7h8I9j0";

    #[test]
    fn catches_published_formats_wherever_they_stand() {
        let hex = "0a72c4e9681bf35d94c07e2a5f18d36b";
        for token in [
            format!("ghp_{PLAIN}"),
            format!("github_pat_{PLAIN}_{PLAIN}"),
            format!("AKIA{}", "IOSFODNN7EXAMPL3"),
            format!("xoxb-1234567890-{PLAIN}"),
            format!("sk_live_{PLAIN}"),
            format!("AIza{TWENTY}{}", "K1l2M3n4O5p6Q7r"),
            format!("sk-ant-api03-{PLAIN}{PLAIN}"),
            format!("sk-{TWENTY}T3BlbkFJ{TWENTY}"),
            format!("npm_{PLAIN}"),
            format!("hooks.slack.com/services/{PLAIN}"),
            format!("shpat_{hex}"),
            format!("dop_v1_{hex}{hex}"),
            format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{PLAIN}"),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{PLAIN}\n{PLAIN}\n-----END RSA PRIVATE KEY-----"),
        ] {
            found("credentials", &token, &token);
            found("credentials", &format!("key=\"{token}\", next"), &token);
            found("credentials", &format!("line\n{token}\nline"), &token);
        }
    }

    #[test]
    fn catches_a_key_that_was_cut_off_with_what_follows_it() {
        let cut = format!("-----BEGIN EC PRIVATE KEY-----\n{PLAIN}\n{PLAIN}");
        found("credentials", &cut, &cut);
        found("credentials", &format!("{cut}, and on"), &cut);
    }

    #[test]
    fn leaves_look_alikes() {
        for text in [
            format!("ghp_{}", "x".repeat(36)),
            format!("xghp_{PLAIN}"),
            format!("AKIA{}", PLAIN),
            "sk-learn is a library".into(),
            "eyJ is how a token starts".into(),
            format!("{PLAIN}{PLAIN}"),
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----".into(),
            "-----BEGIN PRIVATE KEY----- goes first".into(),
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----".into(),
            format!("AKIA{}", "IOSFODNN7EXAMPLE"),
            format!("xoxb-{}", "your-bot-token-here"),
            "0123456789abcdef0123456789abcdef".into(),
        ] {
            nothing("credentials", &text);
        }
    }
}
