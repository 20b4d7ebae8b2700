//! Long-running tasks of both revisions. A client never sees a server's own id of a task: it gets one that is sealed
//! for it and the server, and that carries which tool was called and what the permit demanded. So the answer that
//! comes late is judged like one that came at once, after a restart as well.

mod rewrite;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_core::{Clock, Code, Entropy, Limits, Obligations, Refusal, Treatment};
use serde_json::{Value, json};

pub(crate) use self::rewrite::{Context, inward, named, outward, reparsed};
use portcullis_seal::Sealer;

/// What our ids of tasks begin with.
const PREFIX: &str = "pct_";
/// Purpose under which ids are sealed.
const PURPOSE: &str = "task";
/// Bytes of a server's own id of a task, and of the name of its tool: both travel in a header.
const NAME_BYTES_MAX: usize = 1_024;

/// A task of one caller on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The id that the client knows.
    pub sealed: Arc<str>,
    /// The server's own id.
    pub own: Arc<str>,
    /// The tool whose call became the task.
    pub tool: Arc<str>,
    /// What the permit of that call demands of the answer.
    pub obligations: Obligations,
    /// When its id stops opening, in seconds.
    pub ends_s: u64,
}

/// Seals and opens ids of tasks, and remembers the newest, for lists and for notifications, which name a task by the
/// server's own id.
#[derive(Debug)]
pub struct Tasks {
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    /// By caller; each with its server, oldest first.
    callers: HashMap<Arc<str>, VecDeque<(Arc<str>, Task)>>,
}

impl Held {
    fn forget_oldest(&mut self, caller: &str) {
        let Some(own) = self.callers.get_mut(caller) else { return };
        self.count -= usize::from(own.pop_front().is_some());
        if own.is_empty() {
            self.callers.remove(caller);
        }
    }

    fn forget_ended(&mut self, now_s: u64) {
        self.callers.retain(|_, own| {
            own.retain(|(_, task)| task.ends_s > now_s);
            !own.is_empty()
        });
        self.count = self.callers.values().map(VecDeque::len).sum();
    }
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new(sealer: Sealer, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { sealer, clock, entropy, held: Mutex::default() }
    }

    /// The caller's task behind an id that it sent. Another caller's, another server's, a made-up and an expired one
    /// are all the same: there is none.
    #[must_use]
    pub fn open(&self, caller: &str, server: &str, sealed: &str, limits: &Limits) -> Option<Task> {
        let text = sealed.strip_prefix(PREFIX)?;
        let plain = self.sealer.open(PURPOSE, &[caller, server], text)?;
        let value: Value = serde_json::from_slice(&plain).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(Arc::from);
        let task = Task {
            sealed: Arc::from(sealed),
            own: text("id")?,
            tool: text("tool")?,
            obligations: Obligations { answers: answers(value.get("answers")?)?, ..Obligations::default() },
            ends_s: value.get("ends")?.as_u64()?,
        };
        if task.ends_s <= self.clock.now().seconds() {
            return None;
        }
        self.remember(caller, server, &task, limits);
        Some(task)
    }

    /// The caller's task with the server's own id, if it is remembered.
    #[must_use]
    pub fn known(&self, caller: &str, server: &str, own: &str) -> Option<Task> {
        let now_s = self.clock.now().seconds();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = held.callers.get(caller)?;
        let found = tasks.iter().rev().find(|(on, task)| &**on == server && &*task.own == own)?;
        Some(found.1.clone()).filter(|task| task.ends_s > now_s)
    }

    /// A task that a call of a tool has just become.
    ///
    /// # Errors
    /// `answer.invalid` when its id cannot travel.
    pub fn begin(
        &self,
        (caller, server): (&str, &str),
        (tool, own): (&str, &str),
        obligations: &Obligations,
        limits: &Limits,
    ) -> Result<Task, Refusal> {
        if own.is_empty() || own.len() > NAME_BYTES_MAX || tool.len() > NAME_BYTES_MAX {
            return Err(Refusal::new(Code::AnswerInvalid, "the id of a task is empty or too long"));
        }
        if let Some(known) = self.known(caller, server, own).filter(|known| &*known.tool == tool) {
            return Ok(known);
        }
        let ends_s = self.clock.now().plus_ms(limits.task_total_ms).seconds();
        let answers: BTreeMap<_, _> =
            obligations.answers.iter().map(|(detector, treatment)| (detector, treatment.name())).collect();
        let plain = json!({ "id": own, "tool": tool, "ends": ends_s, "answers": answers }).to_string();
        let sealed = self.sealer.seal(PURPOSE, &[caller, server], plain.as_bytes(), &*self.entropy);
        let sealed = sealed.ok_or_else(|| Refusal::new(Code::Internal, "a task id cannot be sealed"))?;
        let task = Task {
            sealed: Arc::from(format!("{PREFIX}{sealed}")),
            own: Arc::from(own),
            tool: Arc::from(tool),
            obligations: obligations.clone(),
            ends_s,
        };
        self.remember(caller, server, &task, limits);
        Ok(task)
    }

    /// Beyond the limits a task is only not listed and not notified of: its id opens all the same.
    fn remember(&self, caller: &str, server: &str, task: &Task, limits: &Limits) {
        let now_s = self.clock.now().seconds();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.callers.get(caller);
        let same = |(on, known): &(Arc<str>, Task)| &**on == server && known.own == task.own;
        if own.is_some_and(|own| own.iter().any(same)) {
            return;
        }
        if held.count as u64 >= limits.tasks_max {
            held.forget_ended(now_s);
        }
        let of_caller = held.callers.get(caller).map_or(0, VecDeque::len);
        if of_caller as u64 >= limits.caller_tasks_max || held.count as u64 >= limits.tasks_max {
            held.forget_oldest(caller);
        }
        if held.count as u64 >= limits.tasks_max {
            return;
        }
        held.count += 1;
        held.callers.entry(Arc::from(caller)).or_default().push_back((Arc::from(server), task.clone()));
    }
}

/// What several demand of an answer, the stricter wins.
pub(crate) fn strictest<'a>(all: impl Iterator<Item = &'a Obligations>) -> Obligations {
    let mut strictest = Obligations::default();
    all.for_each(|obligations| strictest.add(obligations));
    strictest
}

fn answers(value: &Value) -> Option<BTreeMap<String, Treatment>> {
    let treatment = |text: &Value| Treatment::named(text.as_str()?);
    let members = value.as_object()?.iter();
    members.map(|(detector, text)| Some((detector.clone(), treatment(text)?))).collect()
}

#[cfg(test)]
mod tests;
