//! Takes rights away from the calling process: in this order, since each step needs less than the one before leaves.

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, clear_ambient_capability_set, remove_capability_from_bounding_set},
};

use super::{Bounds, Policy, Support, crowd, rights, syscalls, watch};

/// A process has several threads, and the kernel counts threads of all programs of the user.
const THREADS_PER_PROCESS: u64 = 16;

pub(super) fn support() -> Support {
    let seccomp = std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
        || std::fs::read_to_string("/proc/self/status").is_ok_and(|text| text.contains("\nSeccomp:"));
    Support {
        files: rights::has_files(),
        tcp: rights::has_tcp(),
        scope: rights::has_scope(),
        seccomp: seccomp && syscalls::known_machine(),
        watch: syscalls::known_machine() && watch::supported(),
    }
}

pub(super) fn apply(policy: &Policy) -> Result<(), String> {
    match portcullis_sys::descriptors::close_on_exec() {
        Err(error) if policy.required => return Err(format!("inherited descriptors: {error}")),
        // Where the kernel is so old, or does not let us, the gateway has said so at its start.
        Ok(()) | Err(_) => {}
    }
    // As long as there are rights to connect.
    let watcher = policy.watcher.as_ref().map(|name| watch::connect(name)).transpose();
    let watcher = watcher.map_err(|error| format!("nobody watches: {error}"))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("no new privileges: {error}"))?;
    limit(&policy.bounds)?;
    drop_capabilities()?;
    rights::restrict(policy).map_err(|error| format!("Landlock: {error}"))?;
    if let Some(watcher) = watcher {
        match syscalls::restrict_watched(policy) {
            Ok(listener) => {
                return watch::hand_over(watcher, listener)
                    .map_err(|error| format!("nobody watches: {error}"));
            }
            Err(error) if policy.required => return Err(format!("seccomp: {error}")),
            // The gateway sees the end of the connection, and says that nobody watches.
            Err(_) => {}
        }
    }
    let filtered = syscalls::restrict(policy).map_err(|error| format!("seccomp: {error}"));
    if policy.required || syscalls::known_machine() { filtered } else { Ok(()) }
}

/// What root keeps where the gateway runs as root: files, which Landlock governs. Without this a root in a sandbox is
/// still the root that other users and the kernel know. Whoever is not root has none to lose.
fn drop_capabilities() -> Result<(), String> {
    let kept =
        CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER | CapabilitySet::FSETID;
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            // The kernel does not know it; or we have none, and so nothing to give up.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(error) => return Err(format!("capabilities: {error}")),
        }
    }
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(format!("ambient capabilities: {error}")),
    }
}

fn limit(bounds: &Bounds) -> Result<(), String> {
    let tasks = bounds.processes_max.map(|max| {
        let others = crowd::tasks_of_user(rustix::process::getuid().as_raw());
        others.saturating_add(max.saturating_mul(THREADS_PER_PROCESS))
    });
    let rows = [
        // A dump of a server's memory holds its credentials.
        (Resource::Core, Some(0)),
        (Resource::Nofile, bounds.files_max),
        (Resource::Data, bounds.memory_bytes_max),
        (Resource::Cpu, bounds.cpu_s_max),
        (Resource::Fsize, bounds.file_bytes_max),
        (Resource::Nproc, tasks),
    ];
    for (resource, bound) in rows {
        let Some(bound) = bound else { continue };
        let held = getrlimit(resource);
        // Only ever less than there was.
        let lowest = |now: Option<u64>| Some(now.map_or(bound, |now| now.min(bound)));
        let (current, maximum) = (lowest(held.current), lowest(held.maximum));
        // The kernel first warns with a signal that can be caught, then kills a second later.
        let maximum = if resource == Resource::Cpu {
            maximum.map(|seconds| seconds.saturating_add(1))
        } else {
            maximum
        };
        let maximum = match (maximum, held.maximum) {
            (Some(new), Some(old)) => Some(new.min(old)),
            (new, _) => new,
        };
        setrlimit(resource, Rlimit { current, maximum }).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok(())
}
