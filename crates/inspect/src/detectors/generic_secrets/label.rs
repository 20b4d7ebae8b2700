//! Names under which secrets stand, and those that only sound like it.

use aho_corasick::{AhoCorasick, Match};

/// What a name says of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Something that people choose.
    Password,
    /// Something that programs draw.
    Key,
    /// A key of which the name says that it is secret.
    Secret,
    /// What follows a scheme in an `Authorization` header.
    Bearer,
    /// Only the name of a provider: it may be anything of theirs.
    Provider,
}

/// Words of which one is in every name of a secret, and what stands before passwords in URLs, also as some encoders of
/// JSON write it.
pub(super) const WORDS: &[&str] = &[
    "://",
    r":\/\/",
    r":\//",
    r":/\/",
    "apikey",
    "auth",
    "bearer",
    "basic",
    "credential",
    "credentials",
    "contrase\u{f1}a",
    "key",
    "kennwort",
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwort",
    "pat",
    "pwd",
    "private",
    "salt",
    "secret",
    "senha",
    "token",
];

/// Providers of keys that have no form of their own.
pub(super) const PROVIDERS: &[&str] = &[
    "1password",
    "adafruit",
    "adobe",
    "airtable",
    "algolia",
    "alibaba",
    "aliyun",
    "amplitude",
    "artifactory",
    "asana",
    "atlassian",
    "auth0",
    "azure",
    "beamer",
    "bitbucket",
    "bittrex",
    "binance",
    "bitly",
    "bugsnag",
    "braintree",
    "clickhouse",
    "clicksend",
    "cloudflare",
    "cloudinary",
    "codecov",
    "codacy",
    "cohere",
    "coinbase",
    "confluent",
    "contentful",
    "datadog",
    "deepgram",
    "deepl",
    "deepseek",
    "discord",
    "droneci",
    "dropbox",
    "elastic",
    "elevenlabs",
    "etsy",
    "eventbrite",
    "facebook",
    "fastly",
    "finicity",
    "finnhub",
    "firebase",
    "flickr",
    "foursquare",
    "freshbooks",
    "freshdesk",
    "giphy",
    "gitter",
    "gocardless",
    "hashicorp",
    "heroku",
    "hubspot",
    "infura",
    "intercom",
    "ipinfo",
    "jenkins",
    "jfrog",
    "jira",
    "kraken",
    "kucoin",
    "launchdarkly",
    "linear",
    "linkedin",
    "looker",
    "mailchimp",
    "mailgun",
    "mailjet",
    "mandrill",
    "mapbox",
    "mattermost",
    "maxmind",
    "meraki",
    "messagebird",
    "message_bird",
    "mistral",
    "mixpanel",
    "mongodb",
    "netlify",
    "newrelic",
    "new-relic",
    "nexmo",
    "notion",
    "nytimes",
    "octopus",
    "okta",
    "onesignal",
    "openweather",
    "opsgenie",
    "pagerduty",
    "paypal",
    "paystack",
    "pinecone",
    "plaid",
    "plivo",
    "postmark",
    "privateai",
    "pubnub",
    "pusher",
    "quandl",
    "rapidapi",
    "razorpay",
    "rollbar",
    "salesforce",
    "segment",
    "sendbird",
    "sentry",
    "servicenow",
    "sinch",
    "snowflake",
    "snyk",
    "sonar",
    "splunk",
    "spotify",
    "square",
    "squarespace",
    "statuspage",
    "sumologic",
    "sumo",
    "supabase",
    "tableau",
    "telegram",
    "terraform",
    "travis",
    "trello",
    "twilio",
    "twitch",
    "twitter",
    "typeform",
    "unsplash",
    "vercel",
    "vonage",
    "weatherapi",
    "webex",
    "wepay",
    "yandex",
    "yelp",
    "youtube",
    "zapier",
    "zendesk",
    "zoom",
];

/// Parts of names that make them names of something else: places, counts, positions, public things.
pub(super) const OTHERS: &[&str] = &[
    "page",
    "next",
    "prev",
    "cursor",
    "continu",
    "progress",
    "resume",
    "offset",
    "delta",
    "sync",
    "public",
    "pub_",
    "pubkey",
    "count",
    "limit",
    "length",
    "size",
    "max",
    "min",
    "expire",
    "expiry",
    "ttl",
    "file",
    "path",
    "dir",
    "url",
    "uri",
    "host",
    "endpoint",
    "name",
    "type",
    "kind",
    "mode",
    "format",
    "version",
    "policy",
    "field",
    "label",
    "index",
    "column",
    "keyword",
    "keyboard",
    "monkey",
    "turkey",
    "hockey",
    "primary",
    "foreign",
    "sort",
    "partition",
    "unique",
    "idempot",
    "cache",
    "tokens",
    "tokeni",
    "author",
    "passed",
    "passing",
    "passeng",
    "compass",
    "bypass",
    "passive",
    "passion",
    "passport",
    "pattern",
    "patch",
    "patient",
    "compat",
    "update",
    "client_ip",
    "status",
    "state",
    "keys",
    "keyid",
    "key_id",
    "key-id",
    "arn",
    "sha",
    "md5",
    "hash",
    "digest",
    "checksum",
    "etag",
    "commit",
    "integrity",
    "fingerprint",
    "revision",
    "trace",
    "design",
    "assign",
    "signal",
    "basically",
    "signature_v",
    "signed",
    "publish",
    "object",
    "prefix",
    "suffix",
    "email",
    "keyring",
    "keystore",
    "session_id",
    "sessionid",
    "request",
    "donkey",
    "keyframe",
    "passthrough",
    "pathway",
    "date",
    "time",
];

impl Label {
    /// What a name says of its value, if anything.
    pub(super) fn of(name: &[u8], others: &AhoCorasick) -> Option<Self> {
        let mut lower = [0_u8; 112];
        let name = name.get(name.len().saturating_sub(lower.len())..)?;
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        let has = |word: &str| memchr::memmem::find(lower, word.as_bytes()).is_some();
        if !Self::may_be(lower, others) {
            return None;
        }
        // The name of an assignment ends with what it is: `api_key`, not `key_of_hash`.
        let last = lower.rsplit(|byte| matches!(byte, b'.' | b'_' | b'-')).next().unwrap_or_default();
        if last == b"id" || last == b"ids" || last == b"no" || name.ends_with(b"Id") || name.ends_with(b"ID")
        {
            return None;
        }
        if has("passw")
            || has("passwd")
            || has("pwd")
            || has("passphrase")
            || has("kennwort")
            || has("senha")
            || has("contrase")
            || has("passcode")
            || is_word(lower, "pass")
        {
            return Some(Self::Password);
        }
        if has("secret")
            || has("credential")
            || has("apikey")
            || has("api_key")
            || has("api-key")
            || has("private")
            || has("access_key")
            || has("access-key")
            || has("accesskey")
            || has("auth_token")
            || has("authtoken")
            || has("auth-token")
            || has("access_token")
            || has("accesstoken")
            || has("access-token")
        {
            return Some(Self::Secret);
        }
        if is_word(lower, "bearer") || is_word(lower, "basic") || last == b"authorization" {
            return Some(Self::Bearer);
        }
        let key = has("token")
            || is_word(lower, "key")
            || name.ends_with(b"Key")
            || is_word(lower, "pat")
            || is_word(lower, "auth")
            || has("salt")
            || lower.ends_with(b"key");
        key.then_some(Self::Key)
    }

    /// Whether a name may be that of a secret: nothing in it says that it is of something else.
    pub(super) fn may_be(name: &[u8], others: &AhoCorasick) -> bool {
        // `authorization` holds `author`, and is the name of a header.
        let authorization = |hit: &Match| {
            let word = name.get(hit.start()..hit.start() + "authorization".len());
            word.is_some_and(|word| word.eq_ignore_ascii_case(b"authorization"))
        };
        others.find_overlapping_iter(name).all(|hit| authorization(&hit))
    }
}

/// Whether `word` stands in a name as a part of its own.
fn is_word(name: &[u8], word: &str) -> bool {
    name.split(|byte| !byte.is_ascii_alphanumeric()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}
