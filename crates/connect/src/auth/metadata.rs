//! What a route says about itself to clients that have no token yet: protected-resource metadata (RFC 9728) and the
//! challenges that lead there.

use portcullis_core::Code;
use serde_json::{Map, Value, json};

use crate::auth::{Alg, Bound, Route, dpop};

/// Where well-known documents start.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Where the metadata of `resource` is: the well-known path stands between authority and path (RFC 9728, section 3.1).
#[must_use]
pub fn metadata_url(resource: &str) -> String {
    let (scheme, rest) = resource.split_once("://").unwrap_or(("https", resource));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    format!("{scheme}://{authority}{WELL_KNOWN}{}", path.trim_end_matches('/'))
}

/// The metadata document of `route`, whose tokens come from `issuers` where it names none.
#[must_use]
pub fn metadata(route: &Route, issuers: &[String]) -> String {
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("resource", json!(route.resource));
    let servers: Vec<&String> = issuers.iter().filter(|issuer| route.takes(issuer)).collect();
    if !servers.is_empty() {
        put("authorization_servers", json!(servers));
        put("dpop_signing_alg_values_supported", json!(dpop::ALGS.map(Alg::name)));
    }
    if !route.scopes.is_empty() {
        put("scopes_supported", json!(route.scopes));
    }
    if route.bound == Bound::Dpop {
        put("dpop_bound_access_tokens_required", json!(true));
    }
    if route.bound == Bound::Certificate {
        put("tls_client_certificate_bound_access_tokens", json!(true));
    }
    put("bearer_methods_supported", json!(["header"]));
    put("resource_name", json!("Portcullis"));
    Value::Object(document).to_string()
}

/// What a refused client is told about getting in.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// Why it was refused.
    pub code: Code,
    /// Where the metadata of the route is.
    pub metadata_url: &'a str,
    /// The scopes that would do; `None` where there are none to ask for.
    pub scope: Option<&'a str>,
    /// Whether it showed a DPoP token, or has to.
    pub dpop: bool,
}

impl Challenge<'_> {
    /// The value of `WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1, RFC 9449 section 7.1), for the refusals that
    /// have one.
    #[must_use]
    pub fn value(&self) -> Option<String> {
        let error = match self.code {
            Code::AuthInvalid => Some("invalid_token"),
            Code::AuthMissing => None,
            Code::AuthNonce => Some("use_dpop_nonce"),
            Code::AuthProof => Some("invalid_dpop_proof"),
            Code::AuthScope => Some("insufficient_scope"),
            _ => return None,
        };
        let scheme = if self.dpop { "DPoP" } else { "Bearer" };
        let mut value = format!("{scheme} resource_metadata=\"{}\"", self.metadata_url);
        if let Some(error) = error {
            value.push_str(&format!(", error=\"{error}\""));
        }
        // Characters of scopes need no escape in a quoted string (RFC 6749, section 3.3).
        if let Some(scope) = self.scope.filter(|scope| !scope.is_empty()) {
            value.push_str(&format!(", scope=\"{scope}\""));
        }
        if self.dpop {
            value.push_str(&format!(", algs=\"{}\"", dpop::ALGS.map(Alg::name).join(" ")));
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_path_stands_between_authority_and_path() {
        for (resource, expected) in [
            ("https://g.example/mcp/a", "https://g.example/.well-known/oauth-protected-resource/mcp/a"),
            ("https://g.example", "https://g.example/.well-known/oauth-protected-resource"),
            ("https://g.example/", "https://g.example/.well-known/oauth-protected-resource"),
            (
                "https://g.example:8443/in/front/mcp/a",
                "https://g.example:8443/.well-known/oauth-protected-resource/in/front/mcp/a",
            ),
            ("http://[::1]:7300/mcp", "http://[::1]:7300/.well-known/oauth-protected-resource/mcp"),
        ] {
            assert_eq!(metadata_url(resource), expected);
        }
    }

    #[test]
    fn metadata_names_the_resource_its_issuers_and_no_more_scopes_than_needed() {
        let issuers = ["https://a.example".to_owned(), "https://b.example".to_owned()];
        let plain: Value = serde_json::from_str(&metadata(&Route::at("https://g/mcp/a"), &issuers)).unwrap();
        assert_eq!(plain["resource"], "https://g/mcp/a");
        assert_eq!(plain["authorization_servers"], json!(issuers));
        assert_eq!(plain.get("scopes_supported"), None);
        assert_eq!(plain.get("dpop_bound_access_tokens_required"), None);
        let route = Route {
            issuers: Some(["https://b.example".to_owned()].into()),
            scopes: vec!["mcp".into()],
            bound: Bound::Dpop,
            ..Route::at("https://g/mcp/a")
        };
        let narrow: Value = serde_json::from_str(&metadata(&route, &issuers)).unwrap();
        assert_eq!(narrow["authorization_servers"], json!(["https://b.example"]));
        assert_eq!(narrow["scopes_supported"], json!(["mcp"]));
        assert_eq!(narrow["dpop_bound_access_tokens_required"], true);
        let none: Value = serde_json::from_str(&metadata(&Route::at("https://g/mcp/a"), &[])).unwrap();
        assert_eq!(none.get("authorization_servers"), None);
    }

    #[test]
    fn a_challenge_names_metadata_error_and_scopes_in_one_line() {
        let of = |code, scope, dpop| Challenge { code, metadata_url: "u", scope, dpop }.value();
        let bearer = |rest: &str| Some(format!("Bearer resource_metadata=\"u\"{rest}"));
        assert_eq!(of(Code::AuthMissing, None, false), bearer(""));
        assert_eq!(of(Code::AuthMissing, Some("mcp"), false), bearer(", scope=\"mcp\""));
        assert_eq!(of(Code::AuthInvalid, None, false), bearer(", error=\"invalid_token\""));
        assert_eq!(
            of(Code::AuthScope, Some("mcp pay"), false),
            bearer(", error=\"insufficient_scope\", scope=\"mcp pay\"")
        );
        assert_eq!(
            of(Code::AuthNonce, None, true).unwrap(),
            "DPoP resource_metadata=\"u\", error=\"use_dpop_nonce\", algs=\"ES256 ES384 EdDSA PS256 RS256\""
        );
        assert_eq!(of(Code::PolicyDenied, None, false), None);
    }
}
