//! Credentials that open nothing, made to be found: of the formats that providers use, so that whoever searches for
//! credentials takes them along.

use portcullis_core::{Entropy, Secret};

const DIGITS: &[u8] = b"0123456789";
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a planted credential looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bait {
    /// An API key of Anthropic.
    Anthropic,
    /// An access key of AWS: its id and its secret.
    Aws,
    /// The URL of a PostgreSQL database with a password.
    Database,
    /// A personal access token of GitHub, with the checksum that scanners verify.
    Github,
    /// A personal access token of GitLab.
    Gitlab,
    /// A token of npm, with the checksum that scanners verify.
    Npm,
    /// An API key of OpenAI.
    Openai,
    /// A password.
    Password,
    /// An API key of this gateway that lets nobody in.
    Portcullis,
    /// A token of a bot in Slack.
    Slack,
    /// A secret key of Stripe.
    Stripe,
}

impl Bait {
    /// Every kind, by name.
    pub const ALL: [Self; 11] = [
        Self::Anthropic,
        Self::Aws,
        Self::Database,
        Self::Github,
        Self::Gitlab,
        Self::Npm,
        Self::Openai,
        Self::Password,
        Self::Portcullis,
        Self::Slack,
        Self::Stripe,
    ];

    /// Its name, as on the command line and in the ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Aws => "aws",
            Self::Database => "database",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Npm => "npm",
            Self::Openai => "openai",
            Self::Password => "password",
            Self::Portcullis => "portcullis",
            Self::Slack => "slack",
            Self::Stripe => "stripe",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// A credential, as variables in which programs look for one.
    #[must_use]
    pub fn make(self, entropy: &dyn Entropy) -> Vec<(&'static str, Secret<String>)> {
        let some = |alphabet: &[u8], length: usize| letters(entropy, alphabet, length);
        let parts = match self {
            Self::Anthropic => {
                vec![("ANTHROPIC_API_KEY", format!("sk-ant-api03-{}AA", some(URL64, 93)))]
            }
            Self::Aws => vec![
                ("AWS_ACCESS_KEY_ID", format!("AKIA{}", some(BASE32, 16))),
                ("AWS_SECRET_ACCESS_KEY", some(BASE64, 40)),
            ],
            Self::Database => {
                vec![("DATABASE_URL", format!("postgres://admin:{}@db.internal:5432/main", some(BASE62, 24)))]
            }
            Self::Github => vec![("GITHUB_TOKEN", checked("ghp_", &some(BASE62, 30)))],
            Self::Gitlab => vec![("GITLAB_TOKEN", format!("glpat-{}", some(URL64, 20)))],
            Self::Npm => vec![("NPM_TOKEN", checked("npm_", &some(BASE62, 30)))],
            Self::Openai => {
                let (head, tail) = (some(URL64, 74), some(URL64, 74));
                vec![("OPENAI_API_KEY", format!("sk-proj-{head}T3BlbkFJ{tail}"))]
            }
            Self::Password => vec![("PASSWORD", some(BASE62, 24))],
            Self::Portcullis => {
                let id = some(b"abcdefghijkmnpqrstuvwxyz23456789", 12);
                vec![("PORTCULLIS_KEY", format!("pcl_{id}_{}", some(URL64, 43)))]
            }
            Self::Slack => {
                let (team, bot) = (some(DIGITS, 12), some(DIGITS, 13));
                vec![("SLACK_BOT_TOKEN", format!("xoxb-{team}-{bot}-{}", some(BASE62, 24)))]
            }
            Self::Stripe => vec![("STRIPE_SECRET_KEY", format!("sk_live_51{}", some(BASE62, 97)))],
        };
        parts.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()
    }
}

/// That many letters by chance, each as likely as the others.
fn letters(entropy: &dyn Entropy, alphabet: &[u8], length: usize) -> String {
    let bound = 256 / alphabet.len() * alphabet.len();
    let (mut text, mut chance) = (String::with_capacity(length), [0; 64]);
    while text.len() < length {
        entropy.fill(&mut chance);
        let fair = chance.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < bound);
        let letters = fair.filter_map(|byte| alphabet.get(byte % alphabet.len()));
        text.extend(letters.take(length - text.len()).map(|letter| char::from(*letter)));
    }
    text
}

/// A token that ends with the CRC-32 of its body in base 62, six digits of it.
fn checked(prefix: &str, body: &str) -> String {
    let (mut rest, mut sum) = (u64::from(crc32fast::hash(body.as_bytes())), [b'0'; 6]);
    for digit in sum.iter_mut().rev() {
        let at = usize::try_from(rest % 62).unwrap_or_default();
        *digit = BASE62.get(at).copied().unwrap_or(b'0');
        rest /= 62;
    }
    let sum: String = sum.into_iter().map(char::from).collect();
    format!("{prefix}{body}{sum}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::is_watchable;

    /// Numbers that look like chance, the same in each run.
    #[derive(Debug, Default)]
    struct Counted(AtomicU64);

    impl Entropy for Counted {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                let n = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                *byte = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
            }
        }
    }

    #[test]
    fn every_kind_has_a_name_and_makes_another_credential_each_time_that_is_watched_for() {
        let entropy = Counted::default();
        for kind in Bait::ALL {
            assert_eq!(Bait::named(kind.name()), Some(kind));
            let (one, other) = (kind.make(&entropy), kind.make(&entropy));
            for ((name, value), (_, another)) in one.iter().zip(&other) {
                assert!(is_watchable(value.expose()), "{name}");
                assert_ne!(value.expose(), another.expose(), "{name}");
            }
        }
        assert_eq!(Bait::named("nothing"), None);
    }

    #[test]
    fn checksums_are_those_that_providers_put_into_their_tokens() {
        // The check value of CRC-32 is 0xcbf43926.
        assert_eq!(checked("x_", "123456789"), "x_1234567893jZRME");
    }
}
