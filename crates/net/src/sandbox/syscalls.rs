//! seccomp: system calls that no server needs and that lead out of a sandbox. Everything else stays allowed: a list of
//! what is allowed breaks with every new libc. Attempts that no honest program makes end it; what honest programs try
//! and can do without fails.

use std::collections::BTreeMap;

use portcullis_sys::notify::{self, Listener};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::{Policy, Sockets, watch};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A call: its number, and its name after `SYS_`.
pub(super) type Named = (i64, &'static str);

macro_rules! calls {
    ($($(#[$when:meta])? $name:ident),+ $(,)?) => { &[$($(#[$when])? (libc::$name, stringify!($name))),+] };
}
pub(super) use calls;

/// Ends the process.
pub(super) const DEADLY: &[Named] = calls![
    SYS_acct,
    SYS_bpf,
    SYS_clock_settime,
    SYS_delete_module,
    SYS_finit_module,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fsopen,
    SYS_fspick,
    SYS_init_module,
    SYS_kexec_load,
    SYS_mount,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_open_by_handle_at,
    SYS_open_tree,
    SYS_pivot_root,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_ptrace,
    SYS_quotactl,
    SYS_reboot,
    SYS_setns,
    SYS_settimeofday,
    SYS_swapoff,
    SYS_swapon,
    SYS_umount2,
];

/// Fails with `EPERM`. A process that could leave its group would outlive the server and not be counted.
pub(super) const REFUSED: &[Named] = calls![
    SYS_add_key,
    SYS_chroot,
    SYS_kcmp,
    SYS_keyctl,
    SYS_perf_event_open,
    SYS_pidfd_getfd,
    SYS_process_madvise,
    SYS_request_key,
    SYS_setpgid,
    SYS_setsid,
    SYS_unshare,
    SYS_userfaultfd,
];

/// Fails with `ENOSYS`, so that programs fall back: their arguments lie in memory, where a filter does not see them.
pub(super) const ABSENT: &[Named] =
    calls![SYS_clone3, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup];

/// Fails with `EPERM` where nothing is left open: what Landlock does not govern, and honest programs do now and then.
pub(super) const MODES: &[Named] = calls![
    #[cfg(target_arch = "x86_64")]
    SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    SYS_chown,
    #[cfg(target_arch = "x86_64")]
    SYS_lchown,
    SYS_fchmodat,
    SYS_fchmodat2,
    SYS_fchownat,
    SYS_lremovexattr,
    SYS_lsetxattr,
    SYS_removexattr,
    SYS_setxattr,
];

/// Flags of `clone` that make a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Families that reach around any rule about TCP.
const ODD_FAMILIES: [i32; 5] = [libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_XDP, libc::AF_KEY];

/// Bits of a socket's type that are no flags.
const TYPE_MASK: u64 = 0xf;

/// x86-64 has a second set of numbers for the same calls (x32); where the two differ, these are the others.
#[cfg(target_arch = "x86_64")]
const X32: [(i64, i64); 11] = [
    (libc::SYS_ioctl, 514),
    (libc::SYS_sendmsg, 518),
    (libc::SYS_execve, 520),
    (libc::SYS_ptrace, 521),
    (libc::SYS_rt_sigqueueinfo, 524),
    (libc::SYS_kexec_load, 528),
    (libc::SYS_rt_tgsigqueueinfo, 536),
    (libc::SYS_sendmmsg, 538),
    (libc::SYS_process_vm_readv, 539),
    (libc::SYS_process_vm_writev, 540),
    (libc::SYS_execveat, 545),
];
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;

/// Whether there is a filter for this machine.
pub(super) fn known_machine() -> bool {
    TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Restricts the calling thread; what is refused fails without anybody being told.
pub(super) fn restrict(policy: &Policy) -> Result<(), String> {
    let sockets = if policy.strict { SeccompAction::KillProcess } else { errno(libc::EACCES) };
    let filters = [
        (plain(DEADLY), SeccompAction::KillProcess),
        (plain(ABSENT), errno(libc::ENOSYS)),
        (refused(policy.strict).map_err(text)?, errno(libc::EPERM)),
        (sockets_of(policy).map_err(text)?, sockets),
        (shortcuts(policy).map_err(text)?, errno(libc::EACCES)),
    ];
    for (rules, action) in filters {
        if let Some(program) = program(rules, action)? {
            apply_filter(&program).map_err(text)?;
        }
    }
    Ok(())
}

/// Restricts the calling thread; the listener is asked about everything that is refused, and about what it watches.
pub(super) fn restrict_watched(policy: &Policy) -> Result<Listener, String> {
    // Every thread is made with `clone` instead, which nobody needs to hear about.
    let silent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let mut judged = plain(DEADLY);
    judged.extend(plain(ABSENT).into_iter().filter(|(call, _)| !silent.contains_key(call)));
    for rules in [refused(policy.strict), sockets_of(policy), shortcuts(policy), watched(policy)] {
        judged.extend(rules.map_err(text)?);
    }
    // The library knows no user notification: what it lets a tracer judge becomes the listener's.
    let traced = SeccompAction::Trace(0);
    let (asking, judge) = (u32::from(traced.clone()), notify::JUDGE);
    let Some(program) = program(judged, traced)? else { return Err("an empty filter".to_owned()) };
    let returns = |code: u16| u32::from(code) == libc::BPF_RET | libc::BPF_K;
    let program: Vec<_> = program
        .into_iter()
        .map(|at| (at.code, at.jt, at.jf, if returns(at.code) && at.k == asking { judge } else { at.k }))
        .collect();
    // This one first: nothing may be given up before it is known that somebody will judge.
    let listener = Listener::install(&program).map_err(|error| format!("no listener: {error}"))?;
    if let Some(program) = self::program(silent, errno(libc::ENOSYS))? {
        apply_filter(&program).map_err(text)?;
    }
    Ok(listener)
}

fn program(rules: Rules, action: SeccompAction) -> Result<Option<BpfProgram>, String> {
    if rules.is_empty() {
        return Ok(None);
    }
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(text)?;
    let filter = SeccompFilter::new(both_sets(rules), SeccompAction::Allow, action, machine).map_err(text)?;
    BpfProgram::try_from(filter).map(Some).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

fn plain(calls: &[Named]) -> Rules {
    calls.iter().map(|(call, _)| (*call, Vec::new())).collect()
}

type Built<T> = Result<T, seccompiler::BackendError>;

fn is(argument: u8, operator: Is, value: i32) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Length::Dword, operator, u64::from(value.unsigned_abs()))
}

fn refused(strict: bool) -> Built<Rules> {
    let mut rules = plain(REFUSED);
    if strict {
        rules.extend(plain(MODES));
    }
    // The limits of other processes: those of the gateway, which belongs to the same user.
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![is(0, Is::Ne, 0)?])?]);
    let namespaces = NAMESPACES
        .iter()
        .map(|flag| SeccompRule::new(vec![is(0, Is::MaskedEq(u64::from(flag.unsigned_abs())), *flag)?]))
        .collect::<Built<Vec<_>>>()?;
    rules.insert(libc::SYS_clone, namespaces);
    // Typing into the terminal of whoever started the gateway.
    let typing = SeccompCondition::new(1, Length::Dword, Is::Eq, libc::TIOCSTI)?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![typing])?]);
    Ok(rules)
}

/// Sockets that may not be made. `socketpair` is no way out and stays.
fn sockets_of(policy: &Policy) -> Built<Rules> {
    let mut families: Vec<i32> = if policy.unix_sockets { vec![libc::AF_UNIX] } else { Vec::new() };
    let mut rules = Vec::new();
    match policy.network {
        Sockets::None => {}
        Sockets::Proxy(_) => {
            for family in [libc::AF_INET, libc::AF_INET6] {
                families.push(family);
                let stream = libc::SOCK_STREAM;
                // Datagrams carry DNS, and with it anything.
                for kind in (0..=15).filter(|kind| *kind != stream) {
                    rules.push(SeccompRule::new(vec![
                        is(0, Is::Eq, family)?,
                        is(1, Is::MaskedEq(TYPE_MASK), kind)?,
                    ])?);
                }
                // Rules about ports know TCP alone, not its multipath variant.
                let other = vec![
                    is(0, Is::Eq, family)?,
                    is(2, Is::Ne, libc::IPPROTO_IP)?,
                    is(2, Is::Ne, libc::IPPROTO_TCP)?,
                ];
                rules.push(SeccompRule::new(other)?);
            }
        }
        Sockets::Any => {
            let unix = if policy.unix_sockets { None } else { Some(libc::AF_UNIX) };
            for family in ODD_FAMILIES.into_iter().chain(unix) {
                rules.push(SeccompRule::new(vec![is(0, Is::Eq, family)?])?);
            }
            return Ok(Rules::from([(libc::SYS_socket, rules)]));
        }
    }
    let others = families.into_iter().map(|family| is(0, Is::Ne, family)).collect::<Built<Vec<_>>>()?;
    // Without any family the rule has no condition, which is written as no rule at all.
    if others.is_empty() {
        return Ok(Rules::from([(libc::SYS_socket, Vec::new())]));
    }
    rules.push(SeccompRule::new(others)?);
    Ok(Rules::from([(libc::SYS_socket, rules)]))
}

/// Ways to a connection that go around `connect` and `bind`, which alone are governed by port.
fn shortcuts(policy: &Policy) -> Built<Rules> {
    if !matches!(policy.network, Sockets::Proxy(_)) {
        return Ok(Rules::new());
    }
    let mut rules = Rules::new();
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        let fast_open = u64::from(libc::MSG_FASTOPEN.unsigned_abs());
        rules.insert(
            call,
            vec![SeccompRule::new(vec![is(flags, Is::MaskedEq(fast_open), libc::MSG_FASTOPEN)?])?],
        );
    }
    if !policy.unix_sockets {
        // A socket that listens without an address gets one.
        rules.insert(libc::SYS_listen, Vec::new());
    }
    Ok(rules)
}

/// What the listener hears of although it may well be allowed.
fn watched(policy: &Policy) -> Built<Rules> {
    let mut rules = plain(watch::FILES);
    rules.extend(plain(watch::SIGNALS));
    // Threads of one process signal each other all the time; this process will be the first of the server's.
    let ourselves = rustix::process::getpid().as_raw_pid();
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![is(0, Is::Ne, ourselves)?])?]);
    // Whose memory cannot be read cannot be watched.
    let hiding = vec![is(0, Is::Eq, libc::PR_SET_DUMPABLE)?, is(1, Is::Ne, 1)?];
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(hiding)?]);
    if matches!(policy.network, Sockets::Proxy(_)) {
        rules.extend(plain(watch::SOCKETS));
    }
    Ok(rules)
}

#[cfg(target_arch = "x86_64")]
fn both_sets(rules: Rules) -> Rules {
    let other = |call: i64| X32.iter().find(|(plain, _)| *plain == call).map_or(call, |(_, other)| *other);
    let mut all = rules.clone();
    all.extend(rules.into_iter().map(|(call, rules)| (other(call) | X32_BIT, rules)));
    all
}

#[cfg(not(target_arch = "x86_64"))]
fn both_sets(rules: Rules) -> Rules {
    rules
}

/// The number under which a call stands in our lists.
#[cfg(target_arch = "x86_64")]
pub(super) fn plain_number(number: i64) -> i64 {
    if number & X32_BIT == 0 {
        return number;
    }
    let number = number & !X32_BIT;
    X32.iter().find(|(_, other)| *other == number).map_or(number, |(plain, _)| *plain)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) const fn plain_number(number: i64) -> i64 {
    number
}
