//! One MCP server behind the gateway: the section as written, and what it means.

mod headers;

use std::{collections::BTreeMap, path::PathBuf};

use portcullis_net::guard::EgressPolicy;
use portcullis_net::sandbox::Confinement;
use portcullis_policy::Label;
use url::Url;

use super::{
    authorization::{AuthorizationMode, AuthorizationSection},
    decode::{Setting, Shape, Walk, choice, section},
    governance::Facts,
    meaning::{self, ParametersSection},
    mistake::ConfigMistake,
    primitives::Bounded,
    sandbox::{SandboxSection, confinement},
    transport_security::ServerTlsSection,
    values::{NAME_HINT, Reference, is_name, names_a_secret},
    yaml::{Key, Node, Value},
};

section! {
    /// One MCP server. Exactly one of `url` and `command` is required.
    (crate) ServerSection {
        /// URL of its Streamable HTTP endpoint.
        url: Option<Url>;
        /// How `url` is spoken to. The older transport is never tried unless it is named here.
        transport: Transport = Transport::StreamableHttp;
        /// Program and arguments of a stdio server. No shell is involved; the environment is clean but for `env`.
        /// `${NAME}` in an argument stands for the variable of that name under `env`.
        command: Option<Vec<String>>;
        /// Environment variables of the program: text, `env:NAME` or `file:PATH`.
        env: BTreeMap<String, Reference>;
        /// Folder that the program starts in. Default: that of this file.
        cwd: Option<PathBuf>;
        /// Confines the program. Without the section it runs with all rights of the gateway's user.
        sandbox: Option<SandboxSection>;
        /// Headers sent with every request to `url`: text, `env:NAME` or `file:PATH`, also `Bearer env:NAME`.
        headers: BTreeMap<String, Reference>;
        /// How the gateway gets tokens for `url`, where its server wants OAuth.
        authorization: Option<AuthorizationSection>;
        /// What happens when a definition is seen for the first time. Changed ones are always quarantined.
        trust: Trust = Trust::TrustOnFirstUse;
        /// Who shares a process of the program.
        isolation: Isolation = Isolation::PerCaller;
        /// Which addresses `url` may resolve to, beside public ones. A literal address or `localhost` in `url`
        /// allows exactly that kind of address: the operator wrote it.
        egress: Egress;
        /// What is wanted of the certificate of an `https` URL, and what is shown to its server.
        tls: Option<ServerTlsSection>;
        /// What the server may ask of clients.
        server_requests: Vec<ServerRequest>;
        /// Methods beyond the specification that pass in both directions, by their exact names; inspected and recorded
        /// like all others. Callers need the action `call_method`.
        methods: Vec<String>;
        /// What happens to results whose `structuredContent` does not fit the pinned `outputSchema` of their tool.
        output_schema: OutputSchema = OutputSchema::Refuse;
        /// Extensions that client and server may offer each other, besides `io.modelcontextprotocol/tasks` and
        /// `io.modelcontextprotocol/ui`.
        extensions: Vec<String>;
        /// What the server belongs to, like `production`; policies may ask.
        environment: Option<String>;
        /// Where its data is kept, like `eu`; policies may ask.
        region: Option<String>;
        /// Other servers of this file that are the same service elsewhere, in order. A call that may not go to this one for what
        /// its arguments hold, or that policy refuses here, goes to the first where it may.
        replicas: Vec<String>;
        /// What using its things does with data, by name of tool or prompt or by URI; `*` stands for any text. Said by
        /// the operator: what the server says about itself is not read.
        labels: BTreeMap<String, Vec<Label>>;
        /// Units that one use costs, for quotas, by name as in `labels`; 1 where nothing fits.
        costs: BTreeMap<String, Bounded<0, 1_000_000>>;
        /// What parameters mean, by name of the tool, then by name of the parameter or JSON pointer to it; `*` as in `labels`.
        parameters: ParametersSection;
    }
}

choice! {
    /// What happens when a definition is seen for the first time.
    Trust {
        /// A person approves it first.
        Review = "review",
        /// It is pinned and usable at once.
        TrustOnFirstUse = "trust_on_first_use",
    }
}

choice! {
    /// What happens to results that do not fit the output schema of their tool.
    OutputSchema {
        /// They are refused with `answer.schema`.
        Refuse = "refuse",
        /// They pass, and the entry of the outcome has the code `answer.schema`.
        Record = "record",
    }
}

choice! {
    /// Who shares a process of a stdio server.
    Isolation {
        /// Each caller has a process of its own.
        PerCaller = "per_caller",
        /// Each session has a process of its own.
        PerSession = "per_session",
        /// All callers share one process.
        Shared = "shared",
    }
}

choice! {
    /// How a URL is spoken to.
    Transport {
        /// Streamable HTTP, of revision 2025-03-26 and later.
        StreamableHttp = "streamable_http",
        /// The two endpoints of revision 2024-11-05 (HTTP+SSE); `url` is that of the event stream.
        LegacySse = "legacy_sse",
    }
}

choice! {
    /// What a server may ask of a client.
    ServerRequest {
        /// Questions to the user.
        Elicitation = "elicitation",
        /// The client's roots.
        Roots = "roots",
        /// Completions by the client's model.
        Sampling = "sampling",
    }
}

section! {
    /// Addresses that a server's URL may resolve to, beside public ones.
    Egress {
        /// Loopback addresses.
        allow_loopback: bool = false;
        /// Private and other local addresses. Cloud metadata addresses stay refused.
        allow_private: bool = false;
    }
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Upstream {
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Url,
        /// Which of the two HTTP transports it speaks.
        transport: Transport,
        /// Headers joined to every request.
        headers: BTreeMap<String, Reference>,
        /// Addresses it may resolve to.
        egress: Egress,
        /// How tokens for it are obtained.
        authorization: Option<Box<AuthorizationSection>>,
    },
    /// A child process.
    Stdio {
        /// The program; no shell is involved.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, on top of a minimal clean one.
        env: BTreeMap<String, Reference>,
        /// Its working directory.
        cwd: Option<PathBuf>,
        /// How it is confined.
        sandbox: Option<Confinement>,
    },
}

/// One MCP server behind the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// How it is reached.
    pub upstream: Upstream,
    /// What happens to definitions nobody has approved.
    pub trust: Trust,
    /// Who shares a child process or connection.
    pub isolation: Isolation,
    /// What it may ask of clients.
    pub server_requests: Vec<ServerRequest>,
    /// Methods beyond the specification that may pass.
    pub methods: Vec<String>,
    /// Extensions that may be offered, besides those that the gateway understands.
    pub extensions: Vec<String>,
    /// What policies may read of it.
    pub facts: Facts,
    /// Servers that are the same service elsewhere.
    pub replicas: Vec<String>,
    /// What happens to results that do not fit the output schema of their tool.
    pub output_schema: OutputSchema,
    /// What is wanted of its certificate.
    pub tls: Option<Box<ServerTlsSection>>,
    /// What parameters of its tools mean.
    pub(crate) parameters: ParametersSection,
}

impl Server {
    /// The built-in sample server: this program again, as a child.
    pub fn sample(program: String) -> Self {
        Self {
            upstream: Upstream::Stdio {
                program,
                args: vec!["sample-server".into()],
                env: BTreeMap::new(),
                cwd: None,
                sandbox: None,
            },
            trust: Trust::TrustOnFirstUse,
            isolation: Isolation::Shared,
            server_requests: Vec::new(),
            methods: Vec::new(),
            extensions: Vec::new(),
            facts: Facts::default(),
            replicas: Vec::new(),
            output_schema: OutputSchema::Refuse,
            tls: None,
            parameters: BTreeMap::new(),
        }
    }

    /// What parameters of its tools mean, as it is enforced.
    pub fn meanings(&self) -> portcullis_meaning::Meanings {
        meaning::compiled(&self.parameters)
    }

    /// Whether each caller connects on its own.
    pub fn of_users(&self) -> bool {
        self.authorization().is_some_and(|section| section.mode == AuthorizationMode::User)
    }

    /// How it gets tokens.
    pub fn authorization(&self) -> Option<&AuthorizationSection> {
        match &self.upstream {
            Upstream::Http { authorization, .. } => authorization.as_deref(),
            Upstream::Stdio { .. } => None,
        }
    }

    /// Reads a server that was added at run time: JSON of the same form as the section.
    pub fn from_json(name: &str, json: &serde_json::Value) -> Result<Self, Vec<ConfigMistake>> {
        let mut walk = Walk::default();
        let node = node_of(json);
        let server = walk.key("servers", |walk| walk.key(name, |walk| Self::read(&node, walk)));
        server.ok_or(walk.mistakes)
    }
}

/// JSON as a node without places. Bounded by the parser that made `json`.
fn node_of(json: &serde_json::Value) -> Node {
    let at = super::mistake::Place::START;
    let value = match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::String(text) => Value::Scalar { text: text.clone(), plain: false },
        scalar @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
            Value::Scalar { text: scalar.to_string(), plain: true }
        }
        serde_json::Value::Array(items) => Value::List(items.iter().map(node_of).collect()),
        serde_json::Value::Object(members) => {
            Value::Map(members.iter().map(|(key, v)| (Key { at, text: key.clone() }, node_of(v))).collect())
        }
    };
    Node { at, value }
}

impl Setting for Server {
    fn shape() -> Shape {
        ServerSection::shape()
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let before = walk.mistakes.len();
        if let Some(name) = walk.last_key().filter(|name| !is_name(name)) {
            walk.report(
                node,
                format!("`{name}` cannot name a server: the name is part of its URL"),
                NAME_HINT,
            );
        }
        let section = ServerSection::read(node, walk)?;
        let ServerSection { url, command, env, cwd, sandbox, headers, trust, isolation, egress, .. } =
            section;
        let ServerSection { server_requests, methods, extensions, transport, .. } = section;
        let ServerSection { output_schema, authorization, tls, parameters, .. } = section;
        meaning::check(&parameters, node, walk);
        let tls = tls.map(Box::new);
        check_tls(node, walk, tls.as_deref(), url.as_ref());
        let ServerSection { environment, region, labels, costs, replicas, .. } = section;
        let facts = Facts { environment, region, labels, costs };
        facts.check(node, walk);
        let sandbox = confinement(sandbox, node, walk);
        headers::check(node, walk, &headers);
        check_env(node, walk, &env);
        check_names(node, walk, "methods", &methods);
        check_names(node, walk, "extensions", &extensions);
        let upstream = match (url, command) {
            (Some(url), None) => {
                misplaced(node, walk, &["env", "cwd", "sandbox"], "url", "a server with `command`");
                if transport == Transport::StreamableHttp {
                    let belongs = "a server with `command`, or with `transport: legacy_sse`";
                    misplaced(node, walk, &["isolation"], "url", belongs);
                }
                let authorization = authorization.map(Box::new);
                let authorization =
                    authorization.inspect(|section| authorized(section, node, walk, transport, &headers));
                let egress = written_out(&url, egress);
                Some(Upstream::Http { url, transport, headers, egress, authorization })
            }
            (None, Some(command)) => child(command, (env, cwd, sandbox), node, walk),
            (Some(_), Some(_)) => {
                walk.report(node, "has both `url` and `command`", "keep one of the two");
                None
            }
            (None, None) => {
                walk.report(
                    node,
                    "has neither `url` nor `command`",
                    "write `url: https://…` or `command: [program, argument, …]`",
                );
                None
            }
        };
        let upstream = upstream?;
        let server = Self {
            upstream,
            trust,
            isolation,
            server_requests,
            methods,
            extensions,
            facts,
            replicas,
            output_schema,
            tls,
            parameters,
        };
        (walk.mistakes.len() == before).then_some(server)
    }
}

/// A server that is a child process.
fn child(
    command: Vec<String>,
    (env, cwd, sandbox): (BTreeMap<String, Reference>, Option<PathBuf>, Option<Confinement>),
    node: &Node,
    walk: &mut Walk,
) -> Option<Upstream> {
    let of_url = ["authorization", "headers", "egress", "tls", "transport"];
    misplaced(node, walk, &of_url, "command", "a server with `url`");
    let mut words = command.into_iter();
    let program = words.next().filter(|program| !program.is_empty());
    if program.is_none() {
        walk.key("command", |walk| walk.report(node, "names no program", "write `[program, argument, …]`"));
    }
    let (program, args) = (located(program?, walk), words.collect());
    Some(Upstream::Stdio { program, args, env, cwd, sandbox })
}

/// What is said of a certificate needs one.
fn check_tls(node: &Node, walk: &mut Walk, tls: Option<&ServerTlsSection>, url: Option<&Url>) {
    let Some(tls) = tls else { return };
    if url.is_some_and(|url| url.scheme() != "https") {
        walk.key("tls", |walk| {
            walk.report(node, "belongs to a server with an `https` URL", "write `url: https://…`")
        });
    }
    if let Some((flaw, hint)) = tls.flaw() {
        walk.key("tls", |walk| walk.report(node, flaw, hint));
    }
}

/// Judges how a server gets tokens: it gets no other credential in their place.
fn authorized(
    section: &AuthorizationSection,
    node: &Node,
    walk: &mut Walk,
    transport: Transport,
    headers: &BTreeMap<String, Reference>,
) {
    section.check(node, walk);
    if transport == Transport::LegacySse {
        let belongs = "a server with `transport: streamable_http`";
        misplaced(node, walk, &["authorization"], "transport", belongs);
    }
    if headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
        let at = node.get("headers").map_or(node, |(_, at)| at);
        walk.key("headers", |walk| {
            walk.report(at, "`Authorization` has no meaning beside `authorization`", "remove one of the two");
        });
    }
}

/// Names of methods or extensions that the specification's own table does not know.
fn check_names(node: &Node, walk: &mut Walk, key: &str, names: &[String]) {
    let Some((_, at)) = node.get(key) else { return };
    for name in names {
        let problem = if name.is_empty() || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            Some(("cannot be such a name", "write at most 128 visible characters without spaces"))
        } else if key == "methods" && portcullis_mcp::method::find(name).is_some() {
            Some(("is a method of the specification", "remove it; policy decides about it"))
        } else {
            None
        };
        if let Some((what, hint)) = problem {
            walk.key(key, |walk| walk.report(at, format!("`{name}` {what}"), hint));
        }
    }
}

/// A relative path with a folder in it is meant from the file; a bare name is looked up in PATH.
fn located(program: String, walk: &Walk) -> String {
    if program.contains('/') { walk.base.join(&program).to_string_lossy().into_owned() } else { program }
}

fn written_out(url: &Url, Egress { allow_loopback, allow_private }: Egress) -> Egress {
    let EgressPolicy { allow_loopback, allow_private, .. } =
        EgressPolicy::of(allow_loopback, allow_private).naming(url);
    Egress { allow_loopback, allow_private }
}

fn misplaced(node: &Node, walk: &mut Walk, keys: &[&str], with: &str, belongs: &str) {
    for key in keys {
        if let Some((_, value)) = node.get(key) {
            walk.key(key, |walk| {
                walk.report(
                    value,
                    format!("has no meaning beside `{with}`"),
                    format!("remove it; it belongs to {belongs}"),
                );
            });
        }
    }
}

fn check_env(node: &Node, walk: &mut Walk, env: &BTreeMap<String, Reference>) {
    for (name, value) in env {
        let at = node.get("env").and_then(|(_, map)| map.get(name)).map_or(node, |(_, value)| value);
        walk.key("env", |walk| {
            walk.key(name, |walk| {
                let good = !name.is_empty()
                    && !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !good {
                    walk.report(
                        at,
                        "is not the name of an environment variable",
                        "use letters, digits and `_`",
                    );
                }
                check_literal(at, walk, name, value);
            });
        });
    }
}

fn check_literal(at: &Node, walk: &mut Walk, name: &str, value: &Reference) {
    if value.as_literal().is_some() && names_a_secret(name) {
        walk.report(
            at,
            "this is the place of a secret, and a configuration file is not",
            "keep it with `portcullis secret put NAME` and write `local:NAME`; or `env:NAME`, `file:PATH`, `vault:MOUNT/PATH#FIELD`, `aws:NAME#FIELD`",
        );
    }
}
