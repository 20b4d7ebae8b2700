//! How many processes a child has. A confined child cannot leave its process group, so the group is all of it; where
//! the gateway runs as root, the kernel's own limit on processes does not hold, and this one does.

use std::{
    collections::HashMap,
    fs,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How often somebody looks.
const TICK: Duration = Duration::from_millis(50);
/// How often at least, while new processes are made anywhere.
const AT_LEAST: Duration = Duration::from_secs(1);
/// So many new processes on this machine are reason to look at once.
const NEWS: i64 = 16;

/// One look at all processes, shared by all children.
#[derive(Debug, Default)]
struct Look {
    taken: Option<Instant>,
    newest: i64,
    groups: HashMap<u32, u64>,
}

static LOOK: LazyLock<Mutex<Look>> = LazyLock::new(Mutex::default);

/// Waits until the group `leader` has more than `max` processes; returns how many.
pub(crate) async fn overcrowded(leader: u32, max: u64) -> u64 {
    loop {
        sleep(TICK).await;
        let counted = tokio::task::spawn_blocking(move || members(leader)).await;
        if let Ok(count) = counted
            && count > max
        {
            return count;
        }
    }
}

fn members(group: u32) -> u64 {
    let mut look = LOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let newest = newest();
    let age = look.taken.map_or(Duration::MAX, |taken| taken.elapsed());
    let news = newest.wrapping_sub(look.newest).unsigned_abs();
    if (age >= TICK && news >= NEWS.unsigned_abs()) || (age >= AT_LEAST && news > 0) {
        look.groups = groups();
        (look.newest, look.taken) = (newest, Some(Instant::now()));
    }
    look.groups.get(&group).copied().unwrap_or_default()
}

/// The number of the newest process: the last word of `/proc/loadavg`.
fn newest() -> i64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next_back().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn groups() -> HashMap<u32, u64> {
    let mut groups = HashMap::new();
    for pid in pids() {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(group) = group(&text) {
            *groups.entry(group).or_default() += 1;
        }
    }
    groups
}

/// The group in the `stat` of a process. Its name may hold anything, also parentheses; behind the last one stand state,
/// parent and group.
pub(super) fn group(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Threads of all processes of a user.
#[cfg(target_os = "linux")]
pub(super) fn tasks_of_user(uid: u32) -> u64 {
    let word = |text: &str, key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok())
    };
    pids()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter(|text| word(text, "Uid:") == Some(u64::from(uid)))
        .filter_map(|text| word(&text, "Threads:"))
        .sum()
}
