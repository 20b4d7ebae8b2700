//! The immutable, compiled configuration in force. A reload builds a new one and swaps the pointer; a message is
//! judged by one of them from beginning to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_authorize::{Authorizer, Outgoing};
use portcullis_catalog::Catalog;
use portcullis_connect::auth::{Authenticator, Route};
use portcullis_core::{Digest, Limits, Review, TargetKind};
use portcullis_inspect::Inspector;
use portcullis_mcp::json::JsonLimits;
use portcullis_meaning::Meanings;
use portcullis_policy::{Policies, ScopeRules};
use portcullis_usage::Quota;

use crate::{
    aggregate::{self, Group},
    settings::ServerSettings,
};
use portcullis_upstream::Upstream;

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
    /// Host names that are served, without ports unless only one is, lower case.
    pub hosts: BTreeSet<String>,
    /// Listening on every address: any of them may stand in the Host header, since DNS rebinding needs a name.
    pub any_address: bool,
    /// Origins that browsers may come from, beside our own.
    pub origins: BTreeSet<String>,
    /// Scheme and authority under which clients reach us, without a trailing slash.
    pub public_url: String,
    /// Keeps the tokens with which callers come, where a server takes one in exchange for them.
    pub exchange: Option<Arc<Authorizer>>,
    /// Issuers named in protected-resource metadata.
    pub authorization_servers: Vec<String>,
    /// How routes let callers in, by name, where that is not the default.
    pub access: BTreeMap<String, Arc<Route>>,
    /// The OAuth scopes that calls need, by name of server or route.
    pub scopes: BTreeMap<String, ScopeRules>,
    /// Ways in.
    pub auth: Arc<Authenticator>,
    /// Who may do what.
    pub policy: Arc<Policies>,
    /// A candidate that decides beside it, without effect.
    pub shadow: Option<Arc<Policies>>,
    /// How much may be used.
    pub quotas: Vec<Quota>,
    /// What parameters of tools mean, by server.
    pub meanings: BTreeMap<String, Meanings>,
    /// Whom to ask about what they find.
    pub review: Review,
    /// Detectors.
    pub inspector: Arc<Inspector>,
    /// Servers that are the same service elsewhere, in order, by the name of the one that clients call.
    pub replicas: BTreeMap<String, Vec<String>>,
    /// Servers by name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Routes over several servers by name: virtual servers, and [`aggregate::ROOT`] for `/mcp`.
    pub groups: BTreeMap<String, Arc<Server>>,
}

impl Rules {
    /// What the route of that name leads to: a server, or several.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers.get(name).or_else(|| self.groups.get(name))
    }

    /// The server with that place among the replicas of one: 0 is that itself.
    #[must_use]
    pub fn replica(&self, server: &str, place: usize) -> Option<&Arc<Server>> {
        match place.checked_sub(1) {
            None => self.servers.get(server),
            Some(place) => self.servers.get(self.replicas.get(server)?.get(place)?),
        }
    }

    /// Digest of the declaration of what the route of that name leads to.
    #[must_use]
    pub fn declared(&self, name: &str) -> Option<Digest> {
        self.route(name).map(|route| route.settings.digest)
    }

    /// The path of a route.
    fn path(&self, name: &str) -> String {
        if name == aggregate::ROOT && self.groups.contains_key(name) {
            return String::from("/mcp");
        }
        format!("/mcp/{name}")
    }

    /// How the route of that name lets callers in, whether there is one or not.
    #[must_use]
    pub fn access(&self, name: &str) -> Arc<Route> {
        self.access.get(name).map_or_else(|| Arc::new(Route::at(self.resource(name))), Arc::clone)
    }

    /// The canonical URI of a route: the audience of tokens for it (RFC 8707).
    #[must_use]
    pub fn resource(&self, server: &str) -> String {
        format!("{}{}", self.public_url, self.path(server))
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
    /// Where tokens for it come from, where it wants some.
    pub authorization: Option<Arc<Outgoing>>,
    /// The servers behind it, where the route leads to several.
    pub group: Option<Box<Group>>,
}

impl Server {
    /// The server said that its lists changed: they are fetched soon, and what was fetched before is not served.
    pub(crate) fn changed(self: &Arc<Self>, limits: Limits) {
        self.catalog.invalidate();
        // The one that waits fetches this change, too: a server that says it without end is asked only so often.
        if !self.catalog.queue() {
            return;
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            server.catalog.turn().await;
            let _ = server.catalog.refresh(&server.upstream, TargetKind::ALL, &limits).await;
        });
    }
}
