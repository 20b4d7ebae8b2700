//! The credentials of the server are joined here and nowhere earlier: no ledger entry, detector or refusal can have
//! seen them.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_catalog::Item;
use portcullis_core::{Code, Obligations, Refusal};
use portcullis_mcp::{
    json::Edits,
    jsonrpc::Message,
    revision::{Era, mirrored},
};

use super::{approve, record::Recorded};
use crate::{
    bridge::Unwanted,
    extensions,
    head::{LAST_EVENT_ID, NAME, PARAM_PREFIX},
    refusal::CONFIRM,
    rules::Server,
    session::Backend,
    settings::Transport,
    tasks,
};
use portcullis_upstream::{
    Behalf, Verb, headers::METHOD, headers::SESSION, headers::VERSION, headers::secret_value,
};

/// A call with everything the server needs.
#[derive(Debug)]
pub struct Armed {
    pub(super) recorded: Recorded,
    pub(super) headers: HeaderMap,
    /// What the permit, and those of the tasks that it names, demand of the answer.
    pub(super) obligations: Obligations,
    /// What its server says in vain, until that is recorded.
    pub(super) unwanted: Arc<Unwanted>,
}

impl Armed {
    /// The index of the intent.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.recorded.index()
    }
}

/// Headers of the client that reach a server. Everything else stays here: its credentials, cookies, addresses.
const PASSED: [HeaderName; 4] = [METHOD, NAME, VERSION, header::ACCEPT];

/// Joins the server's credentials and the headers that may reach it.
///
/// # Errors
/// `internal` when a configured header cannot be written.
pub fn call(mut recorded: Recorded) -> Result<Armed, Refusal> {
    let obligations = obligations(&recorded);
    // Not before: a server's own id of a task is as good as a credential on many servers.
    exchange_tasks(&mut recorded)?;
    narrow(&mut recorded)?;
    forget_answer(&mut recorded)?;
    let aimed = &recorded.inspected.permitted.valid.aimed;
    let mut headers = HeaderMap::new();
    if let Transport::Http { .. } = &aimed.server.settings.transport {
        let (call, client) = (&aimed.call, &aimed.call.head.headers);
        for name in PASSED {
            if let Some(value) = client.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if call.head.verb == Verb::Post {
            // Ours, not the client's: a parameter of its could make the server read other words than were judged.
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        match call.era {
            Era::Modern => {
                // Those that the pinned definition declares say what the arguments say. Any other would bring words
                // to the server that nobody has judged.
                let declared = aimed.item.as_deref().map_or(&[][..], Item::headers);
                let mirrors = |name: &str| declared.iter().any(|one| one.header.eq_ignore_ascii_case(name));
                let params = client
                    .iter()
                    .filter(|(name, _)| name.as_str().strip_prefix(PARAM_PREFIX).is_some_and(mirrors));
                headers.extend(params.map(|(name, value)| (name.clone(), value.clone())));
                if let (true, [task]) = (headers.contains_key(NAME), &*aimed.tasks) {
                    headers.insert(NAME, secret_value(&mirrored(&task.own))?);
                }
            }
            Era::Legacy => {
                if let Some(Backend::Http(Some(id))) = call.session.as_ref().map(|session| &session.backend) {
                    headers.insert(SESSION, secret_value(id)?);
                }
                if let Some(id) = client.get(&LAST_EVENT_ID).filter(|_| call.head.verb == Verb::Get) {
                    headers.insert(LAST_EVENT_ID, id.clone());
                }
            }
        }
        let behalf = Behalf::now(&recorded.inspected.permitted.caller);
        headers.extend(credentials(&aimed.server, &behalf));
    }
    Ok(Armed { recorded, headers, obligations, unwanted: Arc::default() })
}

/// On whose behalf a request is made: what the server wants of everybody, and of this caller, is joined where the request
/// is written.
pub(in crate::stages) fn credentials(server: &Server, behalf: &Behalf) -> HeaderMap {
    let mut headers = HeaderMap::new();
    server.upstream.on_behalf_of(&mut headers, behalf);
    headers
}

/// What the permit, and those of the tasks that the call names, demand of the answer.
pub(super) fn obligations(recorded: &Recorded) -> Obligations {
    let permitted = &recorded.inspected.permitted;
    let tasks = permitted.valid.aimed.tasks.iter().map(|task| &task.obligations);
    tasks::strictest(std::iter::once(permitted.permit.obligations()).chain(tasks))
}

fn exchange_tasks(recorded: &mut Recorded) -> Result<(), Refusal> {
    let aimed = &recorded.inspected.permitted.valid.aimed;
    if let (false, Some(message)) = (aimed.tasks.is_empty(), &recorded.inspected.message) {
        let message = tasks::inward(&aimed.call.method(), message, &aimed.tasks)?;
        recorded.inspected.message = Some(message);
    }
    Ok(())
}

/// What the user was asked by the gateway is between gateway and client: the server has not asked.
fn forget_answer(recorded: &mut Recorded) -> Result<(), Refusal> {
    let own = approve::own(&recorded.inspected);
    let params = recorded.inspected.message.as_ref().and_then(Message::params);
    let answers = params.and_then(|params| params.get("inputResponses"));
    let (Some(message), Some(params), Some(answers)) = (&recorded.inspected.message, params, answers) else {
        return Ok(());
    };
    let said: Vec<&str> = own.into_iter().filter(|name| answers.get(name).is_some()).collect();
    if said.is_empty() {
        return Ok(());
    }
    let mut edits = Edits::new();
    if answers.members().count() > said.len() {
        edits.retain_members(answers, |name| !said.contains(&name));
    } else {
        let stated = said.contains(&CONFIRM);
        edits.retain_members(params, |name| name != "inputResponses" && !(stated && name == "requestState"));
    }
    let bytes =
        edits.apply(message.bytes()).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    recorded.inspected.message = Some(tasks::reparsed(bytes)?);
    Ok(())
}

/// The server learns only of those extensions of the client that may pass.
fn narrow(recorded: &mut Recorded) -> Result<(), Refusal> {
    let aimed = &recorded.inspected.permitted.valid.aimed;
    if let Some(message) = recorded.inspected.message.take() {
        recorded.inspected.message = Some(extensions::inward(&aimed.server.settings, message)?);
    }
    Ok(())
}
