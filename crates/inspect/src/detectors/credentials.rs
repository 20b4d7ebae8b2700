//! Credentials of the formats that providers publish: tokens known by their prefix, private keys in PEM, JSON Web
//! Tokens. Nothing is guessed from randomness alone, so ordinary text is left alone.
//!
//! Defaults: reported in arguments (a call may need one), masked in answers, where none has any business.

use alloc::{boxed::Box, format, vec::Vec};
use core::{cmp::Reverse, ops::Range};

use aho_corasick::{AhoCorasick, Match, MatchKind, packed};
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

// Groups of at most 32 prefixes, all but the last of four bytes and more: such groups are searched on vectors of bytes
// (Teddy) instead of an automaton, and rarely stop in ordinary text.
const GROUPS: &[&[Format]] = &[
    &[
        Format(PEM, Letters::Url, 0, 0),
        Format(JWT, Letters::Wide, 24, 8192),
        Format("AKIA", Letters::Capital, 16, 16),
        Format("ASIA", Letters::Capital, 16, 16),
        Format("ABIA", Letters::Capital, 16, 16),
        Format("ACCA", Letters::Capital, 16, 16),
        Format("ABSKQmVkcm9ja0FQSUtleS", Letters::Wide, 80, LONG),
        Format("AIza", Letters::Url, 35, 35),
        Format("AGE-SECRET-KEY-1", Letters::Capital, 58, 58),
        Format("ATATT3", Letters::Wide, 100, LONG),
        Format("CLOJARS_", Letters::Plain, 60, 60),
        Format("EZAK", Letters::Plain, 54, 54),
        Format("EZTK", Letters::Plain, 54, 54),
        Format("FLWSECK_TEST-", Letters::Url, 12, 64),
        Format("GR1348941", Letters::Url, 20, 20),
        Format("HRKU-AA", Letters::Url, 58, 58),
        Format("NRAK-", Letters::Plain, 27, 27),
        Format("NRII-", Letters::Url, 32, 32),
        Format("NRJS-", Letters::Hex, 19, 19),
        Format("PMAK-", Letters::Url, 59, 59),
        Format(OPENAI, Letters::Plain, 20, 20),
        Format("dt0c01.", Letters::Wide, 89, 89),
        Format("eyJrIjoi", Letters::Wide, 60, LONG),
        Format("xapp-", Letters::Url, 20, LONG),
        Format("xoxa-", Letters::Url, 16, LONG),
        Format("xoxb-", Letters::Url, 16, LONG),
        Format("xoxe", Letters::Wide, 16, LONG),
        Format("xoxp-", Letters::Url, 16, LONG),
        Format("xoxr-", Letters::Url, 16, LONG),
        Format("xoxs-", Letters::Url, 16, LONG),
        Format("hooks.slack.com", Letters::Wide, 30, LONG),
    ],
    &[
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
        Format("glffct-", Letters::Url, 20, 64),
        Format("glft-", Letters::Url, 20, 64),
        Format("glptt-", Letters::Url, 20, 64),
        Format("glrt-", Letters::Wide, 20, 64),
        Format("glsoat-", Letters::Url, 20, 64),
        Format("glsa_", Letters::Url, 40, 48),
        Format("glc_", Letters::Wide, 32, LONG),
        Format("sk_live_", Letters::Plain, 10, 128),
        Format("sk_test_", Letters::Plain, 10, 128),
        Format("sk_prod_", Letters::Plain, 10, 128),
        Format("rk_live_", Letters::Plain, 10, 128),
        Format("rk_prod_", Letters::Plain, 10, 128),
        Format("sk-ant-", Letters::Url, 36, LONG),
        Format("sk-proj-", Letters::Url, 36, LONG),
        Format("sk-svcacct-", Letters::Url, 36, LONG),
        Format("sk-admin-", Letters::Url, 36, LONG),
        Format("sk-or-v1-", Letters::Hex, 64, 64),
        Format("sm_aat_", Letters::Plain, 16, 16),
        Format("sm_pat_", Letters::Plain, 16, 16),
        Format("sm_sat_", Letters::Plain, 16, 16),
    ],
    &[
        Format("api_org_", Letters::Plain, 34, 34),
        Format("dapi", Letters::Hex, 32, 32),
        Format("dop_v1_", Letters::Hex, 64, 64),
        Format("doo_v1_", Letters::Hex, 64, 64),
        Format("dor_v1_", Letters::Hex, 64, 64),
        Format("dp.pt.", Letters::Plain, 40, 48),
        Format("duffel_", Letters::Wide, 40, 64),
        Format("fm1a_", Letters::Wide, 60, LONG),
        Format("fm1r_", Letters::Wide, 60, LONG),
        Format("fm2_", Letters::Wide, 60, LONG),
        Format("hvb.", Letters::Url, 100, 256),
        Format("hvs.", Letters::Url, 24, 256),
        Format("lin_api_", Letters::Plain, 40, 40),
        Format("npm_", Letters::Plain, 36, 36),
        Format("ops_eyJ", Letters::Wide, 100, 8192),
        Format("pnu_", Letters::Plain, 36, 36),
        Format("pplx-", Letters::Plain, 48, 48),
        Format("pscale_", Letters::Wide, 32, 96),
        Format("pul-", Letters::Hex, 40, 40),
        Format("pypi-AgEIcHlwaS5vcmc", Letters::Url, 50, LONG),
        Format("rdme_", Letters::Plain, 70, 70),
        Format("rubygems_", Letters::Hex, 48, 48),
        Format("sha256~", Letters::Url, 43, 43),
        Format("shippo_", Letters::Url, 45, 45),
        Format("shpat_", Letters::Hex, 32, 32),
        Format("shpca_", Letters::Hex, 32, 32),
        Format("shppa_", Letters::Hex, 32, 32),
        Format("shpss_", Letters::Hex, 32, 32),
        Format("sntry", Letters::Wide, 60, LONG),
        Format("sq0atp-", Letters::Url, 22, 60),
        Format("sq0csp-", Letters::Url, 40, 60),
        Format("xkeysib-", Letters::Url, 81, 81),
    ],
    &[Format("SG.", Letters::Wide, 60, 80), Format("hf_", Letters::Plain, 34, 34)],
];

/// The border of header and payload, since a payload is a JSON object too.
const JWT: &str = ".eyJ";

/// In the middle of the older keys: `OpenAI` in Base64.
const OPENAI: &str = "T3BlbkFJ";

/// What makes a PEM block a private key; it follows `-----BEGIN`, which many other things begin with.
const PEM: &str = "PRIVATE KEY";

struct Credentials {
    searches: Vec<(&'static [Format], Search)>,
}

/// The search for prefixes.
enum Search {
    /// On vectors of bytes, where the processor can.
    Vectors(packed::Searcher),
    /// Anywhere else.
    Automaton(AhoCorasick),
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Search {
    fn new(group: &[Format]) -> Result<Self, KindError> {
        let vectors = packed::Config::new()
            .match_kind(packed::MatchKind::LeftmostLongest)
            .builder()
            .extend(group.iter().map(|format| format.0))
            .build();
        match vectors {
            Some(search) => Ok(Self::Vectors(search)),
            None => automaton(group.iter().map(|format| format.0)).map(Self::Automaton),
        }
    }

    fn hits<'a>(&'a self, bytes: &'a [u8]) -> Box<dyn Iterator<Item = Match> + 'a> {
        match self {
            Self::Vectors(search) => Box::new(search.find_iter(bytes)),
            Self::Automaton(search) => Box::new(search.find_iter(bytes)),
        }
    }
}

impl Credentials {
    fn new() -> Result<Self, KindError> {
        let searches = GROUPS.iter().map(|group| Ok((*group, Search::new(group)?)));
        Ok(Self { searches: searches.collect::<Result<_, KindError>>()? })
    }
}

fn automaton<'a>(prefixes: impl Iterator<Item = &'a str>) -> Result<AhoCorasick, KindError> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(prefixes)
        .map_err(|error| KindError { name: KIND.name, reason: format!("{error}") })
}

impl Detector for Credentials {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
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
            || self.searches.iter().any(|(group, search)| {
                search
                    .hits(bytes)
                    .any(|hit| group.get(hit.pattern().as_usize()).is_some_and(|format| may(format, hit)))
            })
    }

    fn find(&self, text: &str, found: &mut Vec<Sighting>) {
        let bytes = text.as_bytes();
        let mut ranges = Vec::new();
        for (group, search) in &self.searches {
            // Nothing before this is looked at again, whether it was a credential or not: the search stays linear.
            let mut done = 0;
            for hit in search.hits(bytes) {
                let Some(format) = group.get(hit.pattern().as_usize()) else { continue };
                if hit.start() < done {
                    continue;
                }
                let seen = match format.0 {
                    PEM => pem(bytes, hit.start()),
                    JWT => jwt(bytes, &hit),
                    OPENAI => openai(bytes, &hit),
                    _ => token(format, bytes, &hit),
                };
                done = seen.done;
                ranges.extend(seen.credential);
            }
        }
        ranges.sort_by_key(|range| (range.start, Reverse(range.end)));
        let mut done = 0;
        for range in ranges {
            if range.start >= done {
                done = range.end;
                found.push(Sighting { range, severity: Severity::High, vanishes: false });
            }
        }
    }
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
    if before.is_some_and(is_joined) {
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
    if memmem::find(token, b"EXAMPLE").is_some() {
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
    use std::{format, vec::Vec};

    use super::{GROUPS, Search, automaton};
    use crate::testing::{found, nothing};

    // Put together here, so that no scanner of a code host takes the source for a leak.
    const PLAIN: &str = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";
    const TWENTY: &str = "A1b2C3d4E5f6G7h8I9j0";

    #[test]
    fn the_groups_suit_a_search_on_vectors() {
        for group in GROUPS {
            assert!(group.len() <= 32);
            assert!(group.iter().all(|format| format.0.len() >= if group.len() > 2 { 4 } else { 3 }));
        }
    }

    #[test]
    fn both_searches_find_the_same() {
        for group in GROUPS {
            let text = group.iter().map(|format| format.0).collect::<Vec<_>>().join(" ghp sk- -----BEGIN x");
            let slow = Search::Automaton(automaton(group.iter().map(|format| format.0)).unwrap());
            let spans = |one: &Search| one.hits(text.as_bytes()).map(|hit| hit.span()).collect::<Vec<_>>();
            assert!(spans(&slow).len() >= group.len());
            assert_eq!(spans(&Search::new(group).unwrap()), spans(&slow));
        }
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
