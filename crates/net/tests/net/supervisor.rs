//! Restarts: with pauses, without zombies, visible from outside.

use std::{
    process::id,
    time::{Duration, Instant},
};

use bytes::Bytes;
use portcullis_net::stdio::{Backoff, Phase, Supervisor};

use crate::{
    stdio::{alive, options, sh},
    support::eventually,
};

fn backoff() -> Backoff {
    Backoff {
        first: Duration::from_millis(20),
        max: Duration::from_millis(100),
        stable: Duration::from_millis(300),
    }
}

fn zombies() -> usize {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", id())).unwrap_or_default();
    let zombie = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    children.split_whitespace().filter(|pid| zombie(pid)).count()
}

#[test]
fn pauses_double_up_to_the_limit() {
    let pauses: Vec<u128> = (0..6).map(|failures| backoff().pause(failures).as_millis()).collect();
    assert_eq!(pauses, [0, 20, 40, 80, 100, 100]);
    assert_eq!(backoff().pause(u32::MAX), backoff().max);
}

#[tokio::test]
async fn a_crash_loop_is_slowed_down_visible_and_leaves_no_zombie() {
    let mut supervisor = Supervisor::new(sh("echo hello; exit 3"), options(), backoff());
    let state = supervisor.state();
    let began = Instant::now();
    let mut pids = Vec::new();
    for _ in 0..6 {
        let (child, mut lines) = supervisor.next().await;
        assert_eq!(lines.recv().await, Some(Bytes::from("hello")));
        assert_eq!(lines.recv().await, None);
        pids.push(child.pid());
    }
    // 20 + 40 + 80 + 100 + 100 between the six.
    assert!(began.elapsed() >= Duration::from_millis(340), "{:?}", began.elapsed());
    let seen = state.borrow().clone();
    assert_eq!((seen.starts, seen.failures), (6, 5));
    assert_eq!(seen.last_end.as_deref(), Some("exit status: 3"));
    assert!(matches!(seen.phase, Phase::Running { .. }));
    supervisor.stop().await;
    assert_eq!(state.borrow().phase, Phase::Stopped);
    eventually("no process is left", || pids.iter().all(|pid| !alive(*pid))).await;
    eventually("no zombie is left", || zombies() == 0).await;
}

#[tokio::test]
async fn a_child_that_lived_long_enough_is_started_again_quickly() {
    let mut supervisor = Supervisor::new(sh("echo hello; exec sleep 1000"), options(), backoff());
    for _ in 0..3 {
        let (_child, mut lines) = supervisor.next().await;
        lines.recv().await.unwrap();
    }
    assert_eq!(supervisor.state().borrow().failures, 2);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let (_child, _lines) = supervisor.next().await;
    assert_eq!(supervisor.state().borrow().failures, 1);
}

#[tokio::test]
async fn a_program_that_cannot_start_is_tried_again_and_the_reason_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("late");
    let mut command = sh("");
    command.program = program.to_str().unwrap().to_owned();
    let mut supervisor = Supervisor::new(command, options(), backoff());
    let state = supervisor.state();
    let waiting = tokio::spawn(async move { supervisor.next().await.1.recv().await });
    eventually("failures", || state.borrow().failures >= 3).await;
    let reason = state.borrow().last_end.clone().unwrap();
    assert!(reason.starts_with("cannot start `"), "{reason}");
    // Renamed into place, so that no half-written program is run.
    let draft = folder.path().join("draft");
    std::fs::write(&draft, "#!/bin/sh\necho here\n").unwrap();
    std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(&draft, &program).unwrap();
    let line = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(line, Some(Bytes::from("here")));
}

#[tokio::test]
async fn asking_for_the_next_child_ends_the_one_before() {
    let mut supervisor = Supervisor::new(sh("echo $$; exec sleep 1000"), options(), backoff());
    let (first, _lines) = supervisor.next().await;
    let pid = first.pid();
    let (second, _lines) = supervisor.next().await;
    assert!(!alive(pid) && alive(second.pid()));
    let pid = second.pid();
    drop((first, second, supervisor));
    eventually("dropped and gone", || !alive(pid)).await;
}
