//! Servers as child processes, through the gateway: whose answer is whose, whose process is whose, and what happens
//! when a child misbehaves.

use std::{collections::BTreeSet, fs, time::Duration};

use portcullis_testkit::{Era, Gateway, McpClient, Outcome};
use portcullis_tests::pair::{SOON, code_of, entries, limits_yaml, new_key, refusals, soon, verdict};
use serde_json::{Value, json};
use tokio::time::Instant;

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

/// A gateway before the scripted child, which it knows as `s`.
async fn start(command: &[&str], extra: &str, limits: &[(&str, u64)]) -> Outcome<Gateway> {
    let command = json!(command);
    let yaml = format!("servers:\n  s:\n    command: {command}\n{extra}{}", limits_yaml(limits));
    Gateway::start(&yaml).await
}

async fn client(gateway: &Gateway, key: &str, era: Era) -> Outcome<McpClient> {
    McpClient::connect(&gateway.url("s"), Some(key), era).await
}

async fn pid(client: &mut McpClient) -> Outcome<u32> {
    let answer = client.call("pid", json!({})).await?;
    Ok(answer.text().parse().map_err(|_| format!("{:?} {}", verdict(&answer), answer.reply.text()))?)
}

/// Name, state, parent and group of a process.
fn process(pid: u32) -> Option<(String, char, u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = text.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.chars().next()?;
    let (parent, group) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((start.split_once('(')?.1.to_owned(), state, parent, group))
}

fn processes() -> Vec<(u32, (String, char, u32, u32))> {
    let folder = fs::read_dir("/proc").into_iter().flatten().flatten();
    folder
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, process(pid)?)))
        .collect()
}

fn group(leader: u32) -> Vec<u32> {
    let members =
        processes().into_iter().filter(|(_, (_, state, _, group))| *group == leader && *state != 'Z');
    members.map(|(pid, _)| pid).collect()
}

/// One caller's half of the test below: every answer and every progress is its own.
async fn hammer(mut client: McpClient, who: &str, calls: u64) -> Outcome<u64> {
    let mut wrong = 0;
    for number in 0..calls {
        // Both callers and all their workers use the same ids and the same tokens.
        let words = format!("{who} {number}");
        let token = number % 3;
        let params =
            json!({"name": "shuffled", "arguments": {"text": words}, "_meta": {"progressToken": token}});
        let answer = client.request("tools/call", params).await?;
        let told: Vec<_> = answer.messages.iter().filter_map(|message| message.get("params")).collect();
        let own =
            told.len() == 1 && told[0]["progressToken"] == token && told[0]["message"] == words.as_str();
        wrong += u64::from(answer.text() != words || !own);
    }
    Ok(wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_with_the_same_ids_and_tokens_never_cross_on_a_shared_process() -> Outcome {
    const WORKERS: u64 = 12;
    let rates =
        [("caller_rate_per_s", 100_000), ("caller_burst_max", 100_000), ("source_rate_per_s", 100_000)];
    let gateway = start(&[CHILD], "    isolation: shared\n", &rates).await?;
    let other = new_key(&gateway, "other", "operator")?;
    let mut halves = Vec::new();
    for era in Era::ALL {
        for (who, key) in [("first", gateway.key()?), ("other", other.as_str())] {
            for worker in 0..WORKERS {
                let client = client(&gateway, key, era).await?;
                let name = format!("{who} {era:?} {worker}");
                halves.push(tokio::spawn(
                    async move { hammer(client, &name, 10_000 / (4 * WORKERS) + 1).await },
                ));
            }
        }
    }
    let mut wrong = 0;
    for half in halves {
        wrong += half.await??;
    }
    assert_eq!(wrong, 0, "answers or progress of somebody else");
    let mut one = client(&gateway, gateway.key()?, Era::Modern).await?;
    let mut two = client(&gateway, &other, Era::Modern).await?;
    assert_eq!(pid(&mut one).await?, pid(&mut two).await?, "not shared, so nothing was proven");
    Ok(())
}

#[tokio::test]
async fn isolation_decides_who_shares_a_process() -> Outcome {
    for (isolation, same_session, same_caller, anybody) in
        [("shared", true, true, true), ("per_caller", true, true, false), ("per_session", true, false, false)]
    {
        let gateway = start(&[CHILD], &format!("    isolation: {isolation}\n"), &[]).await?;
        let other = new_key(&gateway, "other", "operator")?;
        let mut first = client(&gateway, gateway.key()?, Era::Legacy).await?;
        let mut second = client(&gateway, gateway.key()?, Era::Legacy).await?;
        let mut stranger = client(&gateway, &other, Era::Legacy).await?;
        let own = pid(&mut first).await?;
        assert_eq!(pid(&mut first).await? == own, same_session, "{isolation}");
        assert_eq!(pid(&mut second).await? == own, same_caller, "{isolation}");
        assert_eq!(pid(&mut stranger).await? == own, anybody, "{isolation}");
        let mut modern = client(&gateway, gateway.key()?, Era::Modern).await?;
        let mut foreign = client(&gateway, &other, Era::Modern).await?;
        assert_eq!(pid(&mut modern).await? == pid(&mut foreign).await?, anybody, "{isolation}, modern");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_with_its_own_process_ends_it() -> Outcome {
    let gateway = start(&[CHILD], "    isolation: per_session\n", &[]).await?;
    let mut first = client(&gateway, gateway.key()?, Era::Legacy).await?;
    let own = pid(&mut first).await?;
    let bearer = format!("Bearer {}", gateway.key()?);
    let session = first.session.clone().ok_or("no session")?;
    let headers = [("authorization", bearer.as_str()), ("mcp-session-id", session.as_str())];
    let http = portcullis_testkit::Client::default();
    let reply = http.send(http::Method::DELETE, &first.url, &headers, bytes::Bytes::new()).await?;
    assert!(reply.status.is_success(), "{}", reply.text());
    soon("the process ends with its session", || process(own).is_none()).await
}

#[tokio::test]
async fn a_child_that_crashes_in_a_call_is_replaced_and_sessions_go_on() -> Outcome {
    for era in Era::ALL {
        let gateway = start(&[CHILD], "", &[]).await?;
        let mut client = client(&gateway, gateway.key()?, era).await?;
        let first = pid(&mut client).await?;
        let answer = client.call("crash", json!({})).await?;
        assert_eq!(verdict(&answer), (502, "upstream.unavailable".into()), "{era:?}");
        let due = Instant::now() + SOON;
        let second = loop {
            if let Ok(second) = pid(&mut client).await {
                break second;
            }
            assert!(Instant::now() < due, "{era:?}: no new child");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_ne!(first, second);
        let refused = refusals(&gateway, "upstream.unavailable", 1).await?;
        assert!(refused[0]["intent"].is_u64());
    }
    Ok(())
}

#[tokio::test]
async fn a_crashing_child_is_started_ever_more_rarely_and_leaves_no_zombie() -> Outcome {
    let folder = tempfile::tempdir()?;
    // Two children each time: the first is asked whether it knows the newer revision. Pauses of 100, 200, 400 and 800 ms
    // stand between five times; with at most 200 ms between them, twelve times come about long before doubling would let
    // them.
    for (name, most, starts_min, pauses_ms) in [("slow", 30_000_u64, 10, 1_500), ("fast", 200, 24, 2_100)] {
        let starts = folder.path().join(name);
        let path = starts.to_str().ok_or("path")?;
        let limits = [("child_backoff_max_ms", most), ("catalog_refresh_ms", 100)];
        let begun = Instant::now();
        let gateway = start(&[CHILD, "--starts", path, "--die"], "", &limits).await?;
        let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
        let started = || fs::read_to_string(&starts).unwrap_or_default().lines().count();
        while started() < starts_min {
            // Twelve pauses that double take longer than this.
            assert!(begun.elapsed() < Duration::from_secs(120), "{name}: {} starts", started());
            let answer = client.initialize().await?;
            assert_eq!(verdict(&answer), (502, "upstream.unavailable".into()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(pauses_ms), "{name}: {:?}", begun.elapsed());
        let own = gateway.pid().ok_or("not running")?;
        let gone = || !processes().iter().any(|(_, (_, state, parent, _))| *parent == own && *state == 'Z');
        soon("no zombie", gone).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_child_that_ends_right_after_it_was_opened_is_started_ever_more_rarely() -> Outcome {
    let folder = tempfile::tempdir()?;
    for (name, flags) in [("both", &["--die-when-opened"][..]), ("older", &["--die-when-opened", "--legacy"])]
    {
        let starts = folder.path().join(name);
        let path = starts.to_str().ok_or("path")?;
        let gateway =
            start(&[&[CHILD, "--starts", path], flags].concat(), "", &[("catalog_refresh_ms", 100)]).await?;
        let begun = Instant::now();
        let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
        let started = || fs::read_to_string(&starts).unwrap_or_default().lines().count();
        while begun.elapsed() < Duration::from_secs(6) || started() < 6 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{name}: {} starts", started());
            client.initialize().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Seven for the gateway and seven for its caller, with pauses that double from 100 ms on, and some that are let off
        // while it is unknown which revision it speaks. Without pauses there are hundreds.
        assert!(started() <= 30, "{name}: {} starts in {:?}", started(), begun.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn a_stubborn_child_and_its_family_are_killed_at_shutdown_after_their_grace() -> Outcome {
    let script = format!("trap '' TERM; sleep 600 & exec {CHILD} --linger");
    let mut gateway =
        start(&["sh", "-c", &script], "", &[("child_grace_ms", 400), ("shutdown_grace_ms", 0)]).await?;
    let mut one = client(&gateway, gateway.key()?, Era::Modern).await?;
    let leader = pid(&mut one).await?;
    assert_eq!(process(leader).map(|(.., group)| group), Some(leader), "not a group of its own");
    assert_eq!(group(leader).len(), 2, "the child and its sleep");
    drop(one);
    let begun = Instant::now();
    assert!(gateway.stop().await?.success());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(800), "no grace: {took:?}");
    assert!(took < Duration::from_secs(18), "{took:?}");
    assert_eq!(group(leader), Vec::<u32>::new(), "left behind");
    Ok(())
}

#[tokio::test]
async fn a_child_ends_when_its_gateway_is_killed_outright() -> Outcome {
    let mut gateway = start(&[CHILD], "", &[]).await?;
    let mut one = client(&gateway, gateway.key()?, Era::Modern).await?;
    let child = pid(&mut one).await?;
    gateway.kill()?;
    soon("the child sees the end of its input", || process(child).is_none_or(|(_, state, ..)| state == 'Z'))
        .await
}

#[tokio::test]
async fn a_child_cannot_flood_the_log() -> Outcome {
    let gateway = start(&[CHILD], "", &[("stderr_bytes_per_s", 1_000)]).await?;
    let mut one = client(&gateway, gateway.key()?, Era::Modern).await?;
    let begun = Instant::now();
    assert_eq!(one.call("noise", json!({"lines": 20_000})).await?.text(), "done");
    let told = || gateway.output().contains("standard error exceeds its limit");
    while !told() {
        assert!(begun.elapsed() < SOON, "{}", gateway.output());
        one.call("noise", json!({"lines": 1})).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A line has 96 bytes, so ten fit into a second.
    let lines = gateway.output().lines().filter(|line| line.contains("noise noise")).count();
    let seconds = usize::try_from(begun.elapsed().as_secs())? + 2;
    assert!((1..=10 * seconds).contains(&lines), "{lines} lines in {seconds} s");
    Ok(())
}

#[tokio::test]
async fn a_line_without_end_costs_the_child_its_life_and_nobody_else_anything() -> Outcome {
    let limits = [("answer_bytes_max", 65_536), ("body_bytes_max", 65_536)];
    let gateway = start(&[CHILD], "", &limits).await?;
    let mut one = client(&gateway, gateway.key()?, Era::Modern).await?;
    assert_eq!(one.call("giant", json!({"bytes": 60_000})).await?.text().len(), 60_000);
    let before = pid(&mut one).await?;
    let answer = one.call("giant", json!({"bytes": 5_000_000})).await?;
    assert_eq!(verdict(&answer), (502, "upstream.unavailable".into()));
    let due = Instant::now() + SOON;
    while pid(&mut one).await.unwrap_or(before) == before {
        assert!(Instant::now() < due, "no new child");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rss = gateway.rss_bytes()?;
    assert!(rss < 200 * 1024 * 1024, "{rss}");
    Ok(())
}

#[tokio::test]
async fn a_server_has_so_many_children_at_once() -> Outcome {
    let gateway = start(&[CHILD], "    isolation: per_caller\n", &[("children_max", 1)]).await?;
    let other = new_key(&gateway, "other", "operator")?;
    let mut first = client(&gateway, gateway.key()?, Era::Modern).await?;
    let mut second = McpClient::new(&gateway.url("s"), Some(&other), Era::Modern);
    let own = pid(&mut first).await?;
    // An idle child makes room.
    assert_ne!(pid(&mut second).await?, own);
    soon("the idle one ended", || process(own).is_none()).await?;
    pid(&mut first).await?;
    let mut busy = first.clone();
    let hanging = tokio::spawn(async move { busy.call("hang", json!({})).await.is_ok() });
    let due = Instant::now() + SOON;
    while entries(&gateway, "event=call.intent&tool=hang").await?.is_empty() {
        assert!(Instant::now() < due, "the call never came");
    }
    // The intent comes before the child is asked for, and nothing tells from outside that it has been.
    tokio::time::sleep(Duration::from_secs(1)).await;
    while code_of(&second.call("pid", json!({})).await?) != "limit.concurrency" {
        assert!(Instant::now() < due, "a busy child was ended");
    }
    assert!(!hanging.is_finished());
    hanging.abort();
    while code_of(&second.call("pid", json!({})).await?) == "limit.concurrency" {
        assert!(Instant::now() < due, "the place was not given back");
    }
    Ok(())
}

#[tokio::test]
async fn one_caller_cannot_use_up_the_children_of_a_server() -> Outcome {
    // The share that is configured, and the half that nobody gets beyond.
    for limits in [
        [("children_max", 64), ("caller_children_max", 2)],
        [("children_max", 4), ("caller_children_max", 16)],
    ] {
        let gateway = start(&[CHILD], "    isolation: per_session\n", &limits).await?;
        let other = new_key(&gateway, "other", "operator")?;
        let mut greedy = Vec::new();
        for _ in 0..2 {
            let mut one = client(&gateway, gateway.key()?, Era::Legacy).await?;
            let own = pid(&mut one).await?;
            // Who listens is not idle.
            greedy.push((own, stream(&one).await?, one));
        }
        let mut third = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
        let answer = third.initialize().await?;
        assert_eq!(verdict(&answer), (429, "limit.children".into()), "{limits:?}");
        assert_eq!(refusals(&gateway, "limit.children", 1).await?[0]["method"], "initialize");
        let mut others = client(&gateway, &other, Era::Legacy).await?;
        let theirs = pid(&mut others).await?;
        // What makes room is the caller's own, never another's.
        let (idle, listening, _) = greedy.remove(0);
        drop(listening);
        let due = Instant::now() + SOON;
        while third.initialize().await?.result().is_null() {
            assert!(Instant::now() < due, "the place was not given back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        soon("the idle one ended", || process(idle).is_none()).await?;
        assert_eq!(pid(&mut others).await?, theirs, "another caller paid for it");
    }
    Ok(())
}

/// The open stream of a session.
async fn stream(client: &McpClient) -> Outcome<portcullis_testkit::Body> {
    let bearer = format!("Bearer {}", client.bearer.clone().unwrap_or_default());
    let session = client.session.clone().ok_or("no session")?;
    let headers =
        [("authorization", bearer.as_str()), ("mcp-session-id", &session), ("accept", "text/event-stream")];
    let http = portcullis_testkit::Client::default();
    let stream = http.open(http::Method::GET, &client.url, &headers, bytes::Bytes::new()).await?;
    assert_eq!(stream.status, 200);
    Ok(stream)
}

#[tokio::test]
async fn a_session_does_not_keep_more_children_than_there_may_be_and_gets_another_when_it_needs_one()
-> Outcome {
    let gateway = start(&[CHILD], "    isolation: per_caller\n", &[("children_max", 1)]).await?;
    let other = new_key(&gateway, "other", "operator")?;
    let mut first = client(&gateway, gateway.key()?, Era::Legacy).await?;
    let own = pid(&mut first).await?;
    let mut second = client(&gateway, &other, Era::Legacy).await?;
    let theirs = pid(&mut second).await?;
    assert_ne!(own, theirs);
    soon("the idle child of the first session ended", || process(own).is_none()).await?;
    assert_ne!(pid(&mut first).await?, theirs, "the session goes on, with a child of its own");
    soon("the idle child of the second session ended", || process(theirs).is_none()).await?;

    // Who listens is not idle.
    let stream = stream(&first).await?;
    assert_eq!(code_of(&second.call("pid", json!({})).await?), "limit.concurrency");
    drop(stream);
    let due = Instant::now() + SOON;
    while code_of(&second.call("pid", json!({})).await?) == "limit.concurrency" {
        assert!(Instant::now() < due, "the place was not given back");
    }
    Ok(())
}

#[tokio::test]
async fn a_child_gets_a_clean_environment() -> Outcome {
    let yaml = format!("servers:\n  s:\n    command: [{CHILD}]\n    env:\n      GIVEN: env:SOURCE\n");
    let gateway = Gateway::builder()
        .config(&yaml)
        .environment("SOURCE", "x")
        .environment("CANARY", "y")
        .start()
        .await?;
    let mut one = client(&gateway, gateway.key()?, Era::Modern).await?;
    let names = one.call("env", json!({})).await?.text();
    let names: BTreeSet<_> = names.split(',').collect();
    assert!(names.contains("GIVEN"), "{names:?}");
    let allowed = BTreeSet::from(["GIVEN", "HOME", "LANG", "PATH", "TMPDIR"]);
    assert!(names.is_subset(&allowed), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn only_the_stateless_revision_takes_a_lost_client_for_a_cancellation() -> Outcome {
    for (era, cancels) in [(Era::Modern, true), (Era::Legacy, false)] {
        let gateway = start(&[CHILD], "", &[]).await?;
        let mut one = client(&gateway, gateway.key()?, era).await?;
        let mut busy = one.clone();
        let hanging = tokio::spawn(async move { busy.call("hang", json!({"text": "mark"})).await.is_ok() });
        let lines = async |one: &mut McpClient| -> Outcome<Vec<Value>> {
            let text = one.call("seen", json!({})).await?.text();
            Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
        };
        let due = Instant::now() + SOON;
        let number = loop {
            let seen = lines(&mut one).await?;
            let call =
                seen.iter().find(|line| line.pointer("/params/arguments/text") == Some(&json!("mark")));
            if let Some(call) = call {
                break call["id"].clone();
            }
            assert!(Instant::now() < due, "the call never came");
        };
        hanging.abort();
        let until = Instant::now() + if cancels { SOON } else { Duration::from_millis(500) };
        let mut cancelled = None;
        while cancelled.is_none() && Instant::now() < until {
            let seen = lines(&mut one).await?;
            cancelled = seen.into_iter().find(|line| line["method"] == "notifications/cancelled");
        }
        assert_eq!(cancelled.is_some(), cancels, "{era:?}");
        if let Some(note) = cancelled {
            assert_eq!(note.pointer("/params/requestId"), Some(&number), "{note}");
        }
    }
    Ok(())
}
