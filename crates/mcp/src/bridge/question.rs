//! Questions of servers to clients: requests of their own in the older revision, part of a result in the newer one.

use alloc::{format, string::String, vec::Vec};

use bytes::Bytes;

use super::object::{Change, object, rewrite};
use crate::{
    json::{View, quote},
    jsonrpc::Message,
};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name under which its answer is expected.
    pub key: String,
    /// What is asked.
    pub method: String,
    /// `params` (JSON text).
    pub params: Bytes,
}

impl Question {
    /// The question that a request of a server of the older revision asks, under the name `key`.
    #[must_use]
    pub fn of(request: &Message, key: &str) -> Self {
        let params = request.params().map_or(&b"{}"[..], |params| params.raw());
        Self {
            key: key.into(),
            method: request.method_name().unwrap_or_default().into_owned(),
            params: Bytes::copy_from_slice(params),
        }
    }
}

/// The questions inside a result of the newer revision, in its order.
#[must_use]
pub fn questions_inside(result: &View<'_>) -> Vec<Question> {
    let requests = result.get("inputRequests");
    let question = |(key, request): (alloc::borrow::Cow<'_, str>, View<'_>)| {
        let method = request.get("method").and_then(|method| method.as_str()).unwrap_or_default();
        let params = request.get("params").map_or(&b"{}"[..], |params| params.raw());
        Question {
            key: key.into_owned(),
            method: method.into_owned(),
            params: Bytes::copy_from_slice(params),
        }
    };
    requests.into_iter().flat_map(|requests| requests.members()).map(question).collect()
}

/// The question as a request to a client of the older revision, with this text as its id.
#[must_use]
pub fn to_client(question: &Question, id: &str) -> Bytes {
    let id = quote(id);
    let view = View::of(&question.params);
    // The older revision wants to be able to name it afterwards.
    let by_url = question.method == "elicitation/create"
        && view.get("mode").is_some_and(|mode| mode.is_str("url"))
        && view.get("elicitationId").is_none();
    let extra: &[(&str, &[u8])] = if by_url { &[("elicitationId", id.as_bytes())] } else { &[] };
    let params = rewrite(view, |_, _| Change::Keep, extra);
    let method = quote(&question.method);
    let whole = object(&[
        ("jsonrpc", br#""2.0""#),
        ("id", id.as_bytes()),
        ("method", method.as_bytes()),
        ("params", &params),
    ]);
    Bytes::from(whole)
}

/// A result of the newer revision that asks `questions`, for the request with this id (JSON text); `state` comes back
/// with the answers.
#[must_use]
pub fn input_required(id: &[u8], questions: &[Question], state: &str) -> Bytes {
    let requests: Vec<(String, Vec<u8>)> = questions
        .iter()
        .map(|question| {
            let method = quote(&question.method);
            let gone = |name: &str| question.method == "elicitation/create" && name == "elicitationId";
            let params = rewrite(
                View::of(&question.params),
                |name, _| if gone(name) { Change::Drop } else { Change::Keep },
                &[],
            );
            (question.key.clone(), object(&[("method", method.as_bytes()), ("params", &params)]))
        })
        .collect();
    let requests: Vec<(&str, &[u8])> = requests.iter().map(|(key, request)| (&**key, &**request)).collect();
    let (requests, state) = (object(&requests), quote(state));
    let result = object(&[
        ("resultType", br#""input_required""#),
        ("inputRequests", &requests),
        ("requestState", state.as_bytes()),
    ]);
    Bytes::from(object(&[("jsonrpc", br#""2.0""#), ("id", id), ("result", &result)]))
}

/// The answer to a question of a server of the older revision: `id` and `result` are JSON text.
#[must_use]
pub fn answer_to_server(id: &[u8], result: &[u8]) -> Bytes {
    let (id, result) = (String::from_utf8_lossy(id), String::from_utf8_lossy(result));
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}
