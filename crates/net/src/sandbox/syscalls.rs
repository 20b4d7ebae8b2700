//! seccomp: system calls that no server needs and that lead out of a sandbox. Everything else stays allowed: a list of
//! what is allowed breaks with every new libc. Attempts that no honest program makes end it; what honest programs try
//! and can do without fails.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::{Policy, Sockets};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Ends the process.
const DEADLY: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
];

/// Fails with `EPERM`. A process that could leave its group would outlive the server and not be counted.
const REFUSED: &[i64] = &[
    libc::SYS_add_key,
    libc::SYS_chroot,
    libc::SYS_kcmp,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_request_key,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Fails with `ENOSYS`, so that programs fall back: their arguments lie in memory, where a filter does not see them.
const ABSENT: &[i64] =
    &[libc::SYS_clone3, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_io_uring_setup];

/// Fails with `EPERM` where nothing is left open: what Landlock does not govern, and honest programs do now and then.
const MODES: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_setxattr,
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
const X32: [(i64, i64); 4] = [
    (libc::SYS_ptrace, 521),
    (libc::SYS_kexec_load, 528),
    (libc::SYS_process_vm_readv, 539),
    (libc::SYS_process_vm_writev, 540),
];
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;

/// Whether there is a filter for this machine.
pub(super) fn known_machine() -> bool {
    TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Restricts the calling thread.
pub(super) fn restrict(policy: &Policy) -> Result<(), String> {
    let sockets = if policy.strict { SeccompAction::KillProcess } else { errno(libc::EACCES) };
    let filters = [
        (plain(DEADLY), SeccompAction::KillProcess),
        (absent(), errno(libc::ENOSYS)),
        (refused(policy.strict).map_err(text)?, errno(libc::EPERM)),
        (sockets_of(policy).map_err(text)?, sockets),
    ];
    for (rules, action) in filters {
        if rules.is_empty() {
            continue;
        }
        let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(text)?;
        let filter =
            SeccompFilter::new(both_sets(rules), SeccompAction::Allow, action, machine).map_err(text)?;
        let program = BpfProgram::try_from(filter).map_err(text)?;
        apply_filter(&program).map_err(text)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

fn plain(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn absent() -> Rules {
    plain(ABSENT)
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
        return Ok(plain(&[libc::SYS_socket]));
    }
    rules.push(SeccompRule::new(others)?);
    Ok(Rules::from([(libc::SYS_socket, rules)]))
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
