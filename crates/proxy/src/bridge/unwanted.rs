//! What servers say that goes no further: it is recorded with the call in whose course it was said.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use portcullis_core::Code;
use portcullis_mcp::{jsonrpc::Message, method};

/// Messages of servers that go no further, until they are recorded: for each call one of a method and a reason, so that
/// a flood of them is none of the ledger.
#[derive(Debug, Default)]
pub struct Unwanted(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Methods beyond the table are one.
    known: HashSet<(&'static str, Code)>,
    due: Vec<(String, Code)>,
}

impl Unwanted {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that `message` goes no further.
    pub(super) fn note(&self, message: &Message, code: Code) {
        let name = message.method_name().unwrap_or_default();
        let row = method::find(&name);
        let code = if row.is_none() { Code::MethodUnknown } else { code };
        let mut noted = self.noted();
        if noted.known.insert((row.map_or("", |row| row.name), code)) {
            noted.due.push((name.into_owned(), code));
        }
    }

    /// What is to be recorded now: methods, and why.
    pub(crate) fn take(&self) -> Vec<(String, Code)> {
        std::mem::take(&mut self.noted().due)
    }
}
