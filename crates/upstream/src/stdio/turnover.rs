//! A child keeps what it was started with. Where a secret that it was given has another value by now, new calls go to a new
//! child, and the old one ends once its calls have.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use portcullis_core::Limits;
use tokio::time::Instant;

use super::{Behind, Key, Owned, Process, StdioPeer, program};

/// A process that takes no new calls.
#[derive(Debug)]
pub(super) struct Retired {
    process: Arc<Process>,
    /// When it ends, whatever still waits for it: no call lasts longer.
    ends: Instant,
}

impl Process {
    /// Whether it runs and takes new calls.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.alive() && !self.retired.load(Ordering::Acquire)
    }

    /// Takes no new calls from now on; those that run may finish.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether no call waits for an answer of it.
    fn finished(&self) -> bool {
        self.pending().finished()
    }
}

impl StdioPeer {
    /// Retires processes that were given what has another value by now, and ends those that were and have finished. While
    /// a value cannot be had, a process goes on with what it was given. How many were retired.
    pub async fn turn_over(&self, limits: &Limits) -> usize {
        let mut count = 0;
        if let Behind::Program(program, _) = &self.behind
            && program.changes()
        {
            let running: Vec<(Key, Arc<Process>)> = {
                let processes = self.processes.lock().await;
                let usable = processes.iter().filter(|(_, process)| process.usable());
                usable.map(|(key, process)| (key.clone(), Arc::clone(process))).collect()
            };
            for (key, process) in running {
                let caller = match &key.owner {
                    Owned::Caller(caller, _) => Some(caller.as_str()),
                    Owned::Everybody | Owned::Gateway => None,
                };
                let Ok(command) = program.command(caller).await else { continue };
                if process.given != Some(program::given(&command)) {
                    tracing::info!(server = %self.name, "a secret that a child was given has another value: new calls go to a new child");
                    self.retire(&key, process, limits).await;
                    count += 1;
                }
            }
        }
        self.end_retired().await;
        count
    }

    async fn retire(&self, key: &Key, process: Arc<Process>, limits: &Limits) {
        let mut processes = self.processes.lock().await;
        process.retire();
        if processes.get(key).is_some_and(|held| Arc::ptr_eq(held, &process)) {
            processes.remove(key);
        }
        drop(processes);
        let ends = Instant::now() + Duration::from_millis(limits.total_timeout_ms);
        let most = usize::try_from(limits.children_max).unwrap_or(usize::MAX);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever is rotated how often: no more of them than there may be of others.
        if retired.len() >= most
            && let Some(oldest) = retired.first_mut()
        {
            oldest.ends = Instant::now();
        }
        retired.push(Retired { process, ends });
    }

    async fn end_retired(&self) {
        let now = Instant::now();
        let over = |one: &Retired| one.process.finished() || now >= one.ends;
        let ended: Vec<Retired> = {
            let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            let (ended, rest) = std::mem::take(&mut *retired).into_iter().partition(over);
            *retired = rest;
            ended
        };
        for Retired { process, .. } in ended {
            // Sessions still hold it; they open another when used.
            process.over();
            process.shutdown().await;
        }
    }

    /// Those that are still there.
    pub(super) fn take_retired(&self) -> impl Iterator<Item = Arc<Process>> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *retired).into_iter().map(|one| one.process)
    }
}
