//! What becomes of a call, and whether it was an attempt. What the rules of Landlock and seccomp refuse is refused by them,
//! or here by arguments that are values; a look into memory only ever finds out what to say.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use portcullis_sys::notify::{Answer, Call};

use super::{
    calls::{self, Deed, Entry, Flags, Whom},
    network,
    place::{Place, Task},
    rules::Rules,
    tally::Attempt,
};
use crate::{incident::IncidentKind, sandbox::Policy};

/// What stands for a path in memory that is closed to us.
const UNREAD: &str = "a path that cannot be read";

/// What is decided about a call.
#[derive(Debug)]
pub(super) struct Sentence {
    pub(super) answer: Answer,
    pub(super) attempt: Option<Attempt>,
    /// The process that made it is ended.
    pub(super) ends: bool,
}

/// What a watched child may.
pub(super) struct Judge {
    pub(super) policy: Policy,
    pub(super) rules: Rules,
}

impl Sentence {
    pub(super) const fn proceed(attempt: Option<Attempt>) -> Self {
        Self { answer: Answer::Proceed, attempt, ends: false }
    }

    pub(super) const fn refuse(number: i32, attempt: Attempt) -> Self {
        Self { answer: Answer::Fail(number), attempt: Some(attempt), ends: false }
    }
}

impl Judge {
    pub(super) fn judge(&self, call: &Call, task: Task) -> Sentence {
        let (name, deed) = calls::deed(call.number);
        let attempt = |kind, target: String| Attempt { kind, target, detail: name.to_owned() };
        match deed {
            Deed::Deadly => Sentence {
                answer: Answer::Fail(libc::EPERM),
                attempt: Some(attempt(IncidentKind::Syscall, name.to_owned())),
                ends: true,
            },
            Deed::Refused(number) => {
                Sentence::refuse(number, attempt(IncidentKind::Syscall, name.to_owned()))
            }
            Deed::Socket => Sentence {
                answer: Answer::Fail(libc::EACCES),
                attempt: Some(attempt(IncidentKind::Socket, network::socket(&call.arguments))),
                ends: self.policy.strict,
            },
            Deed::Address(kind) => network::judge(&self.policy, call, task, kind, name),
            Deed::FastOpen => {
                Sentence::refuse(libc::EACCES, attempt(IncidentKind::Connect, "TCP fast open".to_owned()))
            }
            Deed::Signal(whom) => match outside(call, task, whom) {
                Some(target) => Sentence::refuse(libc::EPERM, attempt(IncidentKind::Signal, target)),
                None => Sentence::proceed(None),
            },
            Deed::Open { entry, flags } => Sentence::proceed(self.open(call, task, entry, flags, name)),
            Deed::Execute { entry, flags } => {
                let found = self.executed(call, task, entry, flags);
                Sentence::proceed(found.map(|path| attempt(IncidentKind::Execute, text(&path))))
            }
            Deed::Truncate(entry) => {
                let found =
                    existing(task.place_of(call, entry, true)).filter(|path| !self.rules.may_write(path));
                Sentence::proceed(found.map(|path| attempt(IncidentKind::Write, text(&path))))
            }
            Deed::Make(entry) => {
                let made = self.made(task.place_of(call, entry, false));
                Sentence::proceed(made.map(|path| attempt(IncidentKind::Write, text(&path))))
            }
            Deed::Remove(entry) => {
                let removed = self.removed(task.place_of(call, entry, false));
                Sentence::proceed(removed.map(|path| attempt(IncidentKind::Write, text(&path))))
            }
            Deed::Move { from, to } => {
                let from = task.place_of(call, from, false);
                if matches!(from, Place::Missing { .. } | Place::Nowhere) {
                    return Sentence::proceed(None);
                }
                let to = task.place_of(call, to, false);
                let moved = self.removed(from).or_else(|| match to {
                    Place::Found(_) | Place::Unread => self.removed(to),
                    Place::Missing { .. } | Place::Nowhere | Place::Foreign(_) => self.made(to),
                });
                Sentence::proceed(moved.map(|path| attempt(IncidentKind::Write, text(&path))))
            }
        }
    }

    fn open(&self, call: &Call, task: Task, entry: Entry, flags: Flags, name: &str) -> Option<Attempt> {
        let flags = match flags {
            Flags::Value(argument) => calls::argument(call, argument),
            Flags::Fixed(flags) => u64::from(flags.unsigned_abs()),
            Flags::Memory(_) if task.is_closed() => {
                let (kind, target) = (IncidentKind::Read, UNREAD.to_owned());
                return Some(Attempt { kind, target, detail: name.to_owned() });
            }
            Flags::Memory(argument) => {
                let mut first = [0; 8];
                task.memory(calls::argument(call, argument), &mut first)?;
                u64::from_ne_bytes(first)
            }
        };
        let has = |flag: i32| flags & u64::from(flag.unsigned_abs()) == u64::from(flag.unsigned_abs());
        if has(libc::O_PATH) {
            return None;
        }
        let new = has(libc::O_CREAT) && has(libc::O_EXCL);
        let writes = flags & 3 != 0 || has(libc::O_TRUNC) || has(libc::O_TMPFILE);
        let reads = flags & 3 != 1;
        let denied = |path: PathBuf| {
            let write = writes && !self.rules.may_write(&path);
            let read = reads && !has(libc::O_TMPFILE) && !self.rules.may_read(&path);
            (write || read).then_some((if write { IncidentKind::Write } else { IncidentKind::Read }, path))
        };
        let (kind, path) = match task.place_of(call, entry, !new && !has(libc::O_NOFOLLOW)) {
            Place::Found(_) if new => None,
            Place::Found(path) => denied(path),
            missing @ Place::Missing { .. } if has(libc::O_CREAT) => {
                self.made(missing).map(|path| (IncidentKind::Write, path))
            }
            Place::Missing { .. } | Place::Nowhere => None,
            Place::Foreign(path) => {
                Some((if writes { IncidentKind::Write } else { IncidentKind::Read }, path))
            }
            Place::Unread => {
                Some((if writes { IncidentKind::Write } else { IncidentKind::Read }, PathBuf::from(UNREAD)))
            }
        }?;
        Some(Attempt { kind, target: text(&path), detail: name.to_owned() })
    }

    fn executed(&self, call: &Call, task: Task, entry: Entry, flags: Option<usize>) -> Option<PathBuf> {
        let flags = flags.map_or(0, |argument| calls::argument(call, argument));
        let has = |flag: i32| flags & u64::from(flag.unsigned_abs()) != 0;
        let place = task.place_of(call, entry, !has(libc::AT_SYMLINK_NOFOLLOW));
        let path = match place {
            Place::Nowhere if has(libc::AT_EMPTY_PATH) => task.folder(entry.descriptor(call)),
            other @ (Place::Found(_)
            | Place::Foreign(_)
            | Place::Missing { .. }
            | Place::Nowhere
            | Place::Unread) => existing(other),
        };
        path.filter(|path| !self.rules.may_execute(path))
    }

    fn made(&self, place: Place) -> Option<PathBuf> {
        match place {
            Place::Missing { folder, name } if !self.rules.may_change(&folder) => Some(folder.join(name)),
            Place::Foreign(path) => Some(path),
            Place::Unread => Some(PathBuf::from(UNREAD)),
            // What is there cannot be made.
            Place::Found(_) | Place::Missing { .. } | Place::Nowhere => None,
        }
    }

    fn removed(&self, place: Place) -> Option<PathBuf> {
        match place {
            Place::Found(path) => {
                let folder = path.parent().unwrap_or_else(|| Path::new("/"));
                (!self.rules.may_change(folder)).then_some(path)
            }
            Place::Foreign(path) => Some(path),
            Place::Unread => Some(PathBuf::from(UNREAD)),
            Place::Missing { .. } | Place::Nowhere => None,
        }
    }
}

impl Task {
    /// Where a call's path leads. A path that is not there is the kernel's to refuse, and nobody's attempt; one that only
    /// we cannot see may be anything.
    fn place_of(self, call: &Call, entry: Entry, follow: bool) -> Place {
        let path = self.text(calls::argument(call, entry.path));
        let unknown = || if self.is_closed() { Place::Unread } else { Place::Nowhere };
        path.map_or_else(unknown, |path| self.place(entry.descriptor(call), OsStr::new(&path), follow))
    }
}

fn existing(place: Place) -> Option<PathBuf> {
    match place {
        Place::Found(path) | Place::Foreign(path) => Some(path),
        Place::Unread => Some(PathBuf::from(UNREAD)),
        Place::Missing { .. } | Place::Nowhere => None,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The process outside that a signal is for.
fn outside(call: &Call, task: Task, whom: Whom) -> Option<String> {
    let number = |argument| calls::number(calls::argument(call, argument));
    let pid = match whom {
        Whom::Process(argument) => number(argument),
        Whom::Descriptor(argument) => {
            let fdinfo = format!("/proc/{}/fdinfo/{}", task.thread, number(argument));
            let text = std::fs::read_to_string(fdinfo).ok()?;
            text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())?
        }
    };
    match pid {
        0 => None,
        -1 => Some("every process".to_owned()),
        pid if pid < 0 => {
            (pid.unsigned_abs() != task.leader).then(|| format!("process group {}", pid.unsigned_abs()))
        }
        pid => {
            let group = super::group_of(pid.unsigned_abs())?;
            (group != task.leader).then(|| format!("process {pid}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sandbox::{Bounds, Sockets};

    #[test]
    fn an_attempt_whose_path_cannot_be_read_is_told_without_it_and_a_path_that_is_not_there_is_none() {
        let policy = Policy {
            read: BTreeSet::from([PathBuf::from("/")]),
            write: BTreeSet::new(),
            network: Sockets::None,
            unix_sockets: false,
            strict: false,
            bounds: Bounds::default(),
            required: false,
            watcher: None,
        };
        let ours = std::process::id();
        let rules = Rules::of(&policy, ours);
        let judge = Judge { policy, rules };
        // No thread has this number, so that its memory is as closed as that of one which we may not read.
        let nobody = u32::MAX >> 1;
        let at = libc::AT_FDCWD as u64;
        let write = libc::O_WRONLY as u64;
        for (number, arguments, kind) in [
            (libc::SYS_openat, [at, 1, 0, 0, 0, 0], IncidentKind::Read),
            (libc::SYS_openat, [at, 1, write, 0, 0, 0], IncidentKind::Write),
            (libc::SYS_openat2, [at, 1, 1, 24, 0, 0], IncidentKind::Read),
            (libc::SYS_mkdirat, [at, 1, 0, 0, 0, 0], IncidentKind::Write),
            (libc::SYS_unlinkat, [at, 1, 0, 0, 0, 0], IncidentKind::Write),
            (libc::SYS_renameat2, [at, 1, at, 1, 0, 0], IncidentKind::Write),
            (libc::SYS_execve, [1, 1, 1, 0, 0, 0], IncidentKind::Execute),
        ] {
            for (thread, told) in [(nobody, Some((kind, UNREAD.to_owned()))), (ours, None)] {
                let call = Call { id: 1, thread, number, arguments };
                let sentence = judge.judge(&call, Task { thread, leader: ours });
                assert!(matches!(sentence.answer, Answer::Proceed) && !sentence.ends, "{sentence:?}");
                let attempt = sentence.attempt.map(|attempt| (attempt.kind, attempt.target));
                assert_eq!(attempt, told, "call {number} of {thread}");
            }
        }
    }
}
