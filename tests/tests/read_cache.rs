//! What a server says that it may be kept is read from it once: by whom it may be shared, until when, and what each
//! caller sees of it.

use portcullis_testkit::{Answer, Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{SOON, entries, known, new_key, soon};
use serde_json::{Value, json};

const HOUR_MS: u64 = 3_600_000;

struct World {
    gateway: Gateway,
    server: HostileServer,
}

/// A gateway before `s`, which has two resources, with roles `plain` and `masked`, and `/mcp`.
async fn world(extra: &str) -> Outcome<World> {
    let server = HostileServer::start().await?;
    server.set_resources(vec![json!({"uri": "x://a", "name": "a"}), json!({"uri": "x://b", "name": "b"})]);
    let yaml = format!(
        "servers:\n  s:\n    url: {}\naggregate:\n  enabled: true\nroles:\n  \
         plain:\n    allow:\n      - actions: [connect, read_resource, subscribe_resource]\n  \
         masked:\n    allow:\n      - actions: [connect]\n      - actions: [read_resource]\n        mask: [email]\n  \
         nobody:\n    allow:\n      - actions: [connect]\n\
         {extra}",
        server.url(),
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    Ok(World { gateway, server })
}

impl World {
    /// What `resources/read` answers from now on.
    fn says(&self, scope: &str, ttl_ms: u64, text: &str) {
        let contents = json!([{"uri": "x://a", "text": text}]);
        let result =
            json!({"resultType": "complete", "ttlMs": ttl_ms, "cacheScope": scope, "contents": contents});
        self.server.on("resources/read", Hostile::Answer(result));
    }

    fn client(&self, name: &str, role: &str, route: &str) -> Outcome<McpClient> {
        let key = new_key(&self.gateway, name, role)?;
        Ok(McpClient::new(&format!("{}{route}", self.gateway.base()), Some(&key), Era::Modern))
    }

    fn reads(&self) -> usize {
        self.server.count("resources/read")
    }
}

/// Entries of this class about reads.
async fn about_reads(gateway: &Gateway, event: &str) -> Outcome<Vec<Value>> {
    let entries = entries(gateway, &format!("event={event}")).await?;
    Ok(entries.into_iter().filter(|entry| entry["method"] == "resources/read").collect())
}

async fn read(client: &mut McpClient, uri: &str) -> Outcome<Answer> {
    let answer = client.request("resources/read", json!({"uri": uri})).await?;
    if answer.result().is_null() { Err(answer.reply.text().into()) } else { Ok(answer) }
}

fn text(answer: &Answer) -> &str {
    answer.result().pointer("/contents/0/text").and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn a_public_result_is_read_once_for_everybody_on_every_route_and_masked_for_whom_policy_says() -> Outcome
{
    let world = world("").await?;
    world.says("public", HOUR_MS, "write to ada@example.org");
    let mut plain = world.client("plain", "plain", "/mcp/s")?;
    let mut masked = world.client("masked", "masked", "/mcp/s")?;
    let mut merged = world.client("merged", "plain", "/mcp")?;
    let first = read(&mut plain, "x://a").await?;
    let kept = read(&mut plain, "x://a").await?;
    assert_eq!(text(&first), text(&kept));
    assert_eq!(text(&kept), "write to ada@example.org");
    assert_ne!(first.response()["id"], kept.response()["id"], "each is answered by its own id");
    for answer in [&first, &kept] {
        assert_eq!(answer.result()["cacheScope"], "private", "what one caller is shown is for it alone");
    }
    let left = kept.result()["ttlMs"].as_u64().unwrap_or(u64::MAX);
    assert!(left <= 300_000, "not longer than limits.read_cache_ttl_ms: {left}");
    let text_of_masked = read(&mut masked, "x://a").await?;
    assert_eq!(text(&text_of_masked), "write to [masked:email]");
    let by_route = read(&mut merged, "mcp://s/x://a").await?;
    assert_eq!(by_route.result()["contents"][0]["uri"], "mcp://s/x://a", "under the name of the route");
    assert_eq!(text(&by_route), "write to ada@example.org");
    assert_eq!(world.reads(), 1, "the server was asked once");
    // Who may not read it does not get it from the cache either.
    let mut nobody = world.client("nobody", "nobody", "/mcp/s")?;
    assert!(read(&mut nobody, "x://a").await.is_err());
    // Each call is recorded, and its outcome says where the answer came from.
    assert_eq!(about_reads(&world.gateway, "call.intent").await?.len(), 4);
    let outcomes = about_reads(&world.gateway, "call.outcome").await?;
    let kept = outcomes.iter().filter(|entry| entry["detail"] == "from the cache").count();
    assert_eq!((outcomes.len(), kept), (4, 3), "{outcomes:?}");
    Ok(())
}

#[tokio::test]
async fn a_private_result_never_crosses_callers_and_serves_its_own() -> Outcome {
    let world = world("").await?;
    let (mut ada, mut bob) =
        (world.client("ada", "plain", "/mcp/s")?, world.client("bob", "plain", "/mcp/s")?);
    world.says("private", HOUR_MS, "for ada");
    assert_eq!(text(&read(&mut ada, "x://a").await?), "for ada");
    world.says("private", HOUR_MS, "for bob");
    assert_eq!(text(&read(&mut bob, "x://a").await?), "for bob");
    world.says("private", HOUR_MS, "for nobody");
    assert_eq!(text(&read(&mut ada, "x://a").await?), "for ada");
    assert_eq!(text(&read(&mut bob, "x://a").await?), "for bob");
    assert_eq!(world.reads(), 2);
    Ok(())
}

#[tokio::test]
async fn nothing_is_kept_beyond_its_time_or_without_one_or_with_words_that_are_none_of_the_protocol()
-> Outcome {
    let world = world("").await?;
    let mut client = world.client("ada", "plain", "/mcp/s")?;
    let complete = |more: Value| {
        let mut result = json!({"resultType": "complete", "contents": []});
        for (name, value) in more.as_object().into_iter().flatten() {
            result[name] = value.clone();
        }
        Hostile::Answer(result)
    };
    for (what, answer) in [
        ("no ttlMs", complete(json!({"cacheScope": "public"}))),
        ("ttlMs 0", complete(json!({"cacheScope": "public", "ttlMs": 0}))),
        ("a negative ttlMs", complete(json!({"cacheScope": "public", "ttlMs": -5}))),
        ("ttlMs as text", complete(json!({"cacheScope": "public", "ttlMs": "9000"}))),
        ("no scope", complete(json!({"ttlMs": 9000}))),
        ("an unknown scope", complete(json!({"ttlMs": 9000, "cacheScope": "all"}))),
        ("not complete", complete(json!({"ttlMs": 9000, "cacheScope": "public", "resultType": "odd"}))),
        (
            "a question",
            complete(
                json!({"ttlMs": 9000, "cacheScope": "public", "requestState": "s", "inputRequests": {}}),
            ),
        ),
    ] {
        world.server.on("resources/read", answer);
        let before = world.reads();
        for _ in 0..2 {
            let _ = client.request("resources/read", json!({"uri": "x://a"})).await?;
        }
        assert_eq!(world.reads(), before + 2, "{what}");
    }
    world.says("public", HOUR_MS, "kept");
    let before = world.reads();
    for params in [
        json!({"uri": "x://a", "inputResponses": {}}),
        json!({"uri": "x://a", "requestState": "s"}),
        json!({"uri": "x://a", "_meta": {"odd.example/mode": "raw"}}),
    ] {
        for _ in 0..2 {
            let _ = client.request("resources/read", params.clone()).await?;
        }
    }
    assert_eq!(world.reads(), before + 6, "what else may depend on the request is asked for each time");
    world.says("public", 200, "short");
    let before = world.reads();
    read(&mut client, "x://b").await?;
    let begun = std::time::Instant::now();
    while world.reads() == before + 1 {
        let left = read(&mut client, "x://b").await?.result()["ttlMs"].as_u64().unwrap_or(u64::MAX);
        assert!(left <= 200, "{left}");
        assert!(begun.elapsed() < SOON, "it is kept for ever");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_says_has_changed_is_read_again() -> Outcome {
    let world = world("").await?;
    let mut client = world.client("ada", "plain", "/mcp/s")?;
    world.says("public", HOUR_MS, "before");
    for (method, params, route) in [
        ("notifications/resources/updated", json!({"uri": "x://a"}), "/mcp/s"),
        ("notifications/resources/list_changed", json!({}), "/mcp/s"),
        ("notifications/resources/updated", json!({"uri": "x://a"}), "/mcp"),
    ] {
        read(&mut client, "x://a").await?;
        let before = world.reads();
        read(&mut client, "x://a").await?;
        assert_eq!(world.reads(), before, "{method} {route}: kept");
        let note = json!({"jsonrpc": "2.0", "method": method, "params": params});
        world.server.on("subscriptions/listen", Hostile::Raw(
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: {note}\n\n").into_bytes(),
        ));
        let mut listener = world.client(&format!("l{}{}", method.len(), route.len()), "plain", route)?;
        let uri = if route == "/mcp" { "mcp://s/x://a" } else { "x://a" };
        let wanted = json!({"notifications": {"resourceSubscriptions": [uri], "resourcesListChanged": true}});
        let mut stream = listener.open("subscriptions/listen", wanted).await?;
        let mut seen = String::new();
        while !seen.contains(method) {
            let piece = stream.next(SOON).await?.ok_or_else(|| format!("the stream ended: {seen}"))?;
            seen.push_str(std::str::from_utf8(&piece)?);
        }
        drop(stream);
        world.server.on("subscriptions/listen", Hostile::HangBeforeHeaders);
        read(&mut client, "x://a").await?;
        assert!(world.reads() > before, "{method} {route}: asked again");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_learns_to_do_more_is_asked_for_it_with_its_catalogue() -> Outcome {
    let discover = |capabilities: Value| {
        Hostile::Answer(json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "supportedVersions": ["2026-07-28"], "capabilities": capabilities}))
    };
    let server = HostileServer::start().await?;
    server.set_resources(vec![json!({"uri": "x://a", "name": "a"})]);
    server.on("server/discover", discover(json!({"tools": {}})));
    let yaml = format!(
        "servers:\n  s:\n    url: {}\naggregate:\n  enabled: true\nlimits:\n  catalog_refresh_ms: 200\n",
        server.url()
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::new(&format!("{}/mcp", gateway.base()), Some(gateway.key()?), Era::Modern);
    let said = client.request("server/discover", json!({})).await?;
    assert!(said.result()["capabilities"]["resources"].is_null(), "{}", said.reply.text());
    server.on("server/discover", discover(json!({"tools": {}, "resources": {}})));
    let asked = server.count("resources/list");
    soon("its resources are asked for", || server.count("resources/list") > asked).await?;
    let begun = std::time::Instant::now();
    loop {
        let said = client.request("server/discover", json!({})).await?;
        if !said.result()["capabilities"]["resources"].is_null() {
            return Ok(());
        }
        assert!(begun.elapsed() < SOON, "{}", said.reply.text());
    }
}
