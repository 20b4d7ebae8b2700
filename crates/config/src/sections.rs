//! The sections of `portcullis.yaml`, in the order of the reference page. Each table is the type, its decoder, its
//! schema and its documentation at once.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use portcullis_core::{Action, Limits};
use portcullis_policy::Label;
use url::Url;

use super::{
    aggregate::{Aggregate, VirtualServer},
    decode::{choice, section},
    encryption::EncryptionSection,
    governance::{AgentSection, ApprovalHook, ApprovalSection, Flow, QuotaSection},
    identities::Identities,
    primitives::Bounded,
    privacy::Privacy,
    recognisers::RecogniserSection,
    secrets::SecretsSection,
    server::Server,
    sinks::SinkSection,
    transport_security::{AcmeSection, CertificateSection, OcspSection, SpiffeSection, TlsVersion},
    values::{DetectorName, Form, Host, LogFilter, Origin, OriginName, PatternText, Ratio, RoleName},
};

section! {
    /// Everything `portcullis.yaml` may say. Every key is optional: without a file the gateway listens on loopback
    /// only, requires an API key, and keeps its data in `./portcullis-data`.
    Settings {
        /// Where MCP clients connect.
        listen: Listen;
        /// Where the command line and the admin API connect.
        admin: Admin;
        /// Folder for the database, the ledger and generated secrets (mode 0700). Default: `portcullis-data` beside
        /// this file, or in the current folder where there is no file.
        data: Option<PathBuf>;
        /// The MCP servers behind the gateway, by name; the name is the last part of the route `/mcp/NAME`. Without
        /// any, the built-in sample server is offered as `sample`.
        servers: BTreeMap<String, Server>;
        /// Start no server with a `sandbox` section where this kernel cannot do all that the section asks for.
        require_sandbox: bool = false;
        /// Many servers as one, on the route `/mcp`.
        aggregate: Aggregate;
        /// Selections of things of several servers, by name; the name is the last part of the route `/mcp/NAME`.
        virtual_servers: BTreeMap<String, VirtualServer>;
        /// How callers prove who they are.
        identities: Identities;
        /// What callers may do, by role name. Built in: `admin` (everything), `operator` and `reader`; a role of the
        /// same name here replaces the built-in one.
        roles: BTreeMap<String, Role>;
        /// Cedar policy files, or folders of `.cedar` files, beside the roles.
        policies: Vec<PathBuf>;
        /// Programs that somebody answers for, by id. Who acts for another caller (the claim `act`, RFC 8693) must be here:
        /// what it may do is what both may do.
        agents: BTreeMap<String, AgentSection>;
        /// A candidate: another configuration file, whose roles and policies decide every call beside those in force,
        /// without effect. Where it says the opposite, the ledger entry has it, and `portcullis policy shadow` reports.
        shadow: Option<PathBuf>;
        /// What is done about a call that would carry data out (`writes_external`) of a session that has read private
        /// data (`reads_private`) and seen untrusted content (`sees_untrusted`). The labels of the call itself count.
        flow: Flow = Flow::Refuse;
        /// Whom to ask about such calls, with `flow: approve`.
        flow_approval: Option<ApprovalSection>;
        /// Chat systems in which people are asked, by name.
        approval_hooks: BTreeMap<String, ApprovalHook>;
        /// How much may be used, by name of the quota.
        quotas: BTreeMap<String, QuotaSection>;
        /// What is done about personal data, and where it may go.
        privacy: Privacy;
        /// What detectors look for in arguments and answers, by detector name. Overrules the preset.
        inspect: BTreeMap<DetectorName, Detector>;
        /// What is looked for beyond the detectors there are, by the name of its finds.
        recognisers: BTreeMap<String, RecogniserSection>;
        /// Whom to ask about finds that are treated with `ask`, where their detector does not say. Default: one person with role `admin`.
        inspect_approval: Option<ApprovalSection>;
        /// Where secrets are kept that are named by reference.
        secrets: SecretsSection;
        /// A SPIFFE Workload API, for `listen.tls.spiffe` and `servers.NAME.tls.spiffe`. `spiffe: {}` finds its socket as SPIFFE says.
        spiffe: Option<SpiffeSection>;
        /// What is sealed at rest, and with which key.
        encryption: EncryptionSection;
        /// Everything that can grow, with its bound.
        limits: Limits;
        /// Where keys, definitions and other governed things are kept.
        store: Store;
        /// The tamper-evident record of every decision.
        ledger: Ledger;
        /// What the gateway says about itself while it runs.
        log: Log;
        /// Metrics and traces.
        telemetry: Telemetry;
        /// Where ledger entries go beside the ledger, by name: SIEMs, log servers, files.
        sinks: BTreeMap<String, SinkSection>;
    }
}

section! {
    /// Where MCP clients connect.
    Listen {
        /// Address and port. Anything but loopback requires `tls` and authentication.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7300));
        /// Certificate and key; reloaded when the files change.
        tls: Option<Tls>;
        /// Host names that clients may use in the Host header, with any port unless one is given, beside the address itself (and
        /// `localhost` on loopback).
        hosts: Vec<Host>;
        /// Web origins whose pages may call the gateway, beside its own; `*` is not accepted.
        origins: Vec<Origin>;
        /// The URL under which clients reach the gateway, where a proxy stands in front. Tokens must name it as audience.
        public_url: Option<Url>;
    }
}

section! {
    /// Certificate and key of a listener.
    Tls {
        /// PEM file with the certificate chain, leaf first.
        certificate: Option<PathBuf>;
        /// PEM file with the private key.
        key: Option<PathBuf>;
        /// Get the certificate from an ACME server, and renew it, in the place of `certificate` and `key`.
        acme: Option<AcmeSection>;
        /// Show the certificate of the section `spiffe`, in the place of `certificate` and `key`, and ask clients for theirs: one with a
        /// SPIFFE ID holds by the authorities of its own trust domain and by no others.
        spiffe: bool = false;
        /// File with the OCSP response of its authority (DER), which is shown beside it (RFC 6066). Reloaded when it changes.
        ocsp_response: Option<PathBuf>;
        /// Fetch what authorities say of the revocation of these certificates, from the responders that they name, and show it beside
        /// them. Where there is an `ocsp_response`, that is shown. `ocsp: {}` is enough.
        ocsp: Option<OcspSection>;
        /// Further certificates, each shown to clients that ask for one of its names (SNI).
        certificates: Vec<CertificateSection>;
        /// The oldest version that clients may speak.
        min_version: TlsVersion = TlsVersion::V12;
        /// PEM file with the authorities of client certificates. Without it clients are not asked for one.
        client_ca: Option<PathBuf>;
        /// PEM files with revocation lists. Where there is any, each authority in a client's chain needs one that is in
        /// date. A changed file counts from the next request, also on connections that are open.
        client_crls: Vec<PathBuf>;
        /// Whether a client needs a certificate to connect at all.
        client_certificates: ClientCertificates = ClientCertificates::Optional;
    }
}

impl Tls {
    /// Whether clients are asked for certificates.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.client_ca.is_some() || self.spiffe
    }

    /// With this certificate and key, asking clients for nothing.
    pub const fn of(certificate: PathBuf, key: PathBuf) -> Self {
        let client_certificates = ClientCertificates::Optional;
        Self {
            certificate: Some(certificate),
            key: Some(key),
            acme: None,
            spiffe: false,
            ocsp_response: None,
            ocsp: None,
            certificates: Vec::new(),
            min_version: TlsVersion::V12,
            client_ca: None,
            client_crls: Vec::new(),
            client_certificates,
        }
    }
}

choice! {
    /// Whether clients need a certificate.
    ClientCertificates {
        /// A client may show one.
        Optional = "optional",
        /// A client without one cannot connect.
        Required = "required",
    }
}

section! {
    /// Where the command line and the admin API connect.
    Admin {
        /// Loopback address and port.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7301));
    }
}

section! {
    /// What a role may do. Nothing is allowed that no rule allows; a denial wins over every permission.
    Role {
        /// What the role is for.
        description: Option<String>;
        /// Roles that it contains: whoever has it has them as well. No ring.
        inherits: Vec<RoleName>;
        /// What it may do.
        allow: Vec<Rule>;
        /// What it may not do, whatever else allows it.
        deny: Vec<Rule>;
    }
}

section! {
    /// One rule of a role. A key that is left out does not restrict; `*` in a name stands for any text. Where several of
    /// `tools`, `prompts` and `resources` are given, the rule covers each of them; where none is, it covers all.
    Rule {
        /// Actions.
        actions: Vec<Action>;
        /// Server names.
        servers: Vec<PatternText>;
        /// Tool names.
        tools: Vec<PatternText>;
        /// Prompt names.
        prompts: Vec<PatternText>;
        /// Resource URIs and URI templates.
        resources: Vec<PatternText>;
        /// Labels of which a thing must have one.
        labels: Vec<Label>;
        /// Labels all of which the session must have seen: of what it used, and of what was found in answers to it.
        seen: Vec<Label>;
        /// Environments of servers.
        environments: Vec<String>;
        /// Detectors whose findings in answers are marked for the model of this role.
        warn: Vec<DetectorName>;
        /// Detectors whose findings in answers make the answer wait until people let it through, for this role.
        ask: Vec<DetectorName>;
        /// Detectors whose findings in answers are masked for this role.
        mask: Vec<DetectorName>;
        /// Detectors whose findings in answers take the member with them that holds them, for this role.
        drop: Vec<DetectorName>;
        /// Detectors whose findings in answers refuse the answer for this role.
        refuse: Vec<DetectorName>;
        /// Detectors whose tokens in arguments are replaced by what they stand for, for this role.
        restore: Vec<DetectorName>;
        /// Whether nothing of an answer reaches this role before all of it was judged: what a server tells on the stream of a call
        /// waits for its answer, and is judged together.
        buffer: bool = false;
        /// Whom to ask before a call is made. `actions` must name `call_tool`, `get_prompt` or `read_resource` and no other.
        approval: Option<ApprovalSection>;
    }
}

section! {
    /// Settings of one detector. What is left out keeps the detector's own default.
    Detector {
        /// Whether it looks at all.
        enabled: bool = true;
        /// What is done about findings in arguments.
        arguments: Option<Treatment>;
        /// What is done about findings in answers.
        answers: Option<AnswerTreatment>;
        /// How a finding looks that is masked. Default: `placeholder`.
        form: Option<Form>;
        /// Labels that a session has once a finding in an answer to it was let through.
        labels: Option<Vec<Label>>;
        /// Values that are no findings, in whatever case; `*` stands for any text.
        allow: Vec<String>;
        /// Whom to ask about its findings, where they are treated with `ask`. Default: `inspect_approval`.
        approval: Option<ApprovalSection>;
    }
}

choice! {
    /// What is done about a finding in arguments.
    Treatment {
        /// Let it through once people said yes; masked where nobody can be asked, as in what is no call of a tool, a prompt
        /// or a resource.
        Ask = "ask",
        /// Let it through; the finding is recorded.
        Pass = "pass",
        /// Replace the text that was found by a placeholder.
        Mask = "mask",
        /// Refuse the message.
        Refuse = "refuse",
    }
}

choice! {
    /// What is done about a finding in answers.
    AnswerTreatment {
        /// Let it through; the finding is recorded.
        Pass = "pass",
        /// Let it through, marked so that a model sees that others wrote it; masked where nothing can be marked.
        Warn = "warn",
        /// Let it through once people said yes; the answer waits meanwhile. Masked where nothing can wait, as in what is no
        /// answer to a call of a tool, a prompt or a resource.
        Ask = "ask",
        /// Replace the text that was found by a placeholder.
        Mask = "mask",
        /// Leave out the member that holds it, and of a text the part that was found.
        Drop = "drop",
        /// Refuse the message.
        Refuse = "refuse",
    }
}

section! {
    /// Where keys, definitions and other governed things are kept.
    Store {
        /// SQLite database file. Default: `portcullis.db` in the data folder.
        sqlite: Option<PathBuf>;
    }
}

section! {
    /// The tamper-evident record of every decision.
    Ledger {
        /// Its folder. Default: `ledger` in the data folder.
        directory: Option<PathBuf>;
        /// Name of the log in its checkpoints (C2SP origin), a schema-less URL. Choose it once.
        origin: OriginName = OriginName(String::from("portcullis.local/ledger"));
        /// Longest time between a new entry and the signed checkpoint that covers it.
        checkpoint_ms: Bounded<10, 3_600_000> = Bounded(1_000);
        /// Keep an index of it, `index.db` beside its folder, so that `portcullis audit query` finds entries at once. It can
        /// always be made anew.
        index: bool = true;
        /// Roles whose holders may search it through the admin API with an API key, beside whoever has the admin token.
        readers: Vec<String>;
    }
}

section! {
    /// What the gateway says about itself while it runs.
    Log {
        /// Form of the lines.
        format: LogFormat = LogFormat::Text;
        /// Least level, or a filter like `info,portcullis_proxy=debug`.
        level: LogFilter = LogFilter(String::from("info"));
        /// File to write to, instead of standard error.
        file: Option<PathBuf>;
    }
}

choice! {
    /// Form of log lines.
    LogFormat {
        /// One JSON object per line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

section! {
    /// Metrics and traces.
    Telemetry {
        /// Serve `/metrics` on the admin listener without a token.
        metrics_public: bool = false;
        /// Send traces over OTLP.
        otlp: Option<Otlp>;
    }
}

section! {
    /// Where traces go.
    Otlp {
        /// The collector's OTLP/HTTP endpoint, like `http://127.0.0.1:4318/v1/traces`.
        endpoint: Url;
        /// Share of calls that are traced, from 0 to 1.
        sample_ratio: Ratio = Ratio(1.0);
    }
}
