//! What becomes of each method between any two eras. The reference page and the decision at run time are made from it.

use crate::{
    method::{Form, MethodRow, Side},
    revision::Era,
};

/// How a message reaches the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Passage {
    /// The sender's revision does not have it, so nobody sends it.
    Absent,
    /// The gateway deals with it itself.
    Answered,
    /// It has no counterpart: refused with `bridge.untranslatable`.
    Refused,
    /// As it came.
    Straight,
    /// As the other revision says it.
    Translated,
}

impl Passage {
    /// The word for it in the reference.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "–",
            Self::Answered => "gateway",
            Self::Refused => "refused",
            Self::Straight => "straight",
            Self::Translated => "translated",
        }
    }
}

/// What becomes of the message of `row` that `sender` sends, between a client and a server of these eras. A question
/// of a server of the newer revision is sent inside a result, and counts as sent.
#[must_use]
pub fn passage(row: &MethodRow, sender: Side, client: Era, server: Era) -> Passage {
    let era = if sender == Side::Server { server } else { client };
    let inside = row.form == Form::Request
        && sender == Side::Server
        && era == Era::Modern
        && matches!(row.name, "sampling/createMessage" | "elicitation/create" | "roots/list");
    if !inside && !era.allows(row, sender) {
        return Passage::Absent;
    }
    if row.list.is_some() {
        return Passage::Answered;
    }
    match (client, server) {
        (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => Passage::Straight,
        (Era::Modern, Era::Legacy) if sender == Side::Server => from_legacy_server(row.name),
        (Era::Modern, Era::Legacy) => from_modern_client(row.name),
        (Era::Legacy, Era::Modern) if sender == Side::Server => from_modern_server(row.name),
        (Era::Legacy, Era::Modern) => from_legacy_client(row.name),
    }
}

fn from_modern_client(name: &str) -> Passage {
    match name {
        "completion/complete"
        | "notifications/cancelled"
        | "prompts/get"
        | "resources/read"
        | "subscriptions/listen"
        | "tools/call" => Passage::Translated,
        "server/discover" => Passage::Answered,
        // Tasks of the two revisions have nothing in common.
        _ => Passage::Refused,
    }
}

fn from_legacy_client(name: &str) -> Passage {
    match name {
        "completion/complete"
        | "notifications/cancelled"
        | "prompts/get"
        | "resources/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "tools/call" => Passage::Translated,
        // A server of the newer revision asks for roots anew whenever it needs them.
        "initialize"
        | "logging/setLevel"
        | "notifications/initialized"
        | "notifications/roots/list_changed"
        | "ping" => Passage::Answered,
        _ => Passage::Refused,
    }
}

fn from_legacy_server(name: &str) -> Passage {
    match name {
        "notifications/elicitation/complete" | "ping" => Passage::Answered,
        _ => from_server(name),
    }
}

fn from_modern_server(name: &str) -> Passage {
    match name {
        "notifications/subscriptions/acknowledged" => Passage::Answered,
        _ => from_server(name),
    }
}

/// What servers of both revisions say.
fn from_server(name: &str) -> Passage {
    match name {
        "elicitation/create"
        | "notifications/message"
        | "notifications/progress"
        | "notifications/prompts/list_changed"
        | "notifications/resources/list_changed"
        | "notifications/resources/updated"
        | "notifications/tools/list_changed"
        | "roots/list"
        | "sampling/createMessage" => Passage::Translated,
        "notifications/cancelled" => Passage::Answered,
        _ => Passage::Refused,
    }
}
