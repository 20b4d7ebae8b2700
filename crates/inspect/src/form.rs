//! What masking puts in the place of what was seen.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::ops::Range;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};

use portcullis_core::Digest;
use portcullis_personal::general::generalised;

/// How a masked text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `[masked:email]`.
    #[default]
    Placeholder,
    /// Letters and digits become stars; of long ones the last four stay, of an address its domain.
    Stars,
    /// `[email:9f86d081884c7d65]`: the same for the same value, and for nobody who has not the key to guess with.
    Pseudonym,
    /// `<EMAIL_lbH0…>`: the value itself, sealed; restored in arguments where a policy says so.
    Token,
    /// What is left is true of many people: `1968` of a date, `90+` of an age.
    Generalise,
}

/// Letters and digits from which on the last few stay readable, and how many.
const LONG: usize = 12;
const KEPT: usize = 4;

/// Bytes of the longest value that becomes a token; longer ones become placeholders.
const TOKEN_VALUE_MAX: usize = 256;

/// Bytes of the longest mark.
const MARK_MAX: usize = 512;

/// Within what a token is the same for the same value, and is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenScope {
    /// One caller, in all its sessions.
    Caller,
    /// The gateway, and every other on the same store.
    #[default]
    Gateway,
    /// One session of one caller.
    Session,
}

/// Keys of people: what becomes a token is sealed with the key of whom it is about. Without that key it opens never again.
/// Where keys are kept by caller or session, `scope` says which one it is.
pub trait TokenKeys: core::fmt::Debug + Send + Sync {
    /// By what keys are kept.
    fn scope(&self) -> TokenScope {
        TokenScope::Gateway
    }

    /// The name and the key of a person, made where there is none; nothing where there is no room, or no scope is known.
    fn seal(&self, scope: Option<Digest>, subject: Digest) -> Option<(u64, [u8; 32])>;

    /// The key of that name, if it is still there and is one of this scope.
    fn open(&self, scope: Option<Digest>, name: u64) -> Option<[u8; 32]>;

    /// The scope is in use now.
    fn in_use(&self, _scope: Digest) {}

    /// The scope is over.
    fn over(&self, _scope: Digest) {}
}

/// Who somebody is, as the gateway remembers it: by a keyed digest of what identifies a person, which tells nothing to
/// anybody without the key. The same identifier in another way of writing is the same.
#[must_use]
pub fn subject_of(secret: &[u8], identifier: &str) -> Digest {
    let index = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"portcullis inspect subject");
    subject(&hmac::Key::new(hmac::HMAC_SHA256, index.as_ref()), identifier)
}

fn subject(key: &hmac::Key, identifier: &str) -> Digest {
    let lower = identifier.trim().to_lowercase();
    // Numbers are written with and without spaces, addresses of mail are not.
    let plain: String =
        if lower.contains('@') { lower } else { lower.chars().filter(|c| c.is_alphanumeric()).collect() };
    let mut digest = [0; 32];
    digest.iter_mut().zip(hmac::sign(key, plain.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    Digest(digest)
}

/// The keys of pseudonyms and tokens.
pub(crate) struct Keys {
    subjects: hmac::Key,
    people: Option<Arc<dyn TokenKeys>>,
    pseudonyms: hmac::Key,
    /// AES-GCM-SIV (RFC 8452) with a fixed nonce: the same value gives the same token, and nothing else is learnt from
    /// a nonce that is used again.
    tokens: Option<LessSafeKey>,
    year: Option<u16>,
    /// What finds are called, the longest first: one may begin like another.
    names: Vec<&'static str>,
}

impl Keys {
    pub(crate) fn new(secret: &[u8], mut names: Vec<&'static str>) -> Self {
        names.sort_by_key(|name| core::cmp::Reverse(name.len()));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive = |purpose: &str| hmac::sign(&secret, purpose.as_bytes());
        let tokens = UnboundKey::new(&AES_256_GCM_SIV, derive("portcullis inspect token").as_ref());
        Self {
            subjects: hmac::Key::new(hmac::HMAC_SHA256, derive("portcullis inspect subject").as_ref()),
            people: None,
            pseudonyms: hmac::Key::new(hmac::HMAC_SHA256, derive("portcullis inspect pseudonym").as_ref()),
            tokens: tokens.map(LessSafeKey::new).ok(),
            year: None,
            names,
        }
    }

    /// With another secret.
    pub(crate) fn keyed(self, secret: &[u8]) -> Self {
        Self { people: self.people, year: self.year, ..Self::new(secret, self.names) }
    }

    /// With the year that it is.
    pub(crate) fn in_year(self, year: u16) -> Self {
        Self { year: Some(year), ..self }
    }

    /// The keys of people, where each has one.
    pub(crate) const fn people(&self) -> Option<&Arc<dyn TokenKeys>> {
        self.people.as_ref()
    }

    /// With a key for each person.
    pub(crate) fn of_people(self, people: Arc<dyn TokenKeys>) -> Self {
        Self { people: Some(people), ..self }
    }

    fn pseudonym(&self, detector: &str, seen: &str) -> String {
        let mut context = hmac::Context::with_key(&self.pseudonyms);
        for part in [detector.as_bytes(), seen.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let digits = tag.as_ref().iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        format!("[{detector}:{digits:016x}]")
    }

    fn token(&self, scope: Option<Digest>, detector: &str, seen: &str) -> Option<String> {
        let mut sealed = seen.as_bytes().to_vec();
        let key = self.tokens.as_ref().filter(|_| sealed.len() <= TOKEN_VALUE_MAX)?;
        let mut whole = Vec::new();
        if let Some(people) = &self.people {
            let (name, key) = people.seal(scope, subject(&self.subjects, seen))?;
            own(&key)?.seal_in_place_append_tag(nonce(), Aad::from(detector), &mut sealed).ok()?;
            whole.extend(name.to_be_bytes());
        } else {
            key.seal_in_place_append_tag(nonce(), Aad::from(detector), &mut sealed).ok()?;
        }
        whole.extend(sealed);
        Some(format!("<{}_{}>", detector.to_ascii_uppercase(), URL_SAFE_NO_PAD.encode(whole)))
    }

    /// The detector and the value of a token that this gateway made, and where it ends.
    fn open(&self, scope: Option<Digest>, text: &str, start: usize) -> Option<(&'static str, String, usize)> {
        let rest = text.get(start..)?.strip_prefix('<')?;
        // Not beyond the next one, so that a text full of them is read once.
        let len = rest.bytes().take(MARK_MAX).position(|byte| matches!(byte, b'<' | b'>'))?;
        if rest.as_bytes().get(len) != Some(&b'>') {
            return None;
        }
        let (name, sealed) = self.names.iter().find_map(|name| {
            let (head, sealed) = rest.get(..len)?.split_at_checked(name.len())?;
            let sealed = sealed.strip_prefix('_')?;
            let same = head.bytes().eq(name.bytes().map(|byte| byte.to_ascii_uppercase()));
            same.then_some((*name, sealed))
        })?;
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let value = match &self.people {
            None => self.tokens.as_ref()?.open_in_place(nonce(), Aad::from(name), &mut bytes).ok()?,
            Some(people) => {
                let (key, sealed) = bytes.split_first_chunk_mut::<8>()?;
                own(&people.open(scope, u64::from_be_bytes(*key))?)?
                    .open_in_place(nonce(), Aad::from(name), sealed)
                    .ok()?
            }
        };
        Some((name, core::str::from_utf8(value).ok()?.into(), start + len + 2))
    }

    /// The text with the tokens restored of the detectors that `may` allows, and what was restored; None where nothing
    /// is.
    pub(crate) fn restore(
        &self,
        scope: Option<Digest>,
        text: &str,
        may: impl Fn(&str) -> bool,
    ) -> Option<(String, Vec<(&'static str, String)>)> {
        let (mut out, mut done, mut restored) = (String::new(), 0, Vec::new());
        for start in memchr::memchr_iter(b'<', text.as_bytes()) {
            if let Some((name, value, end)) = self.open(scope, text, start).filter(|(name, ..)| may(name)) {
                out.push_str(text.get(done..start)?);
                out.push_str(&value);
                restored.push((name, value));
                done = end;
            }
        }
        out.push_str(text.get(done..)?);
        (!restored.is_empty()).then_some((out, restored))
    }

    /// Whether a range lies in something that masking wrote: who masks a text again must not find his own marks.
    pub(crate) fn is_mark(&self, scope: Option<Digest>, text: &str, range: &Range<usize>) -> bool {
        let from = (range.start + 1).saturating_sub(MARK_MAX);
        let before = text.as_bytes().get(from..=range.start).unwrap_or_default();
        let Some(start) = memchr::memrchr2(b'[', b'<', before).map(|open| from + open) else { return false };
        let end = match text.as_bytes().get(start) {
            Some(b'<') => self.open(scope, text, start).map(|(_, _, end)| end),
            _ => self.end_of_brackets(text, start),
        };
        end.is_some_and(|end| range.end <= end)
    }

    fn end_of_brackets(&self, text: &str, start: usize) -> Option<usize> {
        let rest = text.get(start..)?;
        let close = rest.bytes().take(MARK_MAX).position(|byte| byte == b']')?;
        let (name, value) = rest.get(1..close)?.split_once(':')?;
        let known = |name: &str| self.names.contains(&name);
        let digits = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        ((name == "masked" && known(value)) || (known(name) && digits)).then_some(start + close + 1)
    }
}

fn own(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM_SIV, key).map(LessSafeKey::new).ok()
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys")
    }
}

impl Form {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Placeholder => "placeholder",
            Self::Stars => "stars",
            Self::Pseudonym => "pseudonym",
            Self::Token => "token",
            Self::Generalise => "generalise",
        }
    }

    pub(crate) fn of(self, scope: Option<Digest>, detector: &str, seen: &str, keys: &Keys) -> String {
        match self {
            Self::Placeholder => placeholder(detector),
            Self::Stars => stars(seen),
            Self::Pseudonym => keys.pseudonym(detector, seen),
            Self::Token => keys.token(scope, detector, seen).unwrap_or_else(|| placeholder(detector)),
            Self::Generalise => {
                generalised(detector, seen, keys.year).unwrap_or_else(|| placeholder(detector))
            }
        }
    }
}

pub(crate) fn placeholder(detector: &str) -> String {
    format!("[masked:{detector}]")
}

fn stars(seen: &str) -> String {
    let (stars, rest) = seen
        .rsplit_once('@')
        .map_or((seen, ""), |(local, _)| (local, seen.get(local.len()..).unwrap_or_default()));
    let count = stars.chars().filter(|c| c.is_alphanumeric()).count();
    let hidden = if rest.is_empty() && count >= LONG { count - KEPT } else { count };
    let mut nth = 0;
    let star = |c: char| {
        let counts = c.is_alphanumeric();
        nth += usize::from(counts);
        if counts && nth <= hidden { '*' } else { c }
    };
    stars.chars().map(star).chain(rest.chars()).collect()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn every() -> Vec<&'static str> {
        crate::CATALOG.iter().map(|kind| kind.name).collect()
    }

    fn keys(secret: &[u8]) -> Keys {
        Keys::new(secret, every())
    }

    #[test]
    fn only_what_lies_within_a_mark_is_one() {
        let text =
            "a [masked:email] [email:9f86d081884c7d65] [other:9f86d081884c7d65] [email:nothexnothexnoth]";
        for (range, expected) in [
            (2..16, true),
            (3..9, true),
            (2..17, false),
            (17..41, true),
            (24..40, true),
            (42..66, false),
            (67..91, false),
            (0..1, false),
        ] {
            assert_eq!(keys(b"one").is_mark(None, text, &range), expected, "{range:?}");
        }
    }

    #[test]
    fn each_form_hides_the_value_and_keeps_what_it_says() {
        let (one, other) = (keys(b"one"), keys(b"other"));
        for (seen, expected) in [
            ("4111 1111 1111 1111", "**** **** **** 1111"),
            ("me.too@example.com", "**.***@example.com"),
            ("078-05-1120", "***-**-****"),
            ("DE89370400440532013000", "******************3000"),
            ("", ""),
        ] {
            assert_eq!(Form::Stars.of(None, "x", seen, &one), expected);
        }
        let hashed = Form::Pseudonym.of(None, "email", "me@example.com", &one);
        assert_eq!(hashed, Form::Pseudonym.of(None, "email", "me@example.com", &one));
        assert_eq!(hashed.len(), "[email:]".len() + 16);
        for different in [
            Form::Pseudonym.of(None, "email", "me@example.com", &other),
            Form::Pseudonym.of(None, "email", "me@example.org", &one),
            Form::Pseudonym.of(None, "phone", "me@example.com", &one).replace("phone", "email"),
        ] {
            assert_ne!(hashed, different);
        }
    }

    #[derive(Debug, Default)]
    struct Book(std::sync::Mutex<Vec<Option<Digest>>>);

    impl TokenKeys for Book {
        fn seal(&self, _: Option<Digest>, subject: Digest) -> Option<(u64, [u8; 32])> {
            let mut book = self.0.lock().unwrap();
            let known = book.iter().position(|one| *one == Some(subject));
            let name = known.unwrap_or_else(|| {
                book.push(Some(subject));
                book.len() - 1
            });
            (name < 2).then_some((name as u64, subject.0))
        }

        fn open(&self, _: Option<Digest>, name: u64) -> Option<[u8; 32]> {
            Some(self.0.lock().unwrap().get(name as usize)?.as_ref()?.0)
        }
    }

    #[test]
    fn a_token_of_a_person_opens_as_long_as_the_key_of_that_person_is_there() {
        let book = Arc::new(Book::default());
        let keys = super::Keys::new(b"one", every()).of_people(Arc::clone(&book) as Arc<dyn TokenKeys>);
        let [me, again, you] = ["me@example.com", "ME@example.com", "you@example.com"]
            .map(|value| Form::Token.of(None, "email", value, &keys));
        let restored = |text: &str| keys.restore(None, text, |_| true).map(|(text, _)| text);
        assert_eq!(
            restored(&again).as_deref(),
            Some("ME@example.com"),
            "a token gives back what was written"
        );
        assert_eq!(
            Form::Token.of(None, "email", "third@example.com", &keys),
            "[masked:email]",
            "no room for a key"
        );
        assert_eq!(book.0.lock().unwrap()[0], Some(subject_of(b"one", " me@Example.com ")));
        assert_ne!(subject_of(b"one", "me@example.com"), subject_of(b"two", "me@example.com"));
        assert_eq!(subject_of(b"one", "4111 1111-1111 1111"), subject_of(b"one", "4111111111111111"));
        book.0.lock().unwrap()[0] = None;
        assert_eq!((restored(&me), restored(&again)), (None, None), "erased");
        assert_eq!(restored(&you).as_deref(), Some("you@example.com"), "others are not touched");
    }

    #[test]
    fn a_token_is_restored_by_who_made_it_where_that_is_allowed_and_by_nobody_else() {
        let (one, other) = (keys(b"one"), keys(b"other"));
        let token = Form::Token.of(None, "email", "me@example.com", &one);
        assert!(token.starts_with("<EMAIL_") && !token.contains("example"), "{token}");
        assert_eq!(token, Form::Token.of(None, "email", "me@example.com", &one));
        assert_ne!(token, Form::Token.of(None, "email", "me@example.org", &one));
        let text = format!("write <b>to</b> {token}, {token}");
        let restored = |keys: &Keys, text: &str, may: &str| keys.restore(None, text, |name| name == may);
        let (plain, what) = restored(&one, &text, "email").unwrap_or_default();
        assert_eq!(plain, "write <b>to</b> me@example.com, me@example.com");
        assert_eq!(what, [("email", "me@example.com".into()), ("email", "me@example.com".into())]);
        let forged = text.replace("<EMAIL_", "<PAYMENT_CARD_");
        for (keys, text, may) in
            [(&one, &text, "payment_card"), (&other, &text, "email"), (&one, &forged, "payment_card")]
        {
            assert_eq!(restored(keys, text, may), None, "{text}");
        }
        assert!(one.is_mark(None, &token, &(3..20)) && !other.is_mark(None, &token, &(3..20)));
        let long = "x".repeat(TOKEN_VALUE_MAX + 1);
        assert_eq!(Form::Token.of(None, "credentials", &long, &one), "[masked:credentials]");
    }
}
