//! What the gateway reads of an answer, in one walk over its members: a large answer is not walked again for each
//! question about it.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::ops::Range;

use memchr::memmem;

use crate::{
    elicitation::{self, UrlError},
    json::View,
    jsonrpc::{Message, Shape},
};

/// What the gateway reads of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How it says that it failed: `error` (JSON-RPC) or `is_error` (a tool's own failure).
    pub failure: Option<&'static str>,
    /// The code of its JSON-RPC error.
    pub jsonrpc: Option<i64>,
    /// Methods of the questions inside it (`input_required`, revision 2026-07-28).
    pub questions: Vec<String>,
    /// That the call is wanted once more, and with which state (`input_required`, revision 2026-07-28).
    pub again: Option<Option<String>>,
    /// A URL among them that nobody should open.
    pub unsafe_url: Option<UrlError>,
    /// Where it says that it may be cached for everybody.
    pub public_scope: Option<Range<usize>>,
}

impl Facts {
    /// Reads `message`.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        if message.shape() == Shape::Error {
            let jsonrpc = message.error().and_then(|error| error.get("code")?.as_i64());
            let mut facts = Self { failure: Some("error"), jsonrpc, ..Self::default() };
            // The older revision has a server ask in an error as well.
            for asked in message.error().iter().flat_map(elicitation::required) {
                facts.asks("elicitation/create".into(), Some(asked));
            }
            return facts;
        }
        let told = message.method_name().filter(|name| name.starts_with("notifications/tasks"));
        // What a task asks is told like what it answers.
        let result = message.result().or_else(|| told.and_then(|_| message.params()));
        let Some(result) = result else { return Self::default() };
        // A name that does not occur is no member; only escapes could hide it.
        let names = ["isError", "inputRequests", "cacheScope", "input_required"];
        let absent = |name: &str| memmem::find(message.bytes(), name.as_bytes()).is_none();
        if !message.stats().unicode_escapes && names.into_iter().all(absent) {
            return Self::default();
        }
        let mut facts = Self::default();
        for (name, value) in result.members() {
            match &*name {
                "resultType" if value.is_str("input_required") => {
                    let state = result.get("requestState").and_then(|state| state.as_str());
                    facts.again = Some(state.map(Cow::into_owned));
                }
                "isError" => facts.failure = (value.as_bool() == Some(true)).then_some("is_error"),
                "cacheScope" => facts.public_scope = value.is_str("public").then(|| value.span()),
                "inputRequests" => {
                    for (_, request) in value.members() {
                        let method = request.get("method").and_then(|method| method.as_str());
                        facts.asks(method.unwrap_or_default().into_owned(), request.get("params"));
                    }
                }
                _ => {}
            }
        }
        facts
    }

    fn asks(&mut self, method: String, params: Option<View<'_>>) {
        if method == "elicitation/create" {
            self.unsafe_url = self.unsafe_url.or(elicitation::judge(params).err());
        }
        self.questions.push(method);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::ToOwned as _, format};

    use crate::json::JsonLimits;
    use bytes::Bytes;

    use super::*;

    fn facts(text: &str) -> Facts {
        let limits = JsonLimits::answer(&portcullis_core::Limits::default());
        Facts::of(&Message::parse(Bytes::copy_from_slice(text.as_bytes()), &limits).unwrap())
    }

    #[test]
    fn what_an_answer_says_is_read_however_its_names_are_written() {
        assert_eq!(facts(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#), Facts::default());
        assert_eq!(facts(r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#).failure, Some("is_error"));
        assert_eq!(
            facts(r#"{"jsonrpc":"2.0","id":1,"result":{"\u0069sError":true}}"#).failure,
            Some("is_error")
        );
        assert_eq!(
            facts(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":""}}"#).jsonrpc,
            Some(-32601)
        );
        let asking = r#"{"jsonrpc":"2.0","id":1,"result":{"inputRequests":{"a":{"method":"sampling/createMessage"},"b":{}}}}"#;
        assert_eq!(facts(asking).questions, ["sampling/createMessage", ""]);
        let again =
            r#"{"jsonrpc":"2.0","id":1,"result":{"requestState":"\u0061","resultType":"input_required"}}"#;
        assert_eq!(facts(again).again, Some(Some("a".to_owned())));
        let stateless = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}"#;
        assert_eq!(facts(stateless).again, Some(None));
        let told = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","text":"input_required"}}"#;
        assert_eq!(facts(told).again, None);
        let open = |url: &str| {
            let elicitation = format!(r#"{{"mode":"url","elicitationId":"e","url":"{url}"}}"#);
            let asked = format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"inputRequests":{{"a":{{"method":"elicitation/create","params":{elicitation}}}}}}}}}"#
            );
            let error = format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32042,"message":"","data":{{"elicitations":[{elicitation}]}}}}}}"#
            );
            [asked, error].map(|text| (facts(&text).questions.join(","), facts(&text).unsafe_url))
        };
        let asks = "elicitation/create".to_owned();
        assert_eq!(open("https://a.example"), [(asks.clone(), None), (asks.clone(), None)]);
        let unsafe_url = Some(UrlError::Scheme);
        assert_eq!(open("http://a.example"), [(asks.clone(), unsafe_url), (asks, unsafe_url)]);
        assert!(facts(r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public"}}"#).public_scope.is_some());
        assert!(
            facts(r#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"private"}}"#).public_scope.is_none()
        );
    }
}
