//! Where questions are asked, answered and used up. Each step is in the ledger before it counts: a question before
//! people can answer it, an answer before it lets a call through, the use before the call is forwarded.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_core::{
    Caller, CallerKind, Clock, Code, Digest, Entropy, Event, Limits, Refusal, Target, TargetKind,
};
use portcullis_proof::{Actor, Entry};
use portcullis_store::{
    Answered, ApprovalAnswer, ApprovalRow, ApprovalState, Approvals, Ledger, LedgerError, NewApproval,
    StoreError,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Confirmation, Hooks, Person, Waiting,
    binding::round,
    counts::Counts,
    refusal::{denied, later, too_many, unavailable, unrecorded, waiting},
};

/// How long a server waits for the next round of a call that is approved.
const ROUND_S: u32 = 3_600;
/// Bytes of an answer that can wait.
pub const HELD_BYTES_MAX: usize = 1_048_576;
/// What names of questions begin with.
const PREFIX: &str = "apr_";
/// Letters and digits that are hard to mistake for one another; 32, so that five random bits choose one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of a name.
const ID_CHARS: usize = 16;

/// The way of answers in the client.
const CLIENT: &str = "client";
/// Whether an answer of somebody counts.
type May = fn(&ApprovalRow, &Caller) -> Result<(), AnswerError>;

/// What a desk works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where questions are kept.
    pub store: Arc<dyn Approvals>,
    /// Where everything is recorded first.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Which gateway this is, in entries.
    pub instance: Arc<str>,
}

/// Where questions are asked and answered.
#[derive(Debug)]
pub struct Desk {
    pub(crate) parts: Parts,
    pub(crate) hooks: Hooks,
    counts: Counts,
    /// One question at a time is asked, and one answered: what was looked up is still true when it is recorded.
    asking: Mutex<()>,
    answering: Mutex<()>,
}

/// An approval that a call has used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its name.
    pub id: Arc<str>,
    /// Where only a further round of its call was: which.
    round: Option<Digest>,
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// There is no such question, or none that this person may know of.
    #[error("there is no such question for approval")]
    Unknown,
    /// It is over, or answered.
    #[error("the question is not open any more: it is {}", .0.name())]
    Closed(ApprovalState),
    /// Nobody approves what it asks for itself.
    #[error("who asks cannot answer")]
    Asker,
    /// The role is missing, it is the credential of a program, or it does not reach the server.
    #[error("you may not answer this")]
    Role,
    /// Each person counts once.
    #[error("you have answered that already")]
    Before,
    /// The answer cannot be recorded and does not count therefore.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Desk {
    /// With nothing but what the store has; questions are posted to `hooks` as well.
    #[must_use]
    pub fn new(parts: Parts, counts: Counts, hooks: Hooks) -> Self {
        Self { parts, hooks, counts, asking: Mutex::default(), answering: Mutex::default() }
    }

    /// From here on it is known who holds which API key, which chat systems answer for.
    pub fn know(&self, person: Box<Person>) {
        self.hooks.know(person);
    }

    /// Counts what the person behind the client said, then lets an approved call pass, once; its approval. For any other, people are asked unless they were.
    ///
    /// # Errors
    /// `approval.required`, `approval.denied`, `limit.approvals`; `approval.unavailable` and `ledger.unavailable`, and then
    /// nothing is asked or used up.
    pub async fn pass(self: &Arc<Self>, call: &Waiting<'_>, limits: &Limits) -> Result<Used, Refusal> {
        self.confirm(call).await?;
        let now = self.parts.clock.now();
        if let Some(round) = call.binding.round {
            let taken = self.parts.store.take_round(call.binding.first, round, now).await;
            if let Some(id) = taken.map_err(|error| unavailable(&error))? {
                return Ok(Used { id: Arc::from(id), round: Some(round) });
            }
        }
        if let Some(used) = self.redeem(call).await? {
            return Ok(used);
        }
        if let Some(refusal) = self.told(call).await? {
            return Err(refusal);
        }
        let _asking = self.asking.lock().await;
        // While this one waited its turn, the same call may have been asked about, and answered.
        if let Some(refusal) = self.told(call).await? {
            return Err(refusal);
        }
        self.note_the_end(call).await?;
        match self.redeem(call).await? {
            Some(used) => Ok(used),
            None => Err(self.ask(call, limits).await?),
        }
    }

    /// The answer to exactly this call that waited for people, once they let it through; nothing where none waits.
    ///
    /// # Errors
    /// `approval.required`, `approval.denied`, `approval.unavailable`, `ledger.unavailable`.
    pub async fn held(self: &Arc<Self>, call: &Waiting<'_>) -> Result<Option<(Used, String)>, Refusal> {
        let Some(used) = self.redeem(call).await? else {
            return self.told(call).await?.map_or(Ok(None), Err);
        };
        match self.parts.store.held(&used.id).await {
            Ok(Some(answer)) => Ok(Some((used, answer))),
            Ok(None) => Err(Refusal::new(Code::ApprovalUnavailable, "no key opens the answer that waited")),
            Err(error) => {
                self.unused(&used).await;
                Err(unavailable(&error))
            }
        }
    }

    /// Asks people whether an answer may pass, which waits meanwhile; what the caller is told.
    ///
    /// # Errors
    /// `limit.approvals`, `approval.unavailable`, `ledger.unavailable`: then the answer is lost.
    pub async fn hold(&self, call: &Waiting<'_>, limits: &Limits) -> Result<Refusal, Refusal> {
        let _asking = self.asking.lock().await;
        if let Some(refusal) = self.told(call).await? {
            return Ok(refusal);
        }
        self.note_the_end(call).await?;
        self.ask(call, limits).await
    }

    /// Counts what the person behind the client said to the question about exactly this call. What answers another
    /// question, or one that is not open any more, is nothing: the call is judged as if nobody had said it.
    async fn confirm(self: &Arc<Self>, call: &Waiting<'_>) -> Result<(), Refusal> {
        let Some(Confirmation { id, yes }) = &call.confirmation else { return Ok(()) };
        let row = self.parts.store.asked(call.binding.call).await.map_err(|error| unavailable(&error))?;
        if row.is_none_or(|row| row.asked.id != *id) {
            return Ok(());
        }
        match self.said(id, call.caller, (*yes, ""), (CLIENT, may_confirm)).await {
            Err(AnswerError::Ledger(error)) => Err(unrecorded(&error)),
            Err(AnswerError::Store(error)) => Err(unavailable(&error)),
            Ok(_)
            | Err(
                AnswerError::Asker
                | AnswerError::Before
                | AnswerError::Closed(_)
                | AnswerError::Role
                | AnswerError::Unknown,
            ) => Ok(()),
        }
    }

    /// What is said where there is a question that is not over.
    async fn told(&self, call: &Waiting<'_>) -> Result<Option<Refusal>, Refusal> {
        let row = self.parts.store.asked(call.binding.call).await.map_err(|error| unavailable(&error))?;
        let now = self.parts.clock.now();
        Ok(row.and_then(|row| match row.state(now) {
            ApprovalState::Open => Some(waiting(&row, call.asks)),
            ApprovalState::Denied => Some(denied(&row)),
            ApprovalState::Approved | ApprovalState::Redeemed | ApprovalState::Expired => None,
        }))
    }

    /// Notes that a question for the call is over, where one is.
    async fn note_the_end(&self, call: &Waiting<'_>) -> Result<(), Refusal> {
        let row = self.parts.store.asked(call.binding.call).await.map_err(|error| unavailable(&error))?;
        let now = self.parts.clock.now();
        let Some(row) = row.filter(|row| row.state(now) == ApprovalState::Expired) else { return Ok(()) };
        let data = [("approval", json!(row.asked.id)), ("was", json!(row.written.name()))];
        self.record_call(Event::ApprovalExpired, call, BTreeMap::from(data)).await?;
        self.parts.store.expire(&row.asked.id, now).await.map_err(|error| unavailable(&error))?;
        Ok(())
    }

    /// Uses up an approval. It goes on when the client leaves meanwhile: what is used up is recorded.
    async fn redeem(self: &Arc<Self>, call: &Waiting<'_>) -> Result<Option<Used>, Refusal> {
        let asked = self.parts.store.asked(call.binding.call).await.map_err(|error| unavailable(&error))?;
        let Some(asked) = asked.filter(|row| row.state(self.parts.clock.now()) == ApprovalState::Approved)
        else {
            return Ok(None);
        };
        let (desk, digest) = (Arc::clone(self), call.binding.call);
        let data = [
            ("approval", json!(asked.asked.id)),
            ("by", json!(asked.answers.iter().map(|answer| &answer.by).collect::<Vec<_>>())),
        ];
        let entry = self.entry(Event::ApprovalRedeemed, call, BTreeMap::from(data));
        let using = tokio::spawn(async move {
            let store = &desk.parts.store;
            let taken = store.redeem(digest, desk.parts.clock.now()).await;
            let Some(id) = taken.map_err(|error| unavailable(&error))? else { return Ok(None) };
            let used = Used { id: Arc::from(id), round: None };
            if let Err(error) = desk.parts.ledger.append(entry).await {
                desk.unused(&used).await;
                return Err(unrecorded(&error));
            }
            desk.counts.happened(Event::ApprovalRedeemed);
            Ok(Some(used))
        });
        using.await.unwrap_or_else(|_panic| Err(Refusal::new(Code::Internal, "a task panicked")))
    }

    /// Asks people, and tells the caller that they are asked.
    async fn ask(&self, call: &Waiting<'_>, limits: &Limits) -> Result<Refusal, Refusal> {
        let now = self.parts.clock.now();
        let open = self.parts.store.open_questions(&call.caller.id, now).await;
        let (all, own) = open.map_err(|error| unavailable(&error))?;
        if own >= limits.caller_approvals_max {
            return Err(too_many("caller_approvals_max"));
        }
        if all >= limits.approvals_max {
            return Err(too_many("approvals_max"));
        }
        let new = NewApproval {
            id: self.fresh_id(),
            call: call.binding.call,
            first: call.binding.first,
            caller: call.caller.id.to_string(),
            askers: call.askers(),
            question: call.text(),
            demand: call.demand.clone(),
            created: now,
            expires: later(now, call.demand.expires_s),
            answer: call.answer.as_ref().map(|held| held.message.clone()),
        };
        let mut data = BTreeMap::from([
            ("approval", json!(new.id)),
            ("by_caller", json!(new.demand.by_caller)),
            ("call", json!(new.call)),
            ("expires", json!(new.expires.to_string())),
            ("people", json!(new.demand.people)),
            ("policy", json!(call.policy)),
            ("roles", json!(new.demand.roles)),
        ]);
        if let Some(held) = &call.answer {
            data.insert("answer", json!(held.shown.digest));
        }
        self.record_call(Event::ApprovalAsked, call, data).await?;
        let id = new.id.clone();
        let row = self.parts.store.ask(new).await.map_err(|error| unavailable(&error))?;
        // Where another gateway asked first, it posts.
        if row.asked.id == id {
            self.hooks.post(&row, &self.counts, |by| may_decide(&row, by).is_ok());
        }
        Ok(waiting(&row, call.asks))
    }

    /// The server of an approved call wants it once more, with `state`.
    ///
    /// # Errors
    /// `approval.unavailable`.
    pub async fn again(&self, used: &Used, state: Option<&str>) -> Result<(), Refusal> {
        let until = later(self.parts.clock.now(), ROUND_S);
        self.parts.store.again(&used.id, round(state), until).await.map_err(|error| unavailable(&error))
    }

    /// An approved call, or a further round of it, was not made after all: its approval counts for it as before. Where
    /// that fails it is lost: a call too few, never one too many.
    pub async fn unused(&self, Used { id, round }: &Used) {
        let store = &self.parts.store;
        let restored = match round {
            None => store.restore(id).await,
            Some(round) => store.again(id, *round, later(self.parts.clock.now(), ROUND_S)).await,
        };
        if let Err(error) = restored {
            tracing::error!(approval = %id, %error, "an approval was used up and nothing was done with it");
        }
    }

    /// Every question that is kept, oldest first; to a person only those that it may answer or has asked.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn list(&self, by: Option<&Caller>) -> Result<Vec<Arc<ApprovalRow>>, StoreError> {
        let mut rows = self.parts.store.approvals().await?;
        rows.retain(|row| by.is_none_or(|by| may_know(row, by)));
        Ok(rows)
    }

    /// One question; to a person only one that it may answer or has asked.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn show(&self, id: &str, by: Option<&Caller>) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        let row = self.parts.store.approval(id).await?;
        Ok(row.filter(|row| by.is_none_or(|by| may_know(row, by))))
    }

    /// Counts the answer of a person: at the latest one that said yes can say no until the call is made. It goes on when
    /// whoever answers leaves meanwhile: what is recorded counts.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn answer(
        self: &Arc<Self>,
        id: &str,
        by: &Arc<Caller>,
        (yes, reason): (bool, &str),
        via: &str,
    ) -> Result<Arc<ApprovalRow>, AnswerError> {
        self.said(id, by, (yes, reason), (via, may_decide)).await
    }

    async fn said(
        self: &Arc<Self>,
        id: &str,
        by: &Arc<Caller>,
        (yes, reason): (bool, &str),
        (via, may): (&str, May),
    ) -> Result<Arc<ApprovalRow>, AnswerError> {
        let (desk, by) = (Arc::clone(self), Arc::clone(by));
        let (id, reason, via) = (id.to_owned(), reason.to_owned(), via.to_owned());
        let counting = tokio::spawn(async move { desk.count(&id, &by, (yes, &reason), (&via, may)).await });
        counting.await.unwrap_or_else(|_panic| Err(StoreError::Closed.into()))
    }

    async fn count(
        &self,
        id: &str,
        by: &Caller,
        (yes, reason): (bool, &str),
        (via, may): (&str, May),
    ) -> Result<Arc<ApprovalRow>, AnswerError> {
        let _answering = self.answering.lock().await;
        let row = self.show(id, Some(by)).await?.ok_or(AnswerError::Unknown)?;
        let now = self.parts.clock.now();
        let state = row.state(now);
        if state != ApprovalState::Open && (yes || state != ApprovalState::Approved) {
            return Err(AnswerError::Closed(state));
        }
        may(&row, by)?;
        if row.answers.iter().any(|answer| answer.by == *by.id && answer.yes == yes) {
            return Err(AnswerError::Before);
        }
        self.record_answer(&row, by, (yes, reason), via).await?;
        let answer = ApprovalAnswer {
            by: by.id.to_string(),
            yes,
            via: via.to_owned(),
            reason: reason.to_owned(),
            at: now,
        };
        match self.parts.store.answer(id, answer).await? {
            Answered::Counts(row) => Ok(row),
            Answered::Before => Err(AnswerError::Before),
            Answered::Closed => {
                let row = self.parts.store.approval(id).await?;
                Err(row.map_or(AnswerError::Unknown, |row| AnswerError::Closed(row.state(now))))
            }
        }
    }

    async fn record_answer(
        &self,
        row: &ApprovalRow,
        by: &Caller,
        (yes, reason): (bool, &str),
        via: &str,
    ) -> Result<(), LedgerError> {
        let event = if yes { Event::ApprovalGranted } else { Event::ApprovalDenied };
        let target = target(row);
        let mut entry = Entry::new(event, self.parts.clock.now(), &self.parts.instance);
        entry.actor = Some(Actor::of(by));
        entry.target = target.as_ref();
        entry.data = BTreeMap::from([
            ("approval", json!(row.asked.id)),
            ("call", json!(row.asked.call)),
            ("caller", json!(row.asked.caller)),
            ("reason", json!(reason)),
            ("via", json!(via)),
        ]);
        self.parts.ledger.append(entry.to_jcs()).await?;
        self.counts.happened(event);
        Ok(())
    }

    async fn record_call(
        &self,
        event: Event,
        call: &Waiting<'_>,
        data: BTreeMap<&str, Value>,
    ) -> Result<(), Refusal> {
        let entry = self.entry(event, call, data);
        self.parts.ledger.append(entry).await.map_err(|error| unrecorded(&error))?;
        self.counts.happened(event);
        Ok(())
    }

    fn entry(&self, event: Event, call: &Waiting<'_>, mut data: BTreeMap<&str, Value>) -> Vec<u8> {
        let mut entry = Entry::new(event, self.parts.clock.now(), &self.parts.instance);
        entry.actor = Some(Actor::of(call.caller));
        entry.target = Some(call.target);
        entry.session = call.session;
        entry.trace = call.trace;
        if event == Event::ApprovalAsked {
            entry.findings = call.findings;
        }
        if !call.caller.actors.is_empty() {
            data.insert("actors", json!(*call.caller.actors));
        }
        entry.data = data;
        entry.to_jcs()
    }

    fn fresh_id(&self) -> String {
        let mut chance = [0; ID_CHARS];
        self.parts.entropy.fill(&mut chance);
        let letter =
            |byte: &u8| ALPHABET.get(usize::from(byte & 31)).map_or('a', |letter| char::from(*letter));
        PREFIX.chars().chain(chance.iter().map(letter)).collect()
    }
}

/// What a question is about.
fn target(row: &ApprovalRow) -> Option<Target> {
    let question: Value = serde_json::from_str(&row.asked.question).ok()?;
    let text = |name: &str| question.get(name).and_then(Value::as_str);
    let item = TargetKind::named(text("kind")?).zip(text("name")).map(|(kind, name)| (kind, name.into()));
    let digest = text("definition").and_then(|digest| digest.parse().ok());
    Some(Target { server: text("server")?.into(), item, digest })
}

/// People answer; programs do not, whomever they act for.
fn may_answer(row: &ApprovalRow, by: &Caller) -> bool {
    let reaches = target(row).is_some_and(|target| by.servers.reaches(&target.server));
    by.kind == CallerKind::User && by.actors.is_empty() && reaches && row.asked.demand.may_answer(&by.roles)
}

/// Whoever may answer, but who asks.
fn may_decide(row: &ApprovalRow, by: &Caller) -> Result<(), AnswerError> {
    match row.asked.askers.iter().any(|asker| **asker == *by.id) {
        true => Err(AnswerError::Asker),
        false => may_answer(row, by).then_some(()).ok_or(AnswerError::Role),
    }
}

/// Who asks, where policy lets the person behind it confirm the call, and never where several people are asked.
fn may_confirm(row: &ApprovalRow, by: &Caller) -> Result<(), AnswerError> {
    let demand = &row.asked.demand;
    let may = demand.by_caller && demand.people == 1 && *row.asked.caller == *by.id;
    may.then_some(()).ok_or(AnswerError::Role)
}

fn may_know(row: &ApprovalRow, by: &Caller) -> bool {
    may_answer(row, by) || row.asked.askers.iter().any(|asker| **asker == *by.id)
}
