//! Everything that can grow, in one table with units and defaults. Configuration, the reference page and the
//! JSON schema are made from the rows.

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct LimitRow {
    /// Key under `limits:` in the configuration; the unit is the last word.
    pub key: &'static str,
    /// What it bounds and what happens beyond it.
    pub doc: &'static str,
    /// Value when nothing is configured.
    pub default: u64,
    /// Least value that configuration accepts.
    pub min: u64,
    /// Greatest value that configuration accepts.
    pub max: u64,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $field:ident: $default:literal in $min:literal ..= $max:literal),+ $(,)?) => {
        /// The limits in force. Units are the last word of each name.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $($(#[doc = $doc])+ pub $field: u64),+ }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl Limits {
            /// The table, for configuration, schema and reference.
            pub const ROWS: &'static [LimitRow] = &[$(LimitRow {
                key: stringify!($field), doc: concat!($($doc),+), default: $default, min: $min, max: $max,
            }),+];

            /// Sets the limit called `key`; false when there is none.
            pub fn set(&mut self, key: &str, value: u64) -> bool {
                match key {
                    $(stringify!($field) => self.$field = value,)+
                    _ => return false,
                }
                true
            }
        }
    };
}

limits! {
    /// Bytes of one request body. Beyond: `request.too_large`.
    body_bytes_max: 4_194_304 in 1_024 ..= 1_073_741_824,
    /// Bytes of one answer or one event from a server, and of all pages of one list. Beyond: `answer.too_large`.
    answer_bytes_max: 16_777_216 in 1_024 ..= 1_073_741_824,
    /// Depth of nesting in any JSON text. Beyond: refused.
    json_depth_max: 64 in 8 ..= 512,
    /// Values (members, elements, scalars) in any JSON text. Beyond: refused.
    json_nodes_max: 500_000 in 100 ..= 100_000_000,
    /// Bytes of one JSON string as written. Beyond: refused.
    json_string_bytes_max: 8_388_608 in 256 ..= 1_073_741_824,
    /// Bytes of one message that detectors read: its texts, what is packed or coded in them, and what is read again once
    /// something was masked. Beyond: `limit.inspection`.
    inspect_bytes_max: 67_108_864 in 1_024 ..= 1_073_741_824,
    /// Header fields of one request. Beyond: `request.headers_too_large`.
    headers_max: 64 in 8 ..= 1_000,
    /// Bytes of all header fields of one request. Beyond: `request.headers_too_large`.
    header_bytes_max: 32_768 in 1_024 ..= 1_048_576,
    /// Connections open at once on a listener. Beyond: new ones wait in the kernel's queue.
    connections_max: 4_096 in 1 ..= 1_000_000,
    /// Calls of one caller in flight at once. Beyond: `limit.concurrency`.
    caller_calls_max: 256 in 1 ..= 100_000,
    /// Event streams of one caller open at once. Beyond: `limit.concurrency`.
    caller_streams_max: 64 in 1 ..= 100_000,
    /// Calls to one server in flight at once. Beyond: `limit.concurrency`.
    server_calls_max: 1_024 in 1 ..= 100_000,
    /// Event streams to one server open at once. Beyond: `limit.concurrency`.
    server_streams_max: 1_024 in 1 ..= 100_000,
    /// Messages one caller may send per second, averaged. Beyond: `limit.rate`.
    caller_rate_per_s: 1_000 in 1 ..= 10_000_000,
    /// Messages one caller may send in a burst on top of the rate.
    caller_burst_max: 2_000 in 1 ..= 10_000_000,
    /// Calls of one caller to one tool per minute whose arguments are alike but for numbers, case and spaces: a model that goes
    /// round in circles. Beyond: `limit.rate`. 0: as many as its rate allows.
    alike_rate_per_min: 0 in 0 ..= 10_000_000,
    /// Messages one source address may send per second before authentication, averaged. Beyond: `limit.rate`.
    source_rate_per_s: 5_000 in 1 ..= 10_000_000,
    /// Messages one source address may send in a burst; a failed authentication costs ten.
    source_burst_max: 10_000 in 1 ..= 10_000_000,
    /// Sources and callers whose rate is remembered; the longest idle is forgotten first.
    rate_entries_max: 100_000 in 100 ..= 10_000_000,
    /// Sessions of revision 2025-11-25 held at once. Beyond: `limit.concurrency`.
    sessions_max: 10_000 in 1 ..= 1_000_000,
    /// Sessions one caller holds at once. Beyond: its longest idle session ends.
    caller_sessions_max: 100 in 1 ..= 100_000,
    /// A session unused for so long ends.
    session_idle_ms: 1_800_000 in 1_000 ..= 604_800_000,
    /// A session ends after so long in any case.
    session_total_ms: 86_400_000 in 1_000 ..= 2_592_000_000,
    /// Kills in force at once, beside that of everything. Beyond: a further one is refused until one is taken back.
    kills_max: 1_000 in 10 ..= 100_000,
    /// Questions for approval that are open at once. Beyond: `limit.approvals`.
    approvals_max: 1_000 in 1 ..= 100_000,
    /// Questions for approval of one caller that are open at once. Beyond: `limit.approvals`.
    caller_approvals_max: 20 in 1 ..= 10_000,
    /// Tasks remembered at once, for lists and notifications. Beyond: a caller's oldest is forgotten; its id still opens.
    tasks_max: 100_000 in 1 ..= 10_000_000,
    /// Tasks of one caller remembered at once, for lists and notifications. Beyond: its oldest is forgotten.
    caller_tasks_max: 1_000 in 1 ..= 100_000,
    /// The id of a task opens for so long. Beyond: `task.unknown`.
    task_total_ms: 86_400_000 in 1_000 ..= 2_592_000_000,
    /// Time for the whole request, headers and body, to arrive. Beyond: `request.timeout`.
    request_timeout_ms: 15_000 in 100 ..= 600_000,
    /// Time to connect to a server, TLS included. Beyond: `upstream.unavailable`.
    connect_timeout_ms: 5_000 in 50 ..= 120_000,
    /// Time until a server's answer starts. Beyond: `upstream.timeout`.
    first_byte_timeout_ms: 60_000 in 50 ..= 3_600_000,
    /// Silence in the middle of a server's answer. Beyond: `upstream.timeout`.
    idle_timeout_ms: 60_000 in 50 ..= 3_600_000,
    /// Time for a whole call. Beyond: `upstream.timeout`. Event streams opened with GET or listen are exempt.
    total_timeout_ms: 300_000 in 50 ..= 86_400_000,
    /// Comment sent on a silent event stream that has no answer to wait for, so that proxies keep it open.
    keepalive_ms: 15_000 in 1_000 ..= 600_000,
    /// Definitions of one kind from one server. Beyond: the server's catalogue is refused.
    definitions_max: 10_000 in 1 ..= 1_000_000,
    /// Versions of definitions of one kind from one server that it showed and shows no more, and that nobody judged. Beyond:
    /// the oldest are forgotten; the ledger keeps their digests.
    unjudged_definitions_max: 100 in 0 ..= 1_000_000,
    /// Entries in the ledger about what one server changed in its definitions, one for each, in an hour. Beyond: one entry for
    /// each listing, with their numbers and one digest.
    definition_entries_max: 1_000 in 10 ..= 1_000_000,
    /// Pages of one list from one server. Beyond: the server's catalogue is refused.
    list_pages_max: 1_000 in 1 ..= 100_000,
    /// A catalogue older than this is fetched again.
    catalog_refresh_ms: 30_000 in 100 ..= 86_400_000,
    /// Time to validate arguments against a schema grows with its size: bytes of one schema at most.
    schema_bytes_max: 262_144 in 256 ..= 16_777_216,
    /// Bytes of a child's standard error kept for the log, per second.
    stderr_bytes_per_s: 16_384 in 0 ..= 16_777_216,
    /// Time a child gets to exit after its standard input closes, and again after SIGTERM.
    child_grace_ms: 2_000 in 10 ..= 60_000,
    /// Longest pause between two starts of a crashing child; pauses double up to here.
    child_backoff_max_ms: 30_000 in 100 ..= 3_600_000,
    /// Child processes of one server at once, where each caller has its own.
    children_max: 64 in 1 ..= 10_000,
    /// Child processes of one server that one caller has at once; never more than half of `children_max`. Beyond: its
    /// own longest idle one makes room, else `limit.children`.
    caller_children_max: 16 in 1 ..= 10_000,
    /// Time to wait for the ledger before a call is refused with `ledger.unavailable`.
    ledger_timeout_ms: 5_000 in 50 ..= 120_000,
    /// Entries waiting for the ledger at once. Beyond: `ledger.unavailable`.
    ledger_queue_max: 8_192 in 16 ..= 1_000_000,
    /// Bytes waiting for the ledger, and bytes durable but not yet under a checkpoint, each. Beyond: `ledger.unavailable`.
    ledger_bytes_max: 67_108_864 in 1_048_576 ..= 17_179_869_184,
    /// Bytes of one token (JWT). Beyond: `auth.invalid`.
    token_bytes_max: 16_384 in 1_024 ..= 65_536,
    /// Bytes of an issuer's key set. Beyond: the key set is refused and the one before stays.
    jwks_bytes_max: 262_144 in 1_024 ..= 4_194_304,
    /// Keys in an issuer's key set. Beyond: the key set is refused and the one before stays.
    jwks_keys_max: 100 in 1 ..= 1_000,
    /// A key set older than this is fetched again; so long a key withdrawn by its issuer can stay in use.
    jwks_refresh_ms: 300_000 in 1_000 ..= 86_400_000,
    /// In so long a key set is fetched twice at most, whatever tokens name unknown keys: once because it is time, and once
    /// more for a key that came since.
    jwks_min_refresh_ms: 10_000 in 100 ..= 3_600_000,
    /// While an issuer cannot be reached its last key set stays in use for so long, on routes with `issuer_down:
    /// known_keys`. Beyond: `auth.unavailable`.
    jwks_stale_max_ms: 3_600_000 in 1_000 ..= 604_800_000,
    /// Time to fetch a key set.
    jwks_timeout_ms: 5_000 in 50 ..= 120_000,
    /// Bytes of an issuer's answer about a token. Beyond: `auth.unavailable`.
    introspection_bytes_max: 65_536 in 1_024 ..= 1_048_576,
    /// Time for an issuer's answer about a token, waiting for a free place included. Beyond: `auth.unavailable`.
    introspection_timeout_ms: 2_000 in 50 ..= 60_000,
    /// Questions to one issuer about tokens at once. Beyond: they wait.
    introspections_max: 64 in 1 ..= 10_000,
    /// How far the time in a DPoP proof may be off. Beyond: `auth.proof`.
    dpop_proof_age_s: 60 in 1 ..= 300,
    /// DPoP proofs remembered, so that none is taken twice; one key may hold an eighth. Beyond: `auth.unavailable`.
    dpop_proofs_max: 500_000 in 8 ..= 10_000_000,
    /// Verified tokens remembered, and likewise answers of issuers and certificates, until they expire or keys rotate.
    token_cache_max: 10_000 in 0 ..= 1_000_000,
    /// Keys of people whose data became tokens, that have not ended. Beyond: placeholders stand where tokens would.
    token_people_max: 100_000 in 1 ..= 10_000_000,
    /// Policy decisions remembered, where no policy reads arguments; as many again for the lists of each server.
    decision_cache_max: 10_000 in 0 ..= 1_000_000,
    /// Results of `resources/read` of one server kept for later calls. Beyond: the longest unused is forgotten; 0: none.
    read_cache_entries_max: 1_000 in 0 ..= 1_000_000,
    /// Bytes of all kept results of one server; one has a quarter of them at most.
    read_cache_bytes_max: 16_777_216 in 0 ..= 17_179_869_184,
    /// No result is kept longer than this, whatever its server's `ttlMs` says.
    read_cache_ttl_ms: 300_000 in 0 ..= 86_400_000,
    /// Time running calls get to finish when the gateway stops.
    shutdown_grace_ms: 10_000 in 0 ..= 600_000,
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn every_default_lies_within_its_own_bounds_and_can_be_set_by_its_key() {
        let mut limits = Limits::default();
        for row in Limits::ROWS {
            assert!((row.min..=row.max).contains(&row.default), "{}", row.key);
            assert!(limits.set(row.key, row.default), "{}", row.key);
        }
        assert_eq!(limits, Limits::default());
        assert!(!limits.set("no_such_limit", 1));
    }
}
