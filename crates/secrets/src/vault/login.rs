//! How the gateway proves to Vault who it is.

use http::Method;
use portcullis_core::Secret;
use serde_json::{Value, json};

use super::{Question, Vault};
use crate::{
    aws::{AwsIdentity, caller_identity},
    local,
    reference::Reference,
    source::Failure,
};

/// A way to log in. `mount` is where the method is mounted, without `auth/`. Every secret is a reference to the environment
/// or to a file, read at each login, so that it may change while the gateway runs.
#[derive(Clone, Debug)]
pub enum Login {
    /// With a token.
    Token {
        /// The token.
        token: Reference,
        /// Whether it is a wrapping token, which is exchanged once for the real one.
        wrapped: bool,
    },
    /// As a machine.
    AppRole {
        /// Where it is mounted.
        mount: String,
        /// The role id.
        role_id: Reference,
        /// The secret id, unless the role wants none.
        secret_id: Option<Reference>,
        /// Whether the secret id comes in a wrapping token.
        wrapped: bool,
    },
    /// With the token of the pod's service account.
    Kubernetes {
        /// Where it is mounted.
        mount: String,
        /// The role.
        role: String,
        /// The token.
        jwt: Reference,
    },
    /// With a JWT or an OIDC token.
    Jwt {
        /// Where it is mounted.
        mount: String,
        /// The role; the default one where none is named.
        role: Option<String>,
        /// The token.
        jwt: Reference,
    },
    /// With the client certificate of the connection.
    Certificate {
        /// Where it is mounted.
        mount: String,
        /// Name of the trusted certificate; any that fits where none is named.
        name: Option<String>,
    },
    /// As an identity of AWS, by a signed `sts:GetCallerIdentity`.
    Aws {
        /// Where it is mounted.
        mount: String,
        /// The role; the name of the identity where none is named.
        role: Option<String>,
        /// Value of `X-Vault-AWS-IAM-Server-ID`, which the method may ask for.
        server_id: Option<String>,
        /// Who the gateway is at AWS.
        identity: Box<AwsIdentity>,
    },
    /// With a user's name and password.
    UserPass {
        /// Where it is mounted.
        mount: String,
        /// The user.
        user: String,
        /// The password.
        password: Reference,
    },
}

impl Vault {
    fn declared(&self, reference: &Reference) -> Result<Secret<String>, Failure> {
        let value = local::read(reference, &self.settings.variables).map_err(Failure::Unavailable)?;
        Ok(Secret::new(value.expose().trim().to_owned()))
    }

    /// Logs in. The answer has an `auth` member, but for a token that was given, which comes alone.
    pub(super) async fn log_in(&self) -> Result<Result<Value, Secret<String>>, Failure> {
        let (mount, tail, body) = match &self.settings.login {
            Login::Token { token, wrapped: false } => return Ok(Err(self.declared(token)?)),
            Login::Token { token, wrapped: true } => {
                return self.unwrapped(&self.declared(token)?).await.map(Ok);
            }
            Login::AppRole { mount, role_id, secret_id, wrapped } => {
                let mut body = json!({ "role_id": self.declared(role_id)?.expose() });
                if let Some(secret_id) = secret_id {
                    let mut secret = self.declared(secret_id)?;
                    if *wrapped {
                        secret = self.wrapped_secret_id(&secret).await?;
                    }
                    set(&mut body, "secret_id", secret.expose());
                }
                (mount, None, body)
            }
            Login::Kubernetes { mount, role, jwt } => {
                (mount, None, json!({ "role": role, "jwt": self.declared(jwt)?.expose() }))
            }
            Login::Jwt { mount, role, jwt } => {
                let mut body = json!({ "jwt": self.declared(jwt)?.expose() });
                role.iter().for_each(|role| set(&mut body, "role", role));
                (mount, None, body)
            }
            Login::Certificate { mount, name } => {
                let mut body = json!({});
                name.iter().for_each(|name| set(&mut body, "name", name));
                (mount, None, body)
            }
            Login::Aws { mount, role, server_id, identity } => {
                let clock = &*self.clock;
                let mut body = caller_identity(identity, server_id.as_deref(), clock).await?;
                role.iter().for_each(|role| set(&mut body, "role", role));
                (mount, None, body)
            }
            Login::UserPass { mount, user, password } => {
                (mount, Some(user.as_str()), json!({ "password": self.declared(password)?.expose() }))
            }
        };
        let path: Vec<&str> =
            ["auth"].into_iter().chain(mount.split('/')).chain(["login"]).chain(tail).collect();
        // A secret id may be good for one use: it is not sent twice where the first may have arrived.
        let question = Question {
            method: &Method::POST,
            path: &path,
            query: None,
            body: Some(&body),
            token: None,
            repeatable: false,
        };
        self.ask(question).await.map(Ok)
    }

    async fn wrapped_secret_id(&self, token: &Secret<String>) -> Result<Secret<String>, Failure> {
        let answer = self.unwrapped(token).await?;
        let secret = answer.pointer("/data/secret_id").and_then(Value::as_str);
        let absent = || Failure::Forbidden("the wrapping token holds no secret id".into());
        secret.map(|secret| Secret::new(secret.to_owned())).ok_or_else(absent)
    }

    /// What a wrapping token holds. It is good for one use: whoever comes second learns that somebody was first.
    async fn unwrapped(&self, token: &Secret<String>) -> Result<Value, Failure> {
        let question = Question {
            method: &Method::POST,
            path: &["sys", "wrapping", "unwrap"],
            query: None,
            body: None,
            token: Some(token),
            repeatable: false,
        };
        self.ask(question).await.map_err(|failure| match failure {
            Failure::Forbidden(said) => Failure::Forbidden(format!(
                "{said}; a wrapping token is good for one use: if it was new, somebody else may have used it"
            )),
            other => other,
        })
    }
}

fn set(body: &mut Value, name: &str, value: &str) {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), Value::from(value));
    }
}
