//! What the operator declares about one server.

use std::collections::BTreeSet;

use portcullis_catalog::Trust;
use portcullis_core::Digest;
use portcullis_net::{guard::EgressPolicy, sandbox::Sandbox, tls::ClientTls};
use portcullis_secrets::Value;
use portcullis_upstream::{Isolation, stdio::Program};
use url::Url;

/// What the operator declares about a server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// How it is reached.
    pub transport: Transport,
    /// What happens to definitions nobody has approved.
    pub trust: Trust,
    /// What the server may ask of clients: `elicitation`, `roots`, `sampling`.
    pub server_requests: BTreeSet<String>,
    /// Methods beyond the specification that may pass, in both directions.
    pub methods: BTreeSet<String>,
    /// Extensions that may be offered, besides those that the gateway understands.
    pub extensions: BTreeSet<String>,
    /// What happens to results that do not fit the output schema of their tool.
    pub output_schema: OutputSchema,
    /// What is wanted of its certificate, and what is shown to it.
    pub tls: ClientTls,
    /// Digest of the declaration with its secrets, to see whether a reload changed it.
    pub digest: Digest,
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// By way of other servers: the route leads to several.
    Group,
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Url,
        /// Headers joined where a request is written.
        headers: Vec<(http::HeaderName, Value)>,
        /// Addresses it may resolve to.
        egress: EgressPolicy,
        /// How tokens for it are obtained, if it wants some.
        authorization: Option<Box<portcullis_authorize::Settings>>,
    },
    /// The transport before Streamable HTTP, revision 2024-11-05.
    LegacySse {
        /// Where the event stream is.
        url: Url,
        /// Headers joined where the connection is made.
        headers: Vec<(http::HeaderName, Value)>,
        /// Addresses it may resolve to.
        egress: EgressPolicy,
        /// Who shares a connection.
        isolation: Isolation,
    },
    /// A child process.
    Stdio {
        /// What is run.
        program: Program,
        /// Who shares a process.
        isolation: Isolation,
        /// How it is confined, if it is.
        sandbox: Option<Box<Sandbox>>,
    },
}

/// What happens to results that do not fit the output schema of their tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputSchema {
    /// They pass, and the outcome says so.
    Record,
    /// They are refused.
    Refuse,
}
