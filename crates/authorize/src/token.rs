//! The token endpoint (RFC 6749) and the one for revocation (RFC 7009): what is sent there, and what an answer is worth.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::HeaderValue;
use portcullis_core::{Entropy, Secret, Timestamp};
use serde::Deserialize;
use serde_json::json;
use url::{Url, form_urlencoded};
use zeroize::Zeroize as _;

use crate::{
    challenge::scopes,
    identity::{Client, ClientProof, SentBy},
    key::SigningKey,
    metadata::Issuer,
    web::{Answered, Failure, Web},
};

/// Bytes of one token.
const TOKEN_BYTES_MAX: usize = 65_536;
/// How long an assertion about the gateway counts.
const ASSERTION_S: u64 = 60;
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Tokens, as they were granted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) access: Secret<String>,
    pub(crate) refresh: Option<Secret<String>>,
    pub(crate) lasts_s: Option<u64>,
    /// `None`: those that were asked for.
    pub(crate) scopes: Option<Vec<String>>,
}

/// Which token is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An access token.
    Access,
    /// An assertion about a user, in exchange for another token.
    Assertion,
    /// An access token, in exchange for another.
    Exchanged,
}

impl Kind {
    /// Whether an answer says that it is this. A token of another kind must not go where this one goes.
    fn fits(self, written: &Written) -> bool {
        let issued = |kind: &str| {
            let issued = written.issued_token_type.as_deref();
            issued.and_then(|issued| issued.strip_prefix("urn:ietf:params:oauth:token-type:")) == Some(kind)
        };
        let bearer = written.token_type.eq_ignore_ascii_case("bearer");
        match self {
            Self::Access => bearer,
            // Its type of use is none (RFC 8693 section 2.2.1).
            Self::Assertion => issued("id-jag"),
            Self::Exchanged => bearer && (issued("access_token") || issued("jwt")),
        }
    }
}

#[derive(Deserialize)]
struct Written {
    access_token: String,
    issued_token_type: Option<String>,
    token_type: String,
    expires_in: Option<serde_json::Number>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

/// The gateway at the token endpoint of one authorization server.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) web: Web,
    pub(crate) issuer: &'a Issuer,
    pub(crate) client: &'a Client,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) now: Timestamp,
}

impl Desk<'_> {
    /// Asks for an access token.
    pub(crate) async fn request(&self, form: &[(&str, &str)]) -> Result<Granted, Failure> {
        self.tokens(form, Kind::Access).await
    }

    /// Asks for tokens.
    pub(crate) async fn tokens(&self, form: &[(&str, &str)], kind: Kind) -> Result<Granted, Failure> {
        let answer = self.send(&self.issuer.token, form).await?;
        if !answer.status.is_success() {
            return Err(problem(&answer));
        }
        let written: Written = answer.read("the answer of the token endpoint")?;
        if !kind.fits(&written) {
            return Err(Failure::Unavailable("the token is of a kind that the gateway cannot use".into()));
        }
        Ok(Granted {
            access: token(written.access_token)?,
            refresh: written.refresh_token.map(token).transpose()?,
            // Some write it as a fraction.
            lasts_s: written
                .expires_in
                .and_then(|number| number.as_u64().or_else(|| whole(number.as_f64()?))),
            scopes: written.scope.map(|text| scopes(&text)),
        })
    }

    /// Tells the authorization server that a token is not needed any more.
    pub(crate) async fn revoke(&self, token: &Secret<String>, kind: &str) -> Result<(), Failure> {
        let Some(endpoint) = &self.issuer.revocation else {
            return Err(Failure::Unavailable(format!("`{}` revokes no tokens", self.issuer.name)));
        };
        let form = [("token", token.expose().as_str()), ("token_type_hint", kind)];
        let answer = self.send(endpoint, &form).await?;
        if answer.status.is_success() { Ok(()) } else { Err(problem(&answer)) }
    }

    async fn send(&self, endpoint: &Url, form: &[(&str, &str)]) -> Result<Answered, Failure> {
        let (client, mut form) = (self.client, form.to_vec());
        let assertion;
        let mut authorization = None;
        match &client.proof {
            ClientProof::None => form.push(("client_id", &client.id)),
            ClientProof::Secret(SentBy::Basic, secret) => authorization = Some(basic(&client.id, secret)?),
            ClientProof::Secret(SentBy::Post, secret) => {
                form.push(("client_id", &client.id));
                form.push(("client_secret", secret.expose()));
            }
            ClientProof::Key { pem, id } => {
                assertion = self.assertion(pem, id.as_deref())?;
                form.push(("client_id", &client.id));
                form.push(("client_assertion_type", ASSERTION));
                form.push(("client_assertion", &assertion));
            }
        }
        self.web.form(endpoint, &form, authorization).await
    }

    fn assertion(&self, pem: &Secret<String>, key_id: Option<&str>) -> Result<String, Failure> {
        let key =
            SigningKey::of(pem).ok_or_else(|| Failure::Ours("the client's key cannot be used".into()))?;
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        let mut header = json!({ "typ": "JWT", "alg": key.algorithm() });
        if let (Some(id), Some(members)) = (key_id, header.as_object_mut()) {
            members.insert("kid".into(), id.into());
        }
        let claims = json!({
            "iss": self.client.id,
            "sub": self.client.id,
            // The name of the server, not of an endpoint, so that no other can use it.
            "aud": self.issuer.name,
            "jti": URL_SAFE_NO_PAD.encode(random),
            "iat": self.now.seconds(),
            "exp": self.now.seconds().saturating_add(ASSERTION_S),
        });
        let encoded = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = key.sign(signed.as_bytes());
        let signature = signature.ok_or_else(|| Failure::Ours("the client's key cannot sign".into()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn token(mut text: String) -> Result<Secret<String>, Failure> {
    if !text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(Secret::new(text));
    }
    text.zeroize();
    Err(Failure::Unavailable("the token cannot be sent in a header".into()))
}

fn whole(seconds: f64) -> Option<u64> {
    std::time::Duration::try_from_secs_f64(seconds).ok().map(|seconds| seconds.as_secs())
}

/// RFC 6749 section 2.3.1: encoded as in a form before they are joined.
fn basic(id: &str, secret: &Secret<String>) -> Result<HeaderValue, Failure> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let mut joined = format!("{}:{}", encoded(id), encoded(secret.expose()));
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(&joined)));
    joined.zeroize();
    let mut value =
        value.map_err(|_| Failure::Ours("the client's secret does not fit into a header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an answer other than success is worth. Of its words only the code is taken: the rest is written by somebody else.
fn problem(answer: &Answered) -> Failure {
    let code = answer.read::<Problem>("the problem").map(|problem| problem.error).unwrap_or_default();
    let code: String = code.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(64).collect();
    let status = answer.status;
    let temporary = status.is_server_error() || status.as_u16() == 429 || code == "temporarily_unavailable";
    match (temporary, code.as_str()) {
        (true, _) => Failure::Unavailable(format!("{status} {code}")),
        (false, "") => Failure::Unavailable(format!("{status} without a reason")),
        (false, code) => Failure::Refused(code.to_owned()),
    }
}
