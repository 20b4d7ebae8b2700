//! The immutable, compiled configuration in force. A reload builds a new one and swaps the pointer; a message is
//! judged by one of them from beginning to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use portcullis_connect::auth::Authenticator;
use portcullis_core::{Digest, Limits, Secret};
use portcullis_inspect::Inspector;
use portcullis_mcp::json::JsonLimits;
use portcullis_policy::Policies;
use url::Url;

use crate::{catalog::Catalog, upstream::Upstream};

/// Everything that decides about messages.
#[derive(Debug)]
pub struct Rules {
    /// Digest of the configuration this was compiled from; in every entry.
    pub digest: Digest,
    /// Everything that can grow.
    pub limits: Limits,
    /// Limits of JSON from clients.
    pub request: JsonLimits,
    /// Limits of JSON from servers.
    pub answer: JsonLimits,
    /// Host names that are served, without ports, lower case.
    pub hosts: BTreeSet<String>,
    /// Origins that browsers may come from, besides the hosts themselves.
    pub origins: BTreeSet<String>,
    /// Scheme and authority under which clients reach us, without a trailing slash.
    pub public_url: String,
    /// Issuers named in protected-resource metadata.
    pub authorization_servers: Vec<String>,
    /// Ways in.
    pub auth: Arc<Authenticator>,
    /// Who may do what.
    pub policy: Arc<Policies>,
    /// Detectors.
    pub inspector: Arc<Inspector>,
    /// Servers by name.
    pub servers: BTreeMap<String, Arc<Server>>,
}

impl Rules {
    /// The canonical URI of a route: the audience of tokens for it (RFC 8707).
    #[must_use]
    pub fn resource(&self, server: &str) -> String {
        format!("{}/mcp/{server}", self.public_url)
    }

    /// Where the protected-resource metadata of a route is (RFC 9728 section 3.1).
    #[must_use]
    pub fn metadata_url(&self, server: &str) -> String {
        format!("{}/.well-known/oauth-protected-resource/mcp/{server}", self.public_url)
    }
}

/// One server behind the gateway.
#[derive(Debug)]
pub struct Server {
    /// Its name, the last segment of its route.
    pub name: Arc<str>,
    /// What the operator declared.
    pub settings: ServerSettings,
    /// How it is reached.
    pub upstream: Upstream,
    /// What it offers, pinned.
    pub catalog: Catalog,
}

/// What the operator declares about a server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// How it is reached.
    pub transport: Transport,
    /// What happens to definitions nobody has approved.
    pub trust: Trust,
    /// What the server may ask of clients: `elicitation`, `roots`, `sampling`.
    pub server_requests: BTreeSet<String>,
    /// Digest of the declaration with its secrets, to see whether a reload changed it.
    pub digest: Digest,
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Url,
        /// Headers joined at `arm`.
        headers: Vec<(http::HeaderName, Secret<String>)>,
        /// Addresses it may resolve to.
        egress: portcullis_net::guard::EgressPolicy,
    },
    /// A child process.
    Stdio {
        /// The program; no shell is involved.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, on top of a minimal clean one.
        env: BTreeMap<String, Secret<String>>,
        /// Its working directory.
        cwd: Option<PathBuf>,
        /// Who shares a process.
        isolation: Isolation,
    },
}

/// Who shares a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each caller has its own.
    PerCaller,
    /// Each session has its own; messages without a session share one per caller.
    PerSession,
    /// One for everybody. The server cannot ask clients anything.
    Shared,
}

/// What happens to definitions nobody has approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing is usable before a person approved it.
    Review,
    /// The first catalogue is pinned as it is; what comes later is reviewed.
    TrustOnFirstUse,
}
