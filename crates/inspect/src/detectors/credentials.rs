//! Credentials of the formats that providers publish: tokens known by their prefix, private keys in PEM, JSON Web
//! Tokens. Nothing is guessed from randomness alone, so ordinary text is left alone.
//!
//! Defaults: reported in arguments (a call may need one), masked in answers, where none has any business.

use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

use aho_corasick::packed;
use memchr::memmem;
use portcullis_core::{
    Severity, Treatment,
    kind::{Kind, KindError},
};

use super::{Detector, Sighting};
use crate::{DetectorSettings, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "credentials",
    doc: "Provider tokens, private keys (PEM) and JSON Web Tokens.",
    build: |_| Ok(Box::new(Credentials::new()?)),
};

/// What the body of a token is written with.
#[derive(Clone, Copy, Debug)]
enum Letters {
    /// `A-Z0-9`.
    Capital,
    /// `0-9a-fA-F`.
    Hex,
    /// `A-Za-z0-9`.
    Plain,
    /// `A-Za-z0-9_-`.
    Url,
    /// `A-Za-z0-9_-+/=.`.
    Wide,
}

impl Letters {
    const fn has(self, byte: u8) -> bool {
        match self {
            Self::Capital => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Plain => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Wide => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/' | b'=' | b'.')
            }
        }
    }
}

/// One published format: how it starts, what follows, and how long that is.
struct Format(&'static str, Letters, usize, usize);

/// Tokens longer than any format are cut off there for the search.
const LONG: usize = 512;

// Prefixes of three bytes and more that are rare in ordinary text, at most 64 of them: then the search runs on
// vectors of bytes (Teddy) instead of an automaton.
const FORMATS: &[Format] = &[
    Format("-----BEGIN", Letters::Url, 0, 0),
    Format("eyJ", Letters::Wide, 30, 8192),
    Format("AKIA", Letters::Capital, 16, 16),
    Format("ASIA", Letters::Capital, 16, 16),
    Format("ABSKQmVkcm9ja0FQSUtleS", Letters::Wide, 80, LONG),
    Format("ghp_", Letters::Plain, 36, 251),
    Format("gho_", Letters::Plain, 36, 251),
    Format("ghu_", Letters::Plain, 36, 251),
    Format("ghs_", Letters::Plain, 36, 251),
    Format("ghr_", Letters::Plain, 36, 251),
    Format("github_pat_", Letters::Url, 22, 251),
    Format("glpat-", Letters::Wide, 20, LONG),
    Format("gldt-", Letters::Url, 20, 64),
    Format("glimt-", Letters::Url, 20, 64),
    Format("glagent-", Letters::Url, 50, 64),
    Format("glcbt-", Letters::Url, 20, 64),
    Format("glptt-", Letters::Url, 20, 64),
    Format("glrt-", Letters::Wide, 20, 64),
    Format("glsoat-", Letters::Url, 20, 64),
    Format("glffct-", Letters::Url, 20, 64),
    Format("glft-", Letters::Url, 20, 64),
    Format("xox", Letters::Url, 16, LONG),
    Format("xapp-", Letters::Url, 20, LONG),
    Format("hooks.slack.com", Letters::Wide, 30, LONG),
    Format("sk_live_", Letters::Plain, 10, 128),
    Format("sk_test_", Letters::Plain, 10, 128),
    Format("sk_prod_", Letters::Plain, 10, 128),
    Format("rk_live_", Letters::Plain, 10, 128),
    Format("rk_prod_", Letters::Plain, 10, 128),
    Format("AIza", Letters::Url, 35, 35),
    Format("sk-", Letters::Url, 40, LONG),
    Format("pplx-", Letters::Plain, 48, 48),
    Format("npm_", Letters::Plain, 36, 36),
    Format("pypi-AgEIcHlwaS5vcmc", Letters::Url, 50, LONG),
    Format("hf_", Letters::Plain, 34, 34),
    Format("api_org_", Letters::Plain, 34, 34),
    Format("SG.", Letters::Wide, 60, 80),
    Format("shpat_", Letters::Hex, 32, 32),
    Format("shpca_", Letters::Hex, 32, 32),
    Format("shppa_", Letters::Hex, 32, 32),
    Format("shpss_", Letters::Hex, 32, 32),
    Format("dop_v1_", Letters::Hex, 64, 64),
    Format("doo_v1_", Letters::Hex, 64, 64),
    Format("dor_v1_", Letters::Hex, 64, 64),
    Format("dapi", Letters::Hex, 32, 32),
    Format("dp.pt.", Letters::Plain, 40, 48),
    Format("hvs.", Letters::Url, 24, 256),
    Format("hvb.", Letters::Url, 100, 256),
    Format("glsa_", Letters::Url, 40, 48),
    Format("glc_", Letters::Wide, 32, LONG),
    Format("lin_api_", Letters::Plain, 40, 40),
    Format("PMAK-", Letters::Url, 59, 59),
    Format("pscale_", Letters::Wide, 32, 96),
    Format("NRAK-", Letters::Plain, 27, 27),
    Format("NRJS-", Letters::Hex, 19, 19),
    Format("NRII-", Letters::Url, 32, 32),
    Format("sntry", Letters::Wide, 60, LONG),
    Format("HRKU-AA", Letters::Url, 58, 58),
    Format("ATATT3", Letters::Wide, 100, LONG),
    Format("fm1", Letters::Wide, 60, LONG),
    Format("fm2_", Letters::Wide, 60, LONG),
    Format("AGE-SECRET-KEY-1", Letters::Capital, 58, 58),
    Format("xkeysib-", Letters::Url, 81, 81),
    Format("ops_eyJ", Letters::Wide, 100, 8192),
];

struct Credentials {
    search: packed::Searcher,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    fn new() -> Result<Self, KindError> {
        let search = packed::Config::new()
            .match_kind(packed::MatchKind::LeftmostLongest)
            .builder()
            .extend(FORMATS.iter().map(|format| format.0))
            .build()
            .ok_or_else(|| KindError { name: KIND.name, reason: "the search cannot be built".into() })?;
        Ok(Self { search })
    }
}

impl Detector for Credentials {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
    }

    // A prefix alone is enough to look closer: escapes (`\n` before a token) make boundaries unclear here. Only the
    // length of what follows is asked, which decoding cannot make longer.
    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let bytes = raw.bytes();
        raw.is_disguised()
            || self.search.find_iter(bytes).any(|hit| {
                FORMATS.get(hit.pattern().as_usize()).is_some_and(|format| {
                    let body = bytes.get(hit.end()..).unwrap_or_default();
                    // `/` may be written `\/`.
                    let letters = |byte: &&u8| format.1.has(**byte) || **byte == b'\\';
                    body.iter().take(format.2).take_while(letters).count() >= format.2
                })
            })
    }

    fn find(&self, text: &str, found: &mut Vec<Sighting>) {
        let bytes = text.as_bytes();
        // Nothing before this is looked at again, whether it was a credential or not: the search stays linear.
        let mut done = 0;
        for hit in self.search.find_iter(bytes) {
            let joined = hit.start().checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(is_joined);
            let Some(format) = FORMATS.get(hit.pattern().as_usize()) else { continue };
            if hit.start() < done || (joined && format.0 != "-----BEGIN") {
                continue;
            }
            let (end, confirmed) = examine(format, bytes, hit.start(), hit.end());
            done = end;
            if confirmed {
                found.push(Sighting { range: hit.start()..end, severity: Severity::High, vanishes: false });
            }
        }
    }
}

fn is_joined(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// Where what starts at `start` ends, and whether it is a credential. The end lies on a character border.
fn examine(format: &Format, bytes: &[u8], start: usize, body: usize) -> (usize, bool) {
    let Format(prefix, letters, min, max) = format;
    let rest = bytes.get(body..).unwrap_or_default();
    if *prefix == "-----BEGIN" {
        return pem(rest).map_or((body, false), |length| (body + length, true));
    }
    let length = rest.iter().take(*max).take_while(|byte| letters.has(**byte)).count();
    let token = rest.get(..length).unwrap_or_default();
    // A sentence may go on after the token.
    let token = match token {
        [shorter @ .., b'.'] => shorter,
        whole => whole,
    };
    let exact = min != max || rest.get(length).is_none_or(|next| !letters.has(*next));
    let fits = token.len() >= *min && exact && is_varied(token);
    let range = || start..body + token.len();
    let confirmed = fits && proves(prefix, token, bytes.get(range()).unwrap_or_default());
    (body + token.len(), confirmed)
}

/// What a format asks beyond letters and length.
fn proves(prefix: &str, token: &[u8], whole: &[u8]) -> bool {
    match prefix {
        "eyJ" => is_jwt(whole) || whole.starts_with(b"eyJrIjoi"),
        "xox" => matches!(token, [b'a' | b'b' | b'e' | b'p' | b'r' | b's', b'-', ..]),
        "sk-" => {
            [b"ant-".as_slice(), b"proj-", b"svcacct-", b"admin-", b"or-v1-"]
                .iter()
                .any(|kind| token.starts_with(kind))
                || memmem::find(token, b"T3BlbkFJ").is_some()
        }
        "fm1" => matches!(token, [b'a' | b'r', b'_', ..]),
        "hooks.slack.com" => {
            [b"/services/".as_slice(), b"/workflows/", b"/triggers/"].iter().any(|kind| token.starts_with(kind))
        }
        "pscale_" => [b"tkn_".as_slice(), b"oauth_", b"pw_"].iter().any(|kind| token.starts_with(kind)),
        "sntry" => matches!(token, [b's' | b'u', b'_', ..]),
        "glsa_" => token.get(32) == Some(&b'_'),
        "PMAK-" => token.get(24) == Some(&b'-'),
        _ => true,
    }
}

/// Placeholders such as `ghp_xxxx…` are no credentials.
fn is_varied(token: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in token {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() >= 8
}

/// RFC 7515: header, payload and signature in base64url, header and payload JSON objects.
fn is_jwt(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let url = |part: &[u8]| part.iter().all(|byte| Letters::Url.has(*byte) || *byte == b'=');
    header.len() >= 12
        && payload.starts_with(b"eyJ")
        && signature.len() >= 16
        && [header, payload, signature].into_iter().all(url)
}

/// Bytes that are searched for the end of a key.
const PEM_BYTES_MAX: usize = 16_384;

/// RFC 7468: the length of a private key after `-----BEGIN`, to its end line or as far as it was not cut off.
fn pem(rest: &[u8]) -> Option<usize> {
    let label_end = memmem::find(rest.get(..64).unwrap_or(rest), b"-----")?;
    let label = rest.get(..label_end)?;
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let body: Range<usize> = label_end + 5..rest.len().min(PEM_BYTES_MAX);
    let text = rest.get(body.clone()).unwrap_or_default();
    match memmem::find(text, b"-----END") {
        Some(at) => {
            let tail = text.get(at + 8..).unwrap_or_default();
            let close = memmem::find(tail.get(..64).unwrap_or(tail), b"-----").map_or(0, |close| close + 5);
            Some(body.start + at + 8 + close)
        }
        None => {
            let key = |byte: &u8| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\r' | b'\n' | b'\\')
            };
            let length = text.iter().take_while(|byte| key(byte)).count();
            (length >= 32).then_some(body.start + length)
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::FORMATS;
    use crate::testing::{found, nothing};

    // Put together here, so that no scanner of a code host takes the source for a leak.
    const PLAIN: &str = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";

    #[test]
    fn the_search_stays_one_of_vectors() {
        assert!(FORMATS.len() <= 64);
        assert!(FORMATS.iter().all(|format| format.0.len() >= 3));
    }

    #[test]
    fn catches_published_formats_wherever_they_stand() {
        let hex = "0123456789abcdef0123456789abcdef";
        for token in [
            format!("ghp_{PLAIN}"),
            format!("github_pat_{PLAIN}_{PLAIN}"),
            format!("AKIA{}", "IOSFODNN7EXAMPL3"),
            format!("xoxb-1234567890-{PLAIN}"),
            format!("sk_live_{PLAIN}"),
            format!("AIza{}", &PLAIN[..35]),
            format!("sk-ant-api03-{PLAIN}{PLAIN}"),
            format!("sk-{}T3BlbkFJ{}", &PLAIN[..20], &PLAIN[..20]),
            format!("npm_{PLAIN}"),
            format!("hooks.slack.com/services/{PLAIN}"),
            format!("shpat_{hex}"),
            format!("dop_v1_{hex}{hex}"),
            format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{PLAIN}"),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{PLAIN}\n{PLAIN}\n-----END RSA PRIVATE KEY-----"),
            format!("-----BEGIN PRIVATE KEY-----\n{PLAIN}\n{PLAIN}"),
        ] {
            found("credentials", &token, &token);
            found("credentials", &format!("key=\"{token}\", next"), &token);
            found("credentials", &format!("line\n{token}\nline"), &token);
        }
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
            "0123456789abcdef0123456789abcdef".into(),
        ] {
            nothing("credentials", &text);
        }
    }
}
