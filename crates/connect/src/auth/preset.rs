//! What is peculiar about the identity providers that most people have: which claim holds roles, what their issuers look
//! like, and which settings cannot work with them. `docs/operate/identity.md` has the rest.

use serde_json::{Map, Value};

use crate::auth::{AuthError, jwt::JwtIssuer};

/// A provider whose peculiarities are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Auth0.
    Auth0,
    /// Microsoft Entra ID.
    Entra,
    /// Google, whose ID tokens with an audience of their own are what its service accounts show.
    Google,
    /// Keycloak.
    Keycloak,
    /// Okta.
    Okta,
}

impl Preset {
    /// The claim that holds roles where nothing else is configured.
    #[must_use]
    pub const fn roles_claim(self) -> &'static str {
        match self {
            Self::Auth0 => "permissions",
            Self::Entra => "roles",
            Self::Google => "email",
            Self::Keycloak => "realm_access.roles",
            Self::Okta => "groups",
        }
    }

    /// Why these settings cannot work with the provider, if they cannot.
    pub(in crate::auth) fn objection(self, issuer: &JwtIssuer) -> Option<&'static str> {
        let name = issuer.issuer.as_str();
        let many = ["/common/", "/organizations/", "/consumers/"].iter().any(|part| name.contains(part));
        match self {
            Self::Auth0 if !name.ends_with('/') => Some("issuers of Auth0 end with `/`"),
            Self::Entra if many => {
                Some("tokens of Entra name their tenant; write its id where the issuer is common to all")
            }
            Self::Entra if name.starts_with("https://sts.windows.net/") && !name.ends_with('/') => {
                Some("issuers of tokens of version 1.0 end with `/`")
            }
            Self::Google if name != "https://accounts.google.com" => {
                Some("the issuer of Google is `https://accounts.google.com`")
            }
            Self::Keycloak if !name.contains("/realms/") => {
                Some("issuers of Keycloak end with `/realms/REALM`")
            }
            Self::Okta if !name.contains("/oauth2/") => Some(
                "only tokens of a custom authorization server (`/oauth2/ID`) can be checked by others than Okta",
            ),
            Self::Auth0 | Self::Entra | Self::Google | Self::Keycloak | Self::Okta => None,
        }
    }

    /// What else must hold of the provider's tokens.
    pub(in crate::auth) fn check(self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        match self {
            // Anybody can have an account that claims an address.
            Self::Google
                if claims.contains_key("email")
                    && claims.get("email_verified") != Some(&Value::Bool(true)) =>
            {
                Err(AuthError::invalid("the e-mail address of the token is not verified"))
            }
            // The other kinds have `ID`, `Refresh` and the like here, where a version may invent more.
            Self::Keycloak if text("typ").is_some_and(|typ| !matches!(typ, "Bearer" | "DPoP")) => {
                Err(AuthError::invalid("the token is not an access token"))
            }
            Self::Auth0 | Self::Entra | Self::Google | Self::Keycloak | Self::Okta => Ok(()),
        }
    }
}
