//! The one table of codes. A name is never reused; the reference page and every reply are made from here.

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The caller's message or credential.
    Client,
    /// The gateway's own.
    Ours,
    /// A decision of the operator.
    Policy,
    /// The server behind the gateway.
    Upstream,
}

/// How loudly a refusal is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Part of a normal day.
    Info,
    /// Worth a look; may be an attack.
    Warn,
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $fault:ident, $level:ident, http $modern:literal / $legacy:literal, rpc $rpc:literal,
        $sentence:literal, $hint:literal;)+) => {
        /// Why a message was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $sentence] $variant),+ }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, as in logs, ledger entries and `data.code` of errors.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault),+ }
            }

            /// How loudly it is logged.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$variant => Level::$level),+ }
            }

            /// The HTTP status for a client of revision 2026-07-28.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $modern),+ }
            }

            /// The HTTP status for a client of revision 2025-11-25, where JSON-RPC errors mostly travel on 200.
            #[must_use]
            pub const fn legacy_status(self) -> u16 {
                match self { $(Self::$variant => $legacy),+ }
            }

            /// The JSON-RPC error code.
            #[must_use]
            pub const fn jsonrpc(self) -> i32 {
                match self { $(Self::$variant => $rpc),+ }
            }

            /// What the caller is told.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence),+ }
            }

            /// What the operator can do about it.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint),+ }
            }

            /// The code of that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == name)
            }
        }
    };
}

// Own JSON-RPC codes are positive: outside -32768..-32000, as the specification asks (basic, "Error Codes").
codes! {
    AnswerInvalid = "answer.invalid", Upstream, Warn, http 502 / 502, rpc 5021,
        "the server's answer is not a valid MCP message", "look at the server's own log; the ledger entry says what was wrong with the answer";
    AnswerRefused = "answer.refused", Policy, Warn, http 200 / 200, rpc 4032,
        "the server's answer was withheld by policy", "the ledger entry names the detector; `inspect` in portcullis.yaml sets its treatment";
    AnswerSchema = "answer.schema", Upstream, Warn, http 502 / 200, rpc 5023,
        "the structured content of the answer does not fit the tool's output schema", "the ledger entry names the places; `output_schema: record` of the server lets such answers pass";
    AnswerTooLarge = "answer.too_large", Upstream, Warn, http 502 / 502, rpc 5022,
        "the server's answer exceeds a limit", "raise the limit that the log names if the server is right";
    ApprovalDenied = "approval.denied", Policy, Info, http 403 / 200, rpc 4037,
        "a person said no to this call", "`portcullis approval show` says who and why; the same call is refused until the question expires";
    ApprovalRequired = "approval.required", Policy, Info, http 403 / 200, rpc 4038,
        "a person must approve this call first", "`portcullis approval list` shows what waits; once it is approved, make the same call again";
    ApprovalUnavailable = "approval.unavailable", Ours, Error, http 503 / 503, rpc 5035,
        "it cannot be said whether the call is approved, and it was therefore not made", "the database cannot be read or written; the log has the cause";
    ArgumentsInvalid = "arguments.invalid", Client, Info, http 400 / 200, rpc -32602,
        "the arguments do not fit the tool's input schema", "`portcullis tool show` prints the schema";
    ArgumentsMeaning = "arguments.meaning", Policy, Warn, http 200 / 200, rpc 4044,
        "an argument is not what the operator declared it to be", "the ledger entry names the parameter and what it means; `parameters` of the server in portcullis.yaml says so";
    ArgumentsRefused = "arguments.refused", Policy, Warn, http 200 / 200, rpc 4031,
        "the arguments were refused by policy", "the ledger entry names the detector; `inspect` in portcullis.yaml sets its treatment";
    AuthInvalid = "auth.invalid", Client, Warn, http 401 / 401, rpc 4011,
        "the credential is not valid", "the log says why; create a key with `portcullis key create`";
    AuthMissing = "auth.missing", Client, Info, http 401 / 401, rpc 4010,
        "authentication is required", "send `Authorization: Bearer …`; create a key with `portcullis key create`";
    AuthNonce = "auth.nonce", Client, Info, http 401 / 401, rpc 4012,
        "a proof of possession with a fresh nonce is required", "the client makes a new DPoP proof with the nonce in the header `DPoP-Nonce`, then tries again";
    AuthProof = "auth.proof", Client, Warn, http 401 / 401, rpc 4013,
        "the proof of possession is not valid", "the log says why; somebody may be using a stolen token, or the client's clock or URL is wrong";
    AuthScope = "auth.scope", Client, Info, http 403 / 403, rpc 4034,
        "the token lacks a scope that this needs", "the challenge names the scopes; `identities.routes` sets them";
    AuthUnavailable = "auth.unavailable", Ours, Error, http 503 / 503, rpc 5031,
        "the credential cannot be checked at the moment", "the key set of the issuer cannot be fetched, or it cannot be asked about the token; the log names it";
    BridgeCapability = "bridge.capability", Client, Info, http 400 / 200, rpc -32021,
        "the server asks for something that the client did not declare", "the error data names the capability; a client that has it declares it in every request";
    BridgeElsewhere = "bridge.elsewhere", Client, Info, http 400 / 200, rpc 4092,
        "the call that asked is not waiting here any more", "make the call again; a call that asked waits on one node, for one answer, for at most `limits.total_timeout_ms`";
    BridgeResumption = "bridge.resumption", Client, Info, http 400 / 400, rpc 4093,
        "what was missed on a stream cannot be asked for where the server speaks another revision", "open the stream without Last-Event-ID";
    BridgeState = "bridge.state", Client, Warn, http 400 / 200, rpc -32602,
        "the request state is not one of this caller for this request, or has expired", "make the call again without it";
    BridgeUntranslatable = "bridge.untranslatable", Client, Info, http 404 / 200, rpc -32601,
        "this has no counterpart in the revision of the protocol that the server speaks", "docs/reference/bridging.md lists what passes between the revisions";
    BridgeUnwanted = "bridge.unwanted", Upstream, Info, http 200 / 200, rpc 4094,
        "the server told something that this client did not ask for or its revision cannot say", "nothing to do; in the ledger once for each call and method, and never sent to a client";
    ConnectionFailed = "connection.failed", Upstream, Warn, http 502 / 502, rpc 5024,
        "no token for the server can be had", "the ledger entry says what is wrong with its authorization server or with `authorization` of the server";
    ConnectionRequired = "connection.required", Client, Info, http 403 / 200, rpc -32042,
        "the server wants a token of this user, who has not connected yet", "the error data has the link that this caller opens in a browser; `portcullis connection list` shows who is connected";
    DefinitionChanged = "definition.changed", Policy, Warn, http 200 / 200, rpc 4090,
        "this changed on the server since it was approved and is quarantined", "review it with `portcullis tool diff`, then `portcullis tool approve` or `reject`";
    DefinitionUnreviewed = "definition.unreviewed", Policy, Info, http 200 / 200, rpc 4091,
        "this has not been approved yet", "review it with `portcullis tool show`, then `portcullis tool approve`";
    DefinitionUnusable = "definition.unusable", Upstream, Warn, http 200 / 200, rpc 4093,
        "the server describes this in a way that cannot be pinned", "`portcullis server list` says what is wrong; its server has to describe it otherwise";
    ExchangeRefused = "exchange.refused", Upstream, Warn, http 403 / 403, rpc 4038,
        "the authorization server gave no token for the server in exchange for the caller's", "the ledger entry has its error code; it has to let the gateway exchange tokens of this caller for this server";
    ExchangeToken = "exchange.token", Client, Info, http 403 / 403, rpc 4037,
        "the server takes a token in exchange for the caller's own, and there is none that can be exchanged", "come with an access token of the issuer that `authorization.exchange` names, not with an API key";
    Internal = "internal", Ours, Error, http 500 / 500, rpc -32603,
        "internal error", "the log has the cause; please report it";
    Killed = "killed", Policy, Warn, http 403 / 403, rpc 4036,
        "an operator stopped this", "`portcullis kill list` says what, by whom and why; `portcullis unkill` lets it go on";
    LedgerUnavailable = "ledger.unavailable", Ours, Error, http 503 / 503, rpc 5030,
        "the call cannot be recorded and was therefore not made", "look at `/healthz` and the disk; the gateway recovers by itself once it can write";
    LimitApprovals = "limit.approvals", Client, Info, http 429 / 429, rpc 4293,
        "too many calls wait for the approval of a person", "answer or wait for those that are open, or raise `limits.caller_approvals_max` or `limits.approvals_max`";
    LimitChildren = "limit.children", Client, Info, http 429 / 429, rpc 4292,
        "too many processes of one caller at once", "end sessions that are not used, or raise `limits.caller_children_max`";
    LimitConcurrency = "limit.concurrency", Client, Info, http 429 / 429, rpc 4291,
        "too many calls at once", "raise `limits.caller_calls_max`, `limits.server_calls_max` or the stream limits";
    LimitInspection = "limit.inspection", Policy, Warn, http 200 / 200, rpc 4044,
        "not all of the message can be inspected, and it was therefore not let through", "it is too long, or hides too much in codes or packed: raise `limits.inspect_bytes_max` if it is honest";
    LimitRate = "limit.rate", Client, Info, http 429 / 429, rpc 4290,
        "too many calls", "raise `limits.caller_rate_per_s` or `limits.source_rate_per_s`";
    MethodNotAllowed = "method.not_allowed", Client, Info, http 405 / 405, rpc -32600,
        "this HTTP method is not allowed here", "MCP uses POST; revision 2025-11-25 also GET and DELETE";
    MethodUnknown = "method.unknown", Client, Info, http 404 / 200, rpc -32601,
        "method not found", "methods outside the specification's table are refused unless `methods` of the server lists them";
    PolicyDenied = "policy.denied", Policy, Info, http 403 / 403, rpc 4030,
        "not allowed", "`portcullis policy explain` says which policy decided";
    PolicyError = "policy.error", Policy, Error, http 403 / 403, rpc 4039,
        "not allowed", "a policy failed to evaluate; `portcullis policy explain` names it";
    PolicyFlow = "policy.flow", Policy, Warn, http 403 / 403, rpc 4035,
        "this session has read private data and seen untrusted content, so it may not carry data out", "use another session; `flow` in portcullis.yaml and `labels` of servers decide it";
    QuotaExceeded = "quota.exceeded", Policy, Info, http 429 / 429, rpc 4292,
        "a quota is used up", "`portcullis quota list` shows the counts; `quotas` in portcullis.yaml sets them";
    QuotaUnavailable = "quota.unavailable", Ours, Error, http 503 / 503, rpc 5034,
        "the call cannot be counted and was therefore not made", "the database cannot be written; the log has the cause";
    RequestAccept = "request.accept", Client, Info, http 406 / 406, rpc -32600,
        "the client must accept application/json and text/event-stream", "set the Accept header";
    RequestCancelled = "request.cancelled", Client, Info, http 200 / 200, rpc 4990,
        "the request was cancelled by the client", "nothing to do";
    RequestHeaderMismatch = "request.header_mismatch", Client, Warn, http 400 / 400, rpc -32020,
        "an MCP header is missing, repeated, malformed or disagrees with the body", "the ledger entry names the header";
    RequestHeadersTooLarge = "request.headers_too_large", Client, Warn, http 431 / 431, rpc -32600,
        "too many or too large headers", "raise `limits.headers_max` or `limits.header_bytes_max`";
    RequestHost = "request.host", Client, Warn, http 403 / 403, rpc -32600,
        "this host name is not served here", "add it to `hosts` of the listener";
    RequestInvalid = "request.invalid", Client, Info, http 400 / 400, rpc -32600,
        "not a valid JSON-RPC message", "the ledger entry says what is wrong";
    RequestMalformed = "request.malformed", Client, Warn, http 400 / 400, rpc -32700,
        "not well-formed JSON", "the ledger entry says what is wrong and where";
    RequestMediaType = "request.media_type", Client, Info, http 415 / 415, rpc -32600,
        "the body must be application/json", "set the Content-Type header";
    RequestMeta = "request.meta", Client, Info, http 400 / 400, rpc -32602,
        "required members of _meta are missing or wrong", "revision 2026-07-28 wants protocolVersion and clientCapabilities in every request";
    RequestOrigin = "request.origin", Client, Warn, http 403 / 403, rpc -32600,
        "this origin is not allowed", "add it to `origins` of the listener";
    RequestTimeout = "request.timeout", Client, Info, http 408 / 408, rpc -32600,
        "the request did not arrive in time", "raise `limits.request_timeout_ms`";
    RequestTooLarge = "request.too_large", Client, Warn, http 413 / 413, rpc -32600,
        "the message exceeds a limit", "the log names the limit";
    RequestUnread = "request.unread", Client, Info, http 408 / 408, rpc 4991,
        "the client does not read what it asked for", "the client reads too slowly or not at all; `limits.idle_timeout_ms` says how long it is waited for";
    RequestVersion = "request.version", Client, Info, http 400 / 400, rpc -32022,
        "unsupported protocol version", "the error data lists the supported versions";
    ResidencyRefused = "residency.refused", Policy, Warn, http 200 / 200, rpc 4043,
        "data of this kind may not go to that region", "the ledger entry names the kind of data and the region; `privacy.residency` and `region` of the server decide it";
    ResourceUnknown = "resource.unknown", Client, Info, http 200 / 200, rpc -32002,
        "resource not found", "clients of 2025-11-25 see this for `target.unknown`; what a caller may not use looks unknown to it";
    SandboxUnavailable = "sandbox.unavailable", Ours, Error, http 503 / 503, rpc 5033,
        "the server cannot be confined and was therefore not started", "the log names what this kernel lacks; `require_sandbox: false` starts it with what there is";
    ServerChanged = "server.changed", Policy, Info, http 404 / 404, rpc 4042,
        "the server was changed by an operator", "initialize again, or open the stream again";
    ServerRequestDenied = "server_request.denied", Policy, Warn, http 200 / 200, rpc 4033,
        "the server asked for something that policy does not allow", "`server_requests` of the server lists what it may ask";
    ServerRequestFlood = "server_request.flood", Upstream, Warn, http 502 / 502, rpc 5024,
        "the server asks without end", "look at the server; in one stream it may ask 64 questions at once and one more each second";
    ServerRequestUrl = "server_request.url", Upstream, Warn, http 200 / 200, rpc 4034,
        "the server asked for a URL to be opened that is not safe to open", "only `https`, or `http` on this machine, without user name and at most 2,048 bytes, in plain ASCII";
    ServerUnknown = "server.unknown", Client, Info, http 404 / 404, rpc 4040,
        "no such server", "`portcullis server list` shows the servers";
    SessionMissing = "session.missing", Client, Info, http 400 / 400, rpc -32600,
        "a session id is required", "send the Mcp-Session-Id that `initialize` returned";
    SecretUnavailable = "secret.unavailable", Ours, Error, http 503 / 503, rpc 5036,
        "a secret that the server needs cannot be had", "`portcullis secret check` says of every reference what is wrong with it; the ledger entry says it of this one";
    SessionUnknown = "session.unknown", Client, Info, http 404 / 404, rpc 4041,
        "no such session", "initialize again";
    ShuttingDown = "shutting_down", Ours, Info, http 503 / 503, rpc 5032,
        "the gateway is shutting down", "retry";
    TargetUnknown = "target.unknown", Client, Info, http 200 / 200, rpc -32602,
        "unknown tool, prompt or resource", "`portcullis tool list` shows what is pinned; what a caller may not use looks unknown to it";
    TaskUnknown = "task.unknown", Client, Info, http 200 / 200, rpc -32602,
        "unknown task", "a task belongs to the caller whose call began it; its id opens for `limits.task_total_ms`";
    UpstreamRevision = "upstream.revision", Upstream, Info, http 400 / 400, rpc -32022,
        "the server does not speak this protocol version", "the error data lists what it speaks";
    UpstreamTimeout = "upstream.timeout", Upstream, Warn, http 504 / 504, rpc 5040,
        "the server did not answer in time", "raise `limits.first_byte_timeout_ms`, `idle_timeout_ms` or `total_timeout_ms`, or look at the server";
    UpstreamUnavailable = "upstream.unavailable", Upstream, Error, http 502 / 502, rpc 5020,
        "the server cannot be reached", "`portcullis server list` shows its state; look at its own log";
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn names_are_unique_sorted_and_lower_case() {
        let names: alloc::vec::Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        for name in &names {
            assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'.' | b'_')), "{name}");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn own_jsonrpc_codes_lie_outside_the_reserved_range() {
        for code in Code::ALL {
            let rpc = code.jsonrpc();
            let specified = [-32700, -32002, -32600, -32601, -32602, -32603, -32020, -32021, -32022, -32042]
                .contains(&rpc);
            assert!(specified || !(-32768..=-32000).contains(&rpc), "{}", code.name());
        }
    }
}
