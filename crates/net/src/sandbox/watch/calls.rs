//! The calls that a listener hears of, and what each of them does.

use portcullis_sys::notify::Call;

use super::super::syscalls::{self, Named, calls};
use crate::incident::IncidentKind;

/// What a call does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Nothing that an honest program does.
    Deadly,
    /// It is refused whatever its arguments, or only those calls are heard of that are.
    Refused(i32),
    /// Makes a socket that is refused.
    Socket,
    /// Gives a socket an address, its own or its peer's.
    Address(IncidentKind),
    /// Connects while it sends.
    FastOpen,
    Signal(Whom),
    Open {
        entry: Entry,
        flags: Flags,
    },
    Execute {
        entry: Entry,
        flags: Option<usize>,
    },
    Truncate(Entry),
    Make(Entry),
    Remove(Entry),
    /// Takes a name away in one place, or another name of the same thing, and puts it in another.
    Move {
        from: Entry,
        to: Entry,
    },
}

/// Whom a signal is for: an argument that is a number, or one that is a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    Process(usize),
    Descriptor(usize),
}

/// Which arguments name an entry of the file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    folder: Option<usize>,
    pub(super) path: usize,
}

/// Where the flags of an `open` are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flags {
    Value(usize),
    Fixed(i32),
    Memory(usize),
}

/// What Landlock governs of files.
pub(in crate::sandbox) const FILES: &[Named] = calls![
    #[cfg(target_arch = "x86_64")]
    SYS_creat,
    #[cfg(target_arch = "x86_64")]
    SYS_link,
    #[cfg(target_arch = "x86_64")]
    SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    SYS_open,
    #[cfg(target_arch = "x86_64")]
    SYS_rename,
    #[cfg(target_arch = "x86_64")]
    SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    SYS_unlink,
    SYS_execve,
    SYS_execveat,
    SYS_linkat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_openat,
    SYS_openat2,
    SYS_renameat2,
    SYS_renameat,
    SYS_symlinkat,
    SYS_truncate,
    SYS_unlinkat,
];

/// What Landlock's scope governs.
pub(in crate::sandbox) const SIGNALS: &[Named] = calls![
    SYS_kill,
    SYS_pidfd_send_signal,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_tgkill,
    SYS_tkill,
];

/// What gives a socket an address.
pub(in crate::sandbox) const SOCKETS: &[Named] = calls![SYS_bind, SYS_connect];

/// Calls of which only those are heard that are refused by a value of theirs.
const BY_VALUE: &[Named] = calls![SYS_clone, SYS_ioctl, SYS_prctl, SYS_prlimit64];

/// The argument at a place.
pub(super) fn argument(call: &Call, place: usize) -> u64 {
    call.arguments.get(place).copied().unwrap_or_default()
}

/// An argument as a C `int`.
pub(super) const fn number(argument: u64) -> i32 {
    (argument & 0xffff_ffff) as u32 as i32
}

impl Entry {
    const fn at(folder: usize, path: usize) -> Self {
        Self { folder: Some(folder), path }
    }

    #[cfg(target_arch = "x86_64")]
    const fn here(path: usize) -> Self {
        Self { folder: None, path }
    }

    /// The descriptor that the path is relative to.
    pub(super) fn descriptor(self, call: &Call) -> i32 {
        self.folder.map_or(libc::AT_FDCWD, |folder| number(argument(call, folder)))
    }
}

/// What a call does, and its name. What nobody asked to hear of is refused.
pub(super) fn deed(number: i64) -> (&'static str, Deed) {
    let number = syscalls::plain_number(number);
    let named = |calls: &[Named]| calls.iter().find(|(call, _)| *call == number).map(|(_, name)| *name);
    let short = |name: &'static str| name.strip_prefix("SYS_").unwrap_or(name);
    if let Some(name) = named(syscalls::DEADLY) {
        return (short(name), Deed::Deadly);
    }
    if let Some(name) = named(syscalls::ABSENT) {
        return (short(name), Deed::Refused(libc::ENOSYS));
    }
    let refused = [syscalls::REFUSED, syscalls::MODES, BY_VALUE];
    if let Some(name) = refused.into_iter().find_map(named) {
        return (short(name), Deed::Refused(libc::EPERM));
    }
    let name = [FILES, SIGNALS, SOCKETS].into_iter().find_map(named).map(short);
    match number {
        libc::SYS_socket => ("socket", Deed::Socket),
        libc::SYS_listen => ("listen", Deed::Address(IncidentKind::Listen)),
        libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg => ("send", Deed::FastOpen),
        _ => (name.unwrap_or("unknown"), watched(number)),
    }
}

fn watched(number: i64) -> Deed {
    match number {
        libc::SYS_bind => Deed::Address(IncidentKind::Listen),
        libc::SYS_connect => Deed::Address(IncidentKind::Connect),
        libc::SYS_kill
        | libc::SYS_tkill
        | libc::SYS_tgkill
        | libc::SYS_rt_sigqueueinfo
        | libc::SYS_rt_tgsigqueueinfo => Deed::Signal(Whom::Process(0)),
        libc::SYS_pidfd_send_signal => Deed::Signal(Whom::Descriptor(0)),
        libc::SYS_openat => Deed::Open { entry: Entry::at(0, 1), flags: Flags::Value(2) },
        libc::SYS_openat2 => Deed::Open { entry: Entry::at(0, 1), flags: Flags::Memory(2) },
        libc::SYS_execve => Deed::Execute { entry: Entry { folder: None, path: 0 }, flags: None },
        libc::SYS_execveat => Deed::Execute { entry: Entry::at(0, 1), flags: Some(4) },
        libc::SYS_truncate => Deed::Truncate(Entry { folder: None, path: 0 }),
        libc::SYS_mkdirat | libc::SYS_mknodat => Deed::Make(Entry::at(0, 1)),
        libc::SYS_symlinkat => Deed::Make(Entry::at(1, 2)),
        libc::SYS_unlinkat => Deed::Remove(Entry::at(0, 1)),
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
            Deed::Move { from: Entry::at(0, 1), to: Entry::at(2, 3) }
        }
        _ => older(number),
    }
}

/// What newer machines do without.
#[cfg(target_arch = "x86_64")]
const fn older(number: i64) -> Deed {
    let write_new = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    match number {
        libc::SYS_open => Deed::Open { entry: Entry::here(0), flags: Flags::Value(1) },
        libc::SYS_creat => Deed::Open { entry: Entry::here(0), flags: Flags::Fixed(write_new) },
        libc::SYS_mkdir | libc::SYS_mknod => Deed::Make(Entry::here(0)),
        libc::SYS_symlink => Deed::Make(Entry::here(1)),
        libc::SYS_unlink | libc::SYS_rmdir => Deed::Remove(Entry::here(0)),
        libc::SYS_rename | libc::SYS_link => Deed::Move { from: Entry::here(0), to: Entry::here(1) },
        _ => Deed::Refused(libc::EPERM),
    }
}

#[cfg(not(target_arch = "x86_64"))]
const fn older(_number: i64) -> Deed {
    Deed::Refused(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_is_heard_of_has_a_meaning_and_any_other_is_refused() {
        for (number, name) in FILES.iter().chain(SIGNALS).chain(SOCKETS) {
            let (short, deed) = deed(*number);
            assert_eq!(format!("SYS_{short}"), *name);
            assert!(!matches!(deed, Deed::Refused(_) | Deed::Deadly), "{name}: {deed:?}");
        }
        for (number, name) in syscalls::DEADLY {
            assert!(matches!(deed(*number).1, Deed::Deadly), "{name}");
        }
        for number in [0, 9_999, libc::SYS_read, libc::SYS_clone, libc::SYS_setsid] {
            assert!(matches!(deed(number).1, Deed::Refused(libc::EPERM)), "{number}");
        }
        #[cfg(target_arch = "x86_64")]
        assert!(matches!(deed(0x4000_0000 + 521).1, Deed::Deadly), "the second set of numbers");
    }
}
