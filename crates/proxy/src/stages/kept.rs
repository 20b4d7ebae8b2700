//! Results of `resources/read` that an earlier call brought and that may be used again (2026-07-28, caching). A call that
//! finds one is a call like any other: authorised and recorded before, judged for its own caller afterwards.

use bytes::Bytes;
use portcullis_connect::results::{Bounds, Question, Scope, Ticket};
use portcullis_core::{Digest, Limits};
use portcullis_mcp::{
    json::{Edits, View},
    jsonrpc::{Message, Shape},
    revision::{Era, META_APART, META_CAPABILITIES},
};
use portcullis_upstream::Isolation;

use super::arm::Armed;
use crate::{rules::Rules, settings::Transport, tasks::reparsed};

/// What is known of a call before its server is asked.
pub(crate) enum Looked {
    /// The answer, which waited for people.
    Held(Bytes),
    /// The answer to another call.
    Kept(Bytes),
    /// The server is to be asked; with the ticket its answer may be kept.
    Ask(Option<Ticket>),
}

/// Looks for an answer to `armed` that is still true.
pub(crate) fn look(armed: &Armed, rules: &Rules, now_us: u64) -> Looked {
    let Some(question) = question(armed).filter(|_| rules.limits.read_cache_entries_max > 0) else {
        return Looked::Ask(None);
    };
    let reads = &armed.server().catalog.reads;
    let ticket = reads.ask(now_us);
    let kept = reads.get(question, now_us).and_then(|kept| {
        let message = Message::parse(kept.bytes, &rules.answer).ok()?;
        // Only what is left: a client that keeps it in turn must not keep it for longer than the server said.
        let ttl = message.result()?.get("ttlMs")?.span();
        let mut edits = Edits::new();
        edits.replace(ttl, (kept.left_us / 1_000).to_string().into_bytes());
        let message = reparsed(edits.apply(message.bytes()).ok()?).ok()?;
        Some(message.with_id(armed.message()?.id()?.raw()))
    });
    kept.map_or(Looked::Ask(Some(ticket)), Looked::Kept)
}

/// Keeps the server's answer to `armed` if it says that this may be done.
pub(crate) fn keep(armed: &Armed, rules: &Rules, ticket: Ticket, message: &Message) {
    let Some((question, (scope, ttl_ms))) = question(armed).zip(stated(message, armed)) else { return };
    let Limits { read_cache_entries_max, read_cache_bytes_max, read_cache_ttl_ms, .. } = rules.limits;
    let bounds = Bounds { entries_max: read_cache_entries_max, bytes_max: read_cache_bytes_max };
    let ttl_us = ttl_ms.min(read_cache_ttl_ms).saturating_mul(1_000);
    armed.server().catalog.reads.put(question, scope, ticket, (message.bytes(), ttl_us), bounds);
}

/// What is asked, where a result may be used again at all.
fn question(armed: &Armed) -> Option<Question<'_>> {
    // What somebody reads with a token of its own is read anew, whatever the server says of who may share it.
    if armed.era() != Era::Modern || !armed.is("resources/read") || armed.server().upstream.personal() {
        return None;
    }
    let params = armed.message()?.params()?;
    let known = |name: &str| matches!(name, "uri" | "_meta");
    // Not with `inputResponses` or `requestState`: what they bring about is for this one call.
    if !params.members().all(|(name, _)| known(&name)) {
        return None;
    }
    let meta = params.get("_meta")?;
    // Besides the capabilities, of which the key tells; of anything else nobody knows what it changes.
    if !meta.members().all(|(name, _)| META_APART.contains(&&*name)) {
        return None;
    }
    let capable = meta.get(META_CAPABILITIES).map_or(&b""[..], |capable| capable.raw());
    let declared = armed.server().settings.digest;
    // As it is written: the same in other escapes is asked for once more.
    let uri = std::str::from_utf8(params.get("uri")?.raw()).ok()?;
    Some(Question { depends_on: Digest::of_parts(&[&declared.0, capable]), uri, caller: armed.caller() })
}

/// For whom and how long the server says that its answer may be kept.
fn stated(message: &Message, armed: &Armed) -> Option<(Scope, u64)> {
    let result = message.result().filter(|_| message.shape() == Shape::Response)?;
    let complete = result.get("resultType").is_some_and(|kind| kind.is_str("complete"));
    let asks = ["inputRequests", "requestState"].iter().any(|name| result.get(name).is_some());
    let ttl_ms = result.get("ttlMs")?.as_u64()?;
    let stated = result.get("cacheScope").filter(|_| complete && !asks)?;
    let scope = match stated {
        // A child that one caller has for itself does not speak to the others, whatever it says.
        stated if stated.is_str("public") && speaks_to_all(armed) => Scope::Public,
        stated if is_scope(&stated) => Scope::Private,
        _ => return None,
    };
    Some((scope, ttl_ms))
}

fn is_scope(stated: &View<'_>) -> bool {
    stated.is_str("public") || stated.is_str("private")
}

/// Whether all callers speak to one server.
fn speaks_to_all(armed: &Armed) -> bool {
    match &armed.server().settings.transport {
        Transport::Group => false,
        Transport::Http { .. } => true,
        Transport::LegacySse { isolation, .. } | Transport::Stdio { isolation, .. } => match isolation {
            Isolation::PerCaller | Isolation::PerSession => false,
            Isolation::Shared | Isolation::Solo => true,
        },
    }
}
