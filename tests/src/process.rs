//! What the kernel knows about processes.

use std::fs;

/// Living children of a process, and its zombies.
#[must_use]
pub fn children(parent: u32) -> (Vec<u32>, Vec<u32>) {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = pids.filter_map(|pid| {
        let (state, above) = state(pid)?;
        (above == parent).then_some((pid, state))
    });
    let (dead, alive): (Vec<_>, Vec<_>) = own.partition(|(_, state)| *state == 'Z');
    let pid = |list: Vec<(u32, char)>| list.into_iter().map(|(pid, _)| pid).collect();
    (pid(alive), pid(dead))
}

/// Whether a process is gone. One that only waits to be collected by the first process of the machine is.
#[must_use]
pub fn gone(pid: u32) -> bool {
    state(pid).is_none_or(|(state, _)| state == 'Z')
}

/// CPU time that a process used, in milliseconds.
#[must_use]
pub fn cpu_ms(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    // The clock tick of the interface is a hundredth of a second on every Linux that we support.
    Some((user + system) * 10)
}

fn state(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
