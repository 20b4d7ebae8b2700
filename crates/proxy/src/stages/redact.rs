//! The only maker of [`Masked`], and nothing else is written to a client.

use std::collections::BTreeSet;

use bytes::Bytes;
use portcullis_approve::Used;
use portcullis_catalog::{Judges, List};
use portcullis_core::{Code, Digest, Direction, Entropy, Finding, Labels, Obligations, Refusal};
use portcullis_inspect::{Inspector, Verdict, Window};
use portcullis_mcp::{
    facts::Facts,
    json::{Edits, quote},
    jsonrpc::Message,
    sse::Event,
};

use portcullis_screen::{Asks, Ways, look};

use super::inspect::{refused, unread};
use crate::{tasks::reparsed, trail::Measured};

/// A message of a server that a client may see.
#[derive(Debug)]
pub struct Masked {
    bytes: Bytes,
    facts: Facts,
    labels: Labels,
}

impl Masked {
    /// The bytes for the client: the server's own unless something was masked.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What the answer says of itself.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The labels of what was found in it and is still there.
    #[must_use]
    pub const fn labels(&self) -> Labels {
        self.labels
    }

    /// Digest and size, for the ledger.
    #[must_use]
    pub fn measured(&self) -> Measured {
        Measured::of(&self.bytes)
    }
}

/// A message of a server that a client may see once people let it through.
#[derive(Debug)]
pub struct Held {
    masked: Masked,
    /// The detectors for whose finds they are asked.
    pub asks: BTreeSet<&'static str>,
}

impl Held {
    /// The bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.masked.bytes
    }

    /// People let through what waited.
    #[must_use]
    pub fn granted(self, _approval: &Used) -> Masked {
        self.masked
    }
}

/// Why a message of a server is no [`Masked`].
#[derive(Debug)]
pub enum Stopped {
    /// It does not pass.
    Refused(Refusal),
    /// It waits for people.
    Waits(Box<Held>),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What one caller was allowed says nothing about others, so nothing that we answer may be cached for them
/// (2026-07-28, caching): `public` becomes `private`.
fn for_one_caller(message: &Message, facts: &Facts) -> Option<Message> {
    let scope = facts.public_scope.clone()?;
    let mut edits = Edits::new();
    edits.replace(scope, br#""private""#.to_vec());
    reparsed(edits.apply(message.bytes()).ok()?).ok()
}

/// Bytes of the id of an event. A client sends it back in a header.
const EVENT_ID_BYTES_MAX: usize = 1_024;

/// What may pass of an event beside its message. The words of a comment are for nobody; its coming alone keeps a
/// connection open. Events of another name than `message` are none to any client, so that their data is none either. An
/// id passes whole or not at all, since the server is to know it again.
#[must_use]
pub fn framing(
    inspector: &Inspector,
    event: Event,
    obligations: &Obligations,
    findings: &mut Vec<Finding>,
) -> Event {
    let mut passes = |id: &String| {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"event","params":{{"event id":{}}}}}"#, quote(id));
        let Ok(message) = reparsed(Bytes::from(text)) else { return false };
        let ways = (obligations, Ways::PLAIN);
        look(inspector, Direction::Outward, &message, ways, None, findings).verdict == Verdict::Pass
    };
    let id = event.id.filter(|id| id.len() <= EVENT_ID_BYTES_MAX && passes(id));
    let comment = event.comment.map(|_words| String::new());
    match event.event.as_deref() {
        None | Some("message") => Event { id, comment, ..event },
        Some(_) => Event { id, comment, retry: event.retry, ..Event::default() },
    }
}

/// Judges what was said in several messages as if it were one. A part of it cannot be masked any more.
///
/// # Errors
/// `answer.refused`, `limit.inspection`.
pub fn together(
    inspector: &Inspector,
    obligations: &Obligations,
    message: &Message,
    findings: &mut Vec<Finding>,
) -> Result<(), Refusal> {
    let known = findings.len();
    let seen = look(inspector, Direction::Outward, message, (obligations, Ways::PLAIN), None, findings);
    match seen.verdict {
        Verdict::Pass | Verdict::Warn => {
            // Each was reported where it stands.
            findings.truncate(known);
            Ok(())
        }
        Verdict::Refuse if seen.unread => Err(unread()),
        Verdict::Mask | Verdict::Ask | Verdict::Refuse => Err(refused(Code::AnswerRefused, findings)),
    }
}

/// An answer that is this list, where the list passed the same judges untouched before.
/// What stands before it is the client's own id.
#[must_use]
pub fn list(list: &List, bytes: &Bytes, judges: Judges<'_>) -> Option<Masked> {
    let same = list.passed(judges) && list.is_in(bytes);
    same.then(|| Masked { bytes: bytes.clone(), facts: Facts::default(), labels: Labels::NONE })
}

/// Notes that a list passed, if it did so untouched and says nothing of itself.
pub fn remember(list: &List, masked: &Masked, judges: Judges<'_>) {
    if list.is_in(&masked.bytes) && masked.facts == Facts::default() {
        list.pass(judges);
    }
}

/// What answers are judged by.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// The detectors.
    pub inspector: &'a Inspector,
    /// What the permit demands.
    pub obligations: &'a Obligations,
    /// What marks are numbered by; nothing where they stand already.
    pub entropy: Option<&'a dyn Entropy>,
    /// Whether it can wait for people, unless it asks something itself.
    pub waits: bool,
    /// Within what tokens mean something.
    pub scope: Option<Digest>,
}

/// Inspects a message of a server and masks what must not be seen; findings go to `findings` in any case. `fits` says
/// whether the message may be like that without members that are to be left out: otherwise they are masked.
///
/// # Errors
/// `answer.refused`, `limit.inspection`; that it waits.
pub fn answer(
    By { inspector, obligations, entropy, waits, scope }: By<'_>,
    message: &Message,
    window: Option<&mut Window>,
    fits: impl Fn(&Message) -> bool,
    findings: &mut Vec<Finding>,
) -> Result<Masked, Stopped> {
    let facts = Facts::of(message);
    let own = waits && facts.again.is_none() && facts.questions.is_empty();
    let asks = if own { Asks::Waits } else { Asks::Masked };
    let private = for_one_caller(message, &facts);
    let message = private.as_ref().unwrap_or(message);
    let (known, ways) = (findings.len(), Ways { entropy, drops: true, asks, scope });
    let mut seen = look(inspector, Direction::Outward, message, (obligations, ways), window, findings);
    let unfit = |bytes: &Bytes| reparsed(bytes.clone()).is_ok_and(|message| !fits(&message));
    if seen.dropped && seen.masked.as_ref().is_some_and(unfit) {
        findings.truncate(known);
        let ways = Ways { drops: false, ..ways };
        seen = look(inspector, Direction::Outward, message, (obligations, ways), None, findings);
    }
    let bytes = match (seen.verdict, seen.masked) {
        (Verdict::Warn | Verdict::Mask | Verdict::Ask, Some(bytes)) => bytes,
        (Verdict::Pass | Verdict::Warn | Verdict::Ask, _) => message.bytes().clone(),
        (Verdict::Refuse, _) if seen.unread => return Err(unread().into()),
        (Verdict::Mask, None) | (Verdict::Refuse, _) => {
            let code = if seen.abroad { Code::ResidencyRefused } else { Code::AnswerRefused };
            return Err(refused(code, findings).into());
        }
    };
    let masked = Masked { bytes, facts, labels: seen.labels };
    match seen.verdict {
        Verdict::Ask => Err(Stopped::Waits(Box::new(Held { masked, asks: seen.asks }))),
        Verdict::Pass | Verdict::Warn | Verdict::Mask | Verdict::Refuse => Ok(masked),
    }
}
