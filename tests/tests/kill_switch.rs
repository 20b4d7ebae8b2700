//! The kill switch: what an operator stops ends at once wherever it runs, is refused from then on with the reason, stays
//! so over a restart and on every gateway with the same store, and goes on when it is let. Nobody else notices.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use portcullis_core::Timestamp;
use portcullis_store::{Kill, KillSwitch, KillTarget, Revisions, Sqlite};
use portcullis_testkit::{
    Answer, Body, Client, Era, Fault, Gateway, Hostile, HostileServer, McpClient, Outcome, Received,
};
use portcullis_tests::pair::{code_of, entries, known, new_key, refusals};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// How long anything that must happen may take on a machine that does much else.
const SOON: Duration = Duration::from_secs(40);

/// How long after a kill what runs may still run.
const KILLED_WITHIN_MS: i64 = 1_000;

/// A gateway before two servers, and a role that may call everything but `delete`.
struct House {
    gateway: Gateway,
    one: HostileServer,
    two: HostileServer,
}

impl House {
    async fn start(more: &str) -> Outcome<Self> {
        let (one, two) = (HostileServer::start().await?, HostileServer::start().await?);
        for server in [&one, &two] {
            for method in ["GET", "subscriptions/listen"] {
                server.on(method, Hostile::HangInStream);
            }
        }
        let yaml = format!(
            "roles:\n  caller:\n    allow:\n      - actions: [connect]\n      - actions: [call_tool]\n        \
             tools: [echo, add]\nservers:\n  s:\n    url: {}\n  t:\n    url: {}\n{more}",
            one.url(),
            two.url()
        );
        let gateway = Gateway::start(&yaml).await?;
        known(&gateway, SOON).await?;
        Ok(Self { gateway, one, two })
    }

    async fn client(&self, server: &str, key: &str, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url(server), Some(key), era).await
    }

    /// A command that must succeed; what it says as JSON.
    fn command(&self, arguments: &[&str]) -> Outcome<Value> {
        said(&self.gateway, arguments)
    }
}

fn said(gateway: &Gateway, arguments: &[&str]) -> Outcome<Value> {
    let output = gateway.command(&[arguments, &["--json"]].concat())?;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The parameters of a call, in the trace of the victim or in none.
fn params(mut params: Value, traced: bool) -> Value {
    if let (true, Some(members)) = (traced, params.as_object_mut()) {
        members.insert("_meta".into(), json!({"traceparent": format!("00-{TRACE}-00f067aa0ba902b7-01")}));
    }
    params
}

async fn call(client: &mut McpClient, tool: &str, traced: bool) -> Outcome<Answer> {
    let arguments = if tool == "add" { json!({"a": 1, "b": 2}) } else { json!({"text": "x"}) };
    client.request("tools/call", params(json!({"name": tool, "arguments": arguments}), traced)).await
}

/// Everything of one client that can be open at once.
struct Open {
    endless: Body,
    streaming: Body,
    waiting: JoinHandle<Result<Answer, String>>,
}

impl Open {
    async fn all(server: &HostileServer, client: &mut McpClient, traced: bool) -> Outcome<Self> {
        let mut endless = match client.era {
            Era::Modern => {
                let wanted = json!({"notifications": {"toolsListChanged": true}});
                client.open("subscriptions/listen", params(wanted, traced)).await?
            }
            Era::Legacy => client.stream(None).await?,
        };
        first(&mut endless).await?;
        server.on("tools/call", Hostile::HangInStream);
        let echo = || params(json!({"name": "echo", "arguments": {"text": "x"}}), traced);
        let mut streaming = client.open("tools/call", echo()).await?;
        first(&mut streaming).await?;
        server.on("tools/call", Hostile::HangBeforeHeaders);
        let (mut own, wanted, before) = (client.clone(), echo(), server.count("tools/call"));
        let asked = async move { own.request("tools/call", wanted).await.map_err(|error| error.to_string()) };
        let waiting = tokio::spawn(asked);
        server.wait_until(SOON, |server| server.count("tools/call") > before).await?;
        Ok(Self { endless, streaming, waiting })
    }
}

async fn first(stream: &mut Body) -> Outcome {
    assert_eq!(stream.status, 200);
    let first = stream.next(SOON).await?.ok_or("no event")?;
    assert!(first.starts_with(b"data: ") || first.starts_with(b"event: "), "{first:?}");
    Ok(())
}

/// The rest of a stream that must end.
async fn rest(mut stream: Body) -> Outcome<String> {
    Ok(String::from_utf8(stream.rest(SOON).await?.to_vec())?)
}

/// How often somebody began to listen to a server.
fn listened(server: &HostileServer) -> usize {
    let asks = |request: &&Received| request.http_method == "GET" || request.method == "subscriptions/listen";
    server.received().iter().filter(asks).count()
}

/// The time of an entry, in milliseconds of its day.
fn when(entry: &Value) -> Outcome<i64> {
    let text = entry["at"].as_str().ok_or_else(|| Fault::from(entry.to_string()))?;
    let seconds = text.get(11..19).ok_or("no time")?;
    let parts: Vec<i64> = seconds.split(':').map(str::parse).collect::<Result<_, _>>()?;
    let ms: i64 = text.get(20..23).ok_or("no ms")?.parse()?;
    let [hours, minutes, seconds] = parts[..] else { return Err("no time".into()) };
    Ok(((hours * 60 + minutes) * 60 + seconds) * 1_000 + ms)
}

/// The longest time from a kill to the end of something that ran.
async fn slowest_ms(gateway: &Gateway) -> Outcome<i64> {
    let kill = entries(gateway, "event=kill.set").await?;
    let killed = when(kill.last().ok_or("no kill")?)?;
    let ended = entries(gateway, "event=call.refused&code=killed").await?;
    let running = ended.iter().filter(|entry| entry["intent"].is_u64());
    let times = running.map(when).collect::<Outcome<Vec<_>>>()?;
    Ok(times.into_iter().map(|time| time - killed).max().unwrap_or_default())
}

/// One round: everything that can be open is, something is killed, and goes on again.
async fn round(kind: &'static str, era: Era) -> Outcome<i64> {
    let house = House::start("").await?;
    let (key, other) = (new_key(&house.gateway, "a", "caller")?, new_key(&house.gateway, "b", "caller")?);
    let traced = kind == "session" && era == Era::Modern;
    let mut victim = house.client("s", &key, era).await?;
    let name = match (kind, era) {
        ("caller", _) => format!("key:{}", key.split('_').nth(1).ok_or("no id")?),
        ("session", Era::Modern) => TRACE.to_owned(),
        ("session", Era::Legacy) => victim.session.clone().ok_or("no session")?,
        ("server", _) => String::from("s"),
        ("tool", _) => String::from("s/echo"),
        _ => String::new(),
    };
    // Streams without an end of their own belong to no tool.
    let (streams, elsewhere) = (kind != "tool", kind == "server" || kind == "tool");
    // In a session's round the bystander is the same caller in another session.
    let bystanders = if kind == "session" { &key } else { &other };
    let place = if elsewhere { "t" } else { "s" };
    let mut bystander = house.client(place, bystanders, era).await?;
    let mut beside = match era {
        Era::Modern => {
            let wanted = json!({"notifications": {"toolsListChanged": true}});
            bystander.open("subscriptions/listen", wanted).await?
        }
        Era::Legacy => bystander.stream(None).await?,
    };
    first(&mut beside).await?;
    let Open { mut endless, streaming, waiting } = Open::all(&house.one, &mut victim, traced).await?;

    let name: &[&str] = if name.is_empty() { &[] } else { &[&name] };
    let reason = ["--reason", "a test"];
    house.command(&[&["kill", kind], name, &reason].concat())?;
    let told = rest(streaming).await?;
    assert!(told.contains(r#""dev.portcullis/code":"killed""#), "{kind} {era:?}: {told}");
    assert!(told.contains("by admin at 20") && !told.contains("a test"), "{kind} {era:?}: {told}");
    let answer = waiting.await??;
    assert_eq!(code_of(&answer), "killed", "{kind} {era:?}: {}", answer.reply.text());
    if streams {
        let told = rest(endless).await?;
        assert_eq!(told.contains(r#""code":"killed""#), era == Era::Modern, "{kind} {era:?}: {told}");
    } else {
        // What is open goes on; a stream that ended would say so at once.
        assert!(endless.next(Duration::from_millis(300)).await.is_err(), "{kind} {era:?}");
    }
    house.one.heal();
    assert_eq!(code_of(&call(&mut victim, "echo", traced).await?), "killed", "{kind} {era:?}");
    let answer = call(&mut bystander, "add", false).await?;
    if kind == "everything" {
        assert_eq!(code_of(&answer), "killed");
        assert_eq!(house.gateway.admin_get("/v1/status").await?.status, 200);
    } else {
        assert_eq!(answer.text(), "3", "{kind} {era:?}: {}", answer.reply.text());
        assert!(beside.next(Duration::from_millis(300)).await.is_err(), "{kind} {era:?}");
    }
    // Each of those that ran has its refusal beside its intent, and the entry of the kill came before.
    let ended = refusals(&house.gateway, "killed", if streams { 4 } else { 3 }).await?;
    assert!(ended.iter().all(|entry| entry["detail"].as_str().is_some_and(|text| text.contains("a test"))));
    let slowest = slowest_ms(&house.gateway).await?;

    house.command(&[&["unkill", kind], name].concat())?;
    assert_eq!(call(&mut victim, "echo", traced).await?.text(), "x", "{kind} {era:?}");
    let lifted = entries(&house.gateway, "event=kill.lifted").await?;
    assert_eq!(lifted.len(), 1);
    let set = entries(&house.gateway, "event=kill.set").await?;
    for part in ["kind", "name"] {
        assert_eq!(set[0]["data"][part], lifted[0]["data"][part]);
    }
    assert_eq!((&set[0]["data"]["kind"], &set[0]["data"]["reason"]), (&json!(kind), &json!("a test")));
    assert!(!set[0].to_string().contains("pcs_"), "the ledger gives no session away");
    Ok(slowest)
}

#[tokio::test]
async fn what_is_killed_ends_within_a_second_is_refused_until_it_is_let_and_nobody_else_notices() -> Outcome {
    for kind in ["caller", "session", "server", "tool", "everything"] {
        for era in Era::ALL {
            let mut slowest = round(kind, era).await?;
            // On a machine that does much else at once a process may get no turn for so long.
            for _ in 0..4 {
                if slowest <= KILLED_WITHIN_MS {
                    break;
                }
                slowest = round(kind, era).await?;
            }
            assert!(slowest <= KILLED_WITHIN_MS, "{kind} {era:?}: it went on for {slowest} ms");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_kill_outlives_a_restart_and_one_by_another_gateway_on_the_same_store_is_heard_of() -> Outcome {
    let mut house = House::start("").await?;
    let key = new_key(&house.gateway, "a", "caller")?;
    house.command(&["kill", "tool", "s/echo"])?;
    house.gateway.stop().await?;
    house.gateway.start_again().await?;
    known(&house.gateway, SOON).await?;
    let mut client = house.client("s", &key, Era::Modern).await?;
    assert_eq!(code_of(&call(&mut client, "echo", false).await?), "killed");
    assert_eq!(call(&mut client, "add", false).await?.text(), "3");

    house.command(&["unkill", "tool", "s/echo"])?;

    // What another gateway on the same store kills is heard of in time, and ends here too.
    let store: Arc<dyn Revisions> = Arc::new(Sqlite::open(house.gateway.data().join("portcullis.db"))?);
    let other = KillSwitch::open(store).await?;
    let Open { endless, streaming, waiting } = Open::all(&house.one, &mut client, false).await?;
    let (target, at) = (KillTarget::read("server", "s")?, Timestamp(1_795_000_000_000));
    let kill = Kill { target: target.clone(), by: "another".into(), at, reason: String::new() };
    assert!(other.kill(kill).await?);
    assert!(rest(endless).await?.contains(r#""code":"killed","killed":"server""#));
    assert!(rest(streaming).await?.contains(r#"code":"killed""#));
    let told = waiting.await??;
    assert!(told.text().contains("by another at 2026-11-18"), "{}", told.text());
    house.one.heal();
    assert!(other.unkill(&target, "another", at).await?);
    let due = Instant::now() + SOON;
    while call(&mut client, "echo", false).await?.text() != "x" {
        assert!(Instant::now() < due, "it does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn on_a_route_over_several_servers_a_killed_one_is_silent_and_the_others_are_heard() -> Outcome {
    let house = House::start("aggregate:\n  enabled: true\n").await?;
    let key = house.gateway.key()?.to_owned();
    let root = format!("{}/mcp", house.gateway.base());
    for era in Era::ALL {
        let mut client = McpClient::connect(&root, Some(&key), era).await?;
        for tool in ["s__echo", "t__echo"] {
            assert_eq!(client.call(tool, json!({"text": "x"})).await?.text(), "x", "{era:?} {tool}");
        }
        let mut stream = match era {
            Era::Modern => {
                let wanted = json!({"notifications": {"toolsListChanged": true}});
                client.open("subscriptions/listen", wanted).await?
            }
            Era::Legacy => client.stream(None).await?,
        };
        first(&mut stream).await?;
        let before = (house.one.hung_up(), house.two.hung_up());
        house.command(&["kill", "server", "s"])?;
        house.one.wait_until(SOON, |server| server.hung_up() > before.0).await?;
        let answer = client.call("s__echo", json!({"text": "x"})).await?;
        assert_eq!(code_of(&answer), "killed", "{era:?}: {}", answer.reply.text());
        assert_eq!(client.call("t__echo", json!({"text": "x"})).await?.text(), "x", "{era:?}");
        assert_eq!(house.two.hung_up(), before.1, "{era:?}: the other is still listened to");
        let before = listened(&house.one);
        house.command(&["unkill", "server", "s"])?;
        house.one.wait_until(SOON, |server| listened(server) > before).await?;
        assert_eq!(client.call("s__echo", json!({"text": "x"})).await?.text(), "x", "{era:?}");
        drop(stream);
    }
    Ok(())
}

#[tokio::test]
async fn a_kill_is_told_to_those_alone_who_may_know_of_what_is_killed_and_mistakes_are_said() -> Outcome {
    let house = House::start("limits:\n  kills_max: 10\n").await?;
    let key = new_key(&house.gateway, "a", "caller")?;
    let killed = house.command(&["kill", "tool", "s/delete", "--reason", "wiped a disk"])?;
    assert!(killed["known"] == true && killed["entry"].is_u64(), "{killed}");
    let again = house.command(&["kill", "tool", "s/delete", "--reason", "another"])?;
    assert!(again["entry"].is_null() && again["kill"]["reason"] == "wiped a disk", "{again}");
    for era in Era::ALL {
        let mut client = house.client("s", &key, era).await?;
        let answer = client.call("delete", json!({"path": "x"})).await?;
        assert_eq!(code_of(&answer), "target.unknown", "{era:?}: {}", answer.reply.text());
        let mut operator = house.client("s", house.gateway.key()?, era).await?;
        let answer = operator.call("delete", json!({"path": "x"})).await?;
        assert_eq!(code_of(&answer), "killed", "{era:?}: {}", answer.reply.text());
        assert!(answer.text().contains("tool `delete`, by admin at 20"), "{}", answer.text());
        assert!(!answer.reply.text().contains("wiped"), "the reason is the operator's own");
    }
    assert_eq!(house.command(&["kill", "server", "nosuch"])?["known"], false);
    for wrong in [
        &["kill", "tool", "echo"][..],
        &["kill", "session", "x"],
        &["kill", "caller", ""],
        &["kill", "server", "s", "--reason", "two\nlines"],
        &["unkill", "server", "s"],
        &["unkill", "everything"],
    ] {
        assert!(!house.gateway.command(wrong)?.status.success(), "{wrong:?}");
    }
    for number in 0..8 {
        house.command(&["kill", "caller", &format!("key:{number}")])?;
    }
    assert!(!house.gateway.command(&["kill", "caller", "key:8"])?.status.success(), "limits.kills_max");
    house.command(&["kill", "everything"])?;
    assert_eq!(house.command(&["kill", "list"])?["kills"].as_array().map(Vec::len), Some(11));

    // Whoever has no token stops nobody.
    let url = format!("{}/v1/kills", house.gateway.admin_base());
    let body = r#"{"kind":"server","name":"t"}"#;
    let headers = [("content-type", "application/json"), ("authorization", "Bearer wrong")];
    let reply = Client::default().send(Method::POST, &url, &headers, body.into()).await?;
    assert_eq!(reply.status, 401);
    assert_eq!(entries(&house.gateway, "event=kill.set").await?.len(), 11);
    Ok(())
}
