//! Notifications of servers: those of a call, and those of changes, which each revision delivers its own way.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use bytes::Bytes;

use super::object::{Change, object, rewrite};
use crate::{
    json::{View, quote},
    jsonrpc::Message,
};

/// Member of `_meta` with the id of the `subscriptions/listen` that a notification belongs to.
const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Which changes somebody wants to be told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Changed lists of tools.
    pub tools: bool,
    /// Changed lists of prompts.
    pub prompts: bool,
    /// Changed lists of resources.
    pub resources: bool,
    /// Resources by URI.
    pub uris: BTreeSet<String>,
}

impl Filter {
    /// The filter in the params of a `subscriptions/listen`.
    #[must_use]
    pub fn of(params: Option<View<'_>>) -> Self {
        let asked = params.and_then(|params| params.get("notifications"));
        let yes = |name: &str| asked.and_then(|asked| asked.get(name)?.as_bool()) == Some(true);
        let uris = asked.and_then(|asked| asked.get("resourceSubscriptions"));
        let uris = uris.into_iter().flat_map(|uris| uris.elements());
        Self {
            tools: yes("toolsListChanged"),
            prompts: yes("promptsListChanged"),
            resources: yes("resourcesListChanged"),
            uris: uris.filter_map(|uri| Some(uri.as_str()?.into_owned())).collect(),
        }
    }

    /// What of it a server with these capabilities can deliver.
    #[must_use]
    pub fn offered(self, capabilities: &View<'_>) -> Self {
        let says = |path: [&str; 2]| capabilities.path(&path).and_then(|view| view.as_bool()) == Some(true);
        Self {
            tools: self.tools && says(["tools", "listChanged"]),
            prompts: self.prompts && says(["prompts", "listChanged"]),
            resources: self.resources && says(["resources", "listChanged"]),
            uris: if says(["resources", "subscribe"]) { self.uris } else { BTreeSet::new() },
        }
    }

    /// As JSON text, only what is wanted.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let flags = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        let uris: Vec<String> = self.uris.iter().map(|uri| quote(uri)).collect();
        let uris = format!("[{}]", uris.join(","));
        let mut members: Vec<(&str, &[u8])> =
            flags.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (name, &b"true"[..])).collect();
        if !self.uris.is_empty() {
            members.push(("resourceSubscriptions", uris.as_bytes()));
        }
        object(&members)
    }

    /// The first message on a stream of changes: what will be told.
    #[must_use]
    pub fn acknowledgement(&self, subscription: &[u8]) -> Bytes {
        let meta = object(&[(META_SUBSCRIPTION, subscription)]);
        let params = object(&[("_meta", &meta), ("notifications", &self.to_json())]);
        let whole = object(&[
            ("jsonrpc", br#""2.0""#),
            ("method", br#""notifications/subscriptions/acknowledged""#),
            ("params", &params),
        ]);
        Bytes::from(whole)
    }

    fn wants(&self, message: &Message) -> bool {
        match message.method_name().as_deref() {
            Some("notifications/tools/list_changed") => self.tools,
            Some("notifications/prompts/list_changed") => self.prompts,
            Some("notifications/resources/list_changed") => self.resources,
            Some("notifications/resources/updated") => {
                let uri = message.params().and_then(|params| params.get("uri")?.as_str());
                uri.is_some_and(|uri| self.uris.contains(&*uri))
            }
            _ => false,
        }
    }
}

/// A change that a server of the older revision tells, for a client of the newer one that listens with this filter;
/// nothing where it did not ask for it.
#[must_use]
pub fn for_listener(message: &Message, filter: &Filter, subscription: &[u8]) -> Option<Bytes> {
    if !filter.wants(message) {
        return None;
    }
    let params = with_meta(message.params(), |_| false, &[(META_SUBSCRIPTION, subscription)]);
    Some(with_params(message, &params))
}

/// What a server of the newer revision tells a listener, for the stream of a session of the older one; nothing where
/// it is about the listening itself.
#[must_use]
pub fn for_session(message: &Message) -> Option<Bytes> {
    let name = message.method_name()?;
    let told = name.ends_with("/list_changed") || name == "notifications/resources/updated";
    if !told {
        return None;
    }
    let params = with_meta(message.params(), |name| name == META_SUBSCRIPTION, &[]);
    Some(with_params(message, &params))
}

/// A notification in the course of a call, with the progress token that the client chose in place of the one that was
/// `sent`; nothing where it does not belong to the call, or is a log message that nobody asked for.
#[must_use]
pub fn for_call(message: &Message, sent: &[u8], token: Option<&[u8]>, logs: bool) -> Option<Bytes> {
    let own =
        message.params().and_then(|params| params.get("progressToken")).is_some_and(|own| own.raw() == sent);
    match (message.method_name().as_deref(), token) {
        (Some("notifications/progress"), Some(token)) if own => {
            let change = |name: &str, _: View<'_>| match name {
                "progressToken" => Change::Set(token.to_vec()),
                _ => Change::Keep,
            };
            Some(with_params(message, &rewrite(message.params()?, change, &[])))
        }
        (Some("notifications/message"), _) if logs => Some(message.bytes().clone()),
        _ => None,
    }
}

fn with_meta(params: Option<View<'_>>, gone: impl Fn(&str) -> bool, extra: &[(&str, &[u8])]) -> Vec<u8> {
    let empty = View::of(b"{}");
    let params = params.unwrap_or(empty);
    let old = params.get("_meta").unwrap_or(empty);
    let meta = rewrite(
        old,
        |name, _| {
            let replaced = extra.iter().any(|(new, _)| *new == name);
            if replaced || gone(name) { Change::Drop } else { Change::Keep }
        },
        extra,
    );
    let extra: &[(&str, &[u8])] = if meta.len() > 2 { &[("_meta", &meta)] } else { &[] };
    rewrite(params, |name, _| if name == "_meta" { Change::Drop } else { Change::Keep }, extra)
}

fn with_params(message: &Message, params: &[u8]) -> Bytes {
    let keep = |name: &str, _: View<'_>| if name == "params" { Change::Drop } else { Change::Keep };
    let extra: &[(&str, &[u8])] = if params.len() > 2 { &[("params", params)] } else { &[] };
    Bytes::from(rewrite(message.root(), keep, extra))
}
