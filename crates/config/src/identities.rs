//! How callers prove who they are: the section `identities` of `portcullis.yaml`, and what in it would expose the gateway or
//! could not take effect.

use std::{collections::BTreeMap, path::PathBuf};

use portcullis_connect::auth::{Alg, NamePattern};
use portcullis_core::Action;
use url::Url;

use super::{
    decode::{Setting, Shape, Walk, choice, section},
    primitives::Bounded,
    values::{PatternText, Reference, RoleName},
    yaml::Node,
};

section! {
    /// How callers prove who they are. Without any way, nobody is let in.
    Identities {
        /// Accept the gateway's own API keys (`portcullis key create`).
        api_keys: bool = true;
        /// Let callers in who present nothing, with these roles. Only on a loopback listener.
        anonymous: Option<Anonymous>;
        /// Issuers whose tokens are accepted.
        jwt: Vec<Jwt>;
        /// Callers who prove with a client certificate who they are; the first that fits counts. Needs
        /// `listen.tls.client_ca`.
        certificates: Vec<Certificate>;
        /// Demand a nonce of the gateway's own in every DPoP proof (RFC 9449), so that no proof can be made in advance.
        dpop_nonces: bool = false;
        /// How single routes let callers in, by the name of the server or virtual server; `aggregate` for `/mcp`.
        routes: BTreeMap<String, Access>;
    }
}

section! {
    /// Callers who present no credential.
    Anonymous {
        /// Their roles.
        roles: Vec<RoleName>;
    }
}

section! {
    /// An issuer of tokens. Without `jwks_file` and `jwks_url` its keys are where its own document says (RFC 8414, OpenID
    /// Connect Discovery).
    Jwt {
        /// The `iss` of its tokens, compared byte for byte.
        issuer: String;
        /// The provider behind it, whose peculiarities are then known; see docs/operate/identity.md.
        preset: Option<Preset>;
        /// Accepted `aud` values, on every route. Default: the URL of the route that is called, which is stricter.
        audiences: Vec<String>;
        /// Accepted signature algorithms.
        algorithms: Vec<Alg> = vec![Alg::Es256, Alg::EdDsa, Alg::Rs256];
        /// File with the issuer's key set.
        jwks_file: Option<PathBuf>;
        /// URL of the issuer's key set: `https`, or `http` on this machine.
        jwks_url: Option<Url>;
        /// Claim that lists roles or groups. Default: that of the preset. Scopes are always mapped.
        roles_claim: Option<String>;
        /// Value of that claim to roles.
        role_map: BTreeMap<String, Vec<RoleName>>;
        /// Roles of every caller of this issuer.
        default_roles: Vec<RoleName>;
        /// Whether its tokens stand for people or programs.
        kind: JwtKind = JwtKind::User;
        /// Claims that policies may read, as `principal.claims`.
        claims: Vec<String>;
        /// Require the header `typ: at+jwt` (RFC 9068), so that no other kind of token is taken for an access token.
        require_typ_at_jwt: bool = false;
        /// Tolerated difference between clocks, in seconds.
        leeway_s: Bounded<0, 300> = Bounded(60);
        /// Longest accepted lifetime of a token, in seconds.
        max_lifetime_s: Bounded<60, 31_536_000> = Bounded(86_400);
        /// Asks the issuer about tokens (RFC 7662): those that are no JWT, or all.
        introspection: Option<Introspection>;
        /// The names of its URLs may resolve to private addresses. Those of this machine are reached where the URL of the
        /// issuer, or the one written here, says so.
        allow_private: bool = false;
        /// PEM file with certificate authorities trusted for its URLs, beside the platform's.
        ca: Option<PathBuf>;
    }
}

section! {
    /// How an issuer is asked about tokens. It is never asked about those of another issuer.
    Introspection {
        /// Where. Default: where the issuer's own document says.
        url: Option<Url>;
        /// The gateway's own id at the issuer.
        client_id: String;
        /// The secret that goes with it: `env:NAME` or `file:PATH`.
        client_secret: Reference;
        /// How long an answer counts, in seconds. With 0 a revocation takes effect with the next request.
        cache_s: Bounded<0, 300> = Bounded(0);
        /// About which tokens.
        tokens: Introspected = Introspected::Opaque;
    }
}

choice! {
    /// About which tokens an issuer is asked.
    Introspected {
        /// Those that are no JWT.
        Opaque = "opaque",
        /// All: a JWT is verified as always, and then asked about.
        All = "all",
    }
}

choice! {
    /// An identity provider whose peculiarities are known.
    Preset {
        /// Auth0: roles from `permissions`.
        Auth0 = "auth0",
        /// Microsoft Entra ID: roles from `roles`.
        Entra = "entra",
        /// Google: ID tokens with an audience of their own; roles from a verified `email`.
        Google = "google",
        /// Keycloak: roles from `realm_access.roles`.
        Keycloak = "keycloak",
        /// Okta: roles from `groups`.
        Okta = "okta",
    }
}

section! {
    /// Callers who prove with a client certificate who they are.
    Certificate {
        /// Their name in it: `spiffe://DOMAIN/PATH`, `spiffe://DOMAIN/PATH/*` for all below, `dns:NAME`, `email:ADDRESS`, or
        /// `cn:NAME`.
        name: CertificateText;
        /// Their roles.
        roles: Vec<RoleName>;
        /// Whether they are people or programs.
        kind: JwtKind = JwtKind::Service;
    }
}

section! {
    /// How one route lets callers in. A route over several servers must be no laxer than what it leads to.
    Access {
        /// Issuers whose tokens count here. Default: all.
        issuers: Vec<String>;
        /// Accepted `aud` values beside the URL of the route, for providers that cannot name it. A token for one of them
        /// counts on every route that lists it.
        audiences: Vec<String>;
        /// OAuth scopes that every token needs here; told to clients in metadata and challenges. Roles and policies decide
        /// as well.
        scopes: Vec<ScopeText>;
        /// OAuth scopes that single calls need beside.
        step_up: Vec<StepUp>;
        /// Whether credentials must be bound to a key.
        bound_tokens: BoundTokens = BoundTokens::Any;
        /// What happens while the keys of an issuer cannot be fetched.
        issuer_down: IssuerDown = IssuerDown::Refuse;
    }
}

section! {
    /// OAuth scopes that some calls need. A key that is left out does not restrict. Asked of the names in calls, and of tokens
    /// only: API keys and certificates have no scopes.
    StepUp {
        /// Actions.
        actions: Vec<Action>;
        /// Tool names.
        tools: Vec<PatternText>;
        /// Prompt names.
        prompts: Vec<PatternText>;
        /// Resource URIs and URI templates.
        resources: Vec<PatternText>;
        /// The scopes.
        scopes: Vec<ScopeText>;
    }
}

choice! {
    /// Whether credentials must be bound to a key.
    BoundTokens {
        /// Tokens that say they are bound must be shown to be; others count as they are.
        Any = "any",
        /// By DPoP or a client certificate; bearer tokens and API keys are refused.
        Required = "required",
        /// By DPoP.
        Dpop = "dpop",
        /// To a client certificate, or the certificate is the credential.
        Certificate = "certificate",
    }
}

choice! {
    /// What happens while the keys of an issuer cannot be fetched.
    IssuerDown {
        /// Its tokens are refused as soon as the keys are older than `limits.jwks_refresh_ms`.
        Refuse = "refuse",
        /// Tokens count until they expire, with the keys known last, for `limits.jwks_stale_max_ms` at most. A key that the
        /// issuer withdraws meanwhile stays good for so long.
        KnownKeys = "known_keys",
    }
}

choice! {
    /// Whom a token stands for.
    JwtKind {
        /// A program.
        Service = "service",
        /// A person.
        User = "user",
    }
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateText(pub NamePattern);

impl Setting for CertificateText {
    fn shape() -> Shape {
        Shape::Text("certificate name")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        let hint = "write `spiffe://DOMAIN/PATH`, `dns:NAME`, `email:ADDRESS` or `cn:NAME`; only SPIFFE paths may end with `/*`";
        text.parse().map_err(|error: String| walk.report(node, error, hint)).ok().map(Self)
    }
}

/// An OAuth scope.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeText(pub String);

impl Setting for ScopeText {
    fn shape() -> Shape {
        Shape::Text("scope")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        // RFC 6749, section 3.3.
        let good = !text.is_empty() && text.bytes().all(|b| matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~'));
        if !good {
            walk.report(
                node,
                format!("`{text}` is not a scope"),
                "write one scope, without spaces, quotes and backslashes",
            );
        }
        good.then_some(Self(text))
    }
}
