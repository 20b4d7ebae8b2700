//! Many servers as one: what `/mcp` and virtual servers list, where their calls go, and what keeps callers and
//! servers apart there. The servers are real: two over HTTP, and the sample server as a child process.

use std::time::Duration;

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{SOON, code_of, entries, known, new_key};
use serde_json::{Value, json};
use tokio::time::Instant;

struct World {
    gateway: Gateway,
    alpha: HostileServer,
    beta: HostileServer,
}

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

/// A gateway before `alpha` and `beta` (HTTP) and `notes` (a child), with `/mcp` and what `extra` says.
async fn world(aggregate: &str, extra: &str) -> Outcome<World> {
    let (alpha, beta) = (HostileServer::start().await?, HostileServer::start().await?);
    let link = json!({"uri": "file:///a", "name": "a"});
    alpha.set_resources(vec![link]);
    let folder = std::path::Path::new(CHILD).parent().ok_or("no folder")?;
    let program = folder.join("portcullis");
    let yaml = format!(
        "servers:\n  alpha:\n    url: {}\n  beta:\n    url: {}\n  notes:\n    command: [{}, sample-server]\n\
         aggregate:\n  enabled: true\n{aggregate}{extra}",
        alpha.url(),
        beta.url(),
        program.display(),
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    Ok(World { gateway, alpha, beta })
}

impl World {
    fn root(&self) -> String {
        format!("{}/mcp", self.gateway.base())
    }

    async fn client(&self, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.root(), Some(self.gateway.key()?), era).await
    }
}

#[tokio::test]
async fn many_servers_are_listed_as_one_in_one_order_and_each_call_reaches_its_own() -> Outcome {
    let world = world("", "").await?;
    for era in Era::ALL {
        let mut client = world.client(era).await?;
        let names = client.list("tools/list").await?;
        assert_eq!(
            names.get(..7).unwrap_or_default(),
            [
                "alpha__echo",
                "alpha__add",
                "alpha__delete",
                "beta__echo",
                "beta__add",
                "beta__delete",
                "notes__echo"
            ],
            "{era:?}"
        );
        assert!(names.iter().all(|name| name.len() <= 46));
        assert_eq!(names, client.list("tools/list").await?, "{era:?}");
        let before = (world.alpha.count("tools/call"), world.beta.count("tools/call"));
        for tool in ["alpha__echo", "beta__echo", "notes__echo"] {
            let answer = client.call(tool, json!({"text": tool})).await?;
            assert!(answer.text().contains(tool), "{era:?} {tool}: {}", answer.reply.text());
        }
        assert_eq!(
            (world.alpha.count("tools/call"), world.beta.count("tools/call")),
            (before.0 + 1, before.1 + 1)
        );
        let sent = world.beta.received().into_iter().rfind(|one| one.method == "tools/call").unwrap();
        assert_eq!(sent.json().pointer("/params/name"), Some(&json!("echo")), "the server knows no prefix");
        if era == Era::Modern {
            assert_eq!(sent.header("mcp-name"), Some("echo"));
        }
        let unknown = client.call("beta__nothing", json!({})).await?;
        assert_eq!(code_of(&unknown), "target.unknown");
        assert!(unknown.reply.text().contains("beta__nothing"), "named as the client named it");
        for tool in ["echo", "gamma__echo", "__echo"] {
            assert_eq!(code_of(&client.call(tool, json!({})).await?), "target.unknown", "{tool}");
        }
    }
    let calls = entries(&world.gateway, "event=call.intent&tool=echo").await?;
    let servers: Vec<_> =
        calls.iter().filter_map(|entry| entry.pointer("/target/server")?.as_str()).collect();
    assert!(["alpha", "beta", "notes"].iter().all(|name| servers.contains(name)), "{servers:?}");
    Ok(())
}

#[tokio::test]
async fn resources_are_listed_read_and_linked_under_one_uri() -> Outcome {
    let world = world("", "").await?;
    for era in Era::ALL {
        let mut client = world.client(era).await?;
        let list = client.request("resources/list", json!({})).await?;
        let uri = list.result().pointer("/resources/0/uri").cloned();
        assert_eq!(uri, Some(json!("mcp://alpha/file:///a")), "{}", list.reply.text());
        let read = client.request("resources/read", json!({"uri": "mcp://alpha/file:///a"})).await?;
        assert_eq!(read.result().pointer("/contents/0/uri"), Some(&json!("mcp://alpha/file:///a")));
        let unknown = client.request("resources/read", json!({"uri": "file:///a"})).await?;
        assert!(unknown.result().is_null(), "{}", unknown.reply.text());
        let linked = json!({"content": [{"type": "resource_link", "uri": "file:///a", "name": "a"}]});
        let linked = if era == Era::Modern {
            let mut linked = linked;
            linked["resultType"] = json!("complete");
            linked
        } else {
            linked
        };
        world.alpha.on("tools/call", Hostile::Answer(linked));
        let answer = client.call("alpha__echo", json!({"text": "x"})).await?;
        assert_eq!(answer.result().pointer("/content/0/uri"), Some(&json!("mcp://alpha/file:///a")));
        world.alpha.heal();
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_server_delays_a_list_by_its_own_timeout_and_is_named_and_keeps_nobody_else_from_answering()
-> Outcome {
    let world = world("  member_timeout_ms: 2000\n", "").await?;
    let mut client = world.client(Era::Modern).await?;
    assert_eq!(client.list("tools/list").await?.len(), client.list("tools/list").await?.len());
    world.beta.on("*", Hostile::HangBeforeHeaders);
    let begun = Instant::now();
    let answer = client.request("tools/list", json!({})).await?;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(answer.result().pointer("/_meta/dev.portcullis~1unavailable"), Some(&json!(["beta"])));
    let names = answer.names();
    assert!(
        names.contains(&"alpha__echo".to_owned()) && names.contains(&"beta__echo".to_owned()),
        "{names:?}"
    );
    let answer = client.call("alpha__echo", json!({"text": "still here"})).await?;
    assert!(answer.text().contains("still here"));
    Ok(())
}

#[tokio::test]
async fn a_page_is_continued_by_its_own_caller_alone_on_its_own_route() -> Outcome {
    let extra = "virtual_servers:\n  some:\n    tools: {alpha: [echo, add], beta: [\"*\"]}\n";
    let world = world("  page_size: 2\n", extra).await?;
    let mut client = world.client(Era::Modern).await?;
    let all = client.list("tools/list").await?;
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((all.len(), sorted.len() > 6), (sorted.len(), true), "every tool once: {all:?}");
    let first = client.request("tools/list", json!({})).await?;
    let cursor = first.result().get("nextCursor").and_then(Value::as_str).ok_or("one page")?.to_owned();
    let other = new_key(&world.gateway, "other", "operator")?;
    let mut other = McpClient::connect(&world.root(), Some(&other), Era::Modern).await?;
    let mut some =
        McpClient::connect(&world.gateway.url("some"), Some(world.gateway.key()?), Era::Modern).await?;
    assert!(client.request("tools/list", json!({"cursor": cursor})).await?.result().is_object());
    for (what, answer) in [
        ("another caller", other.request("tools/list", json!({"cursor": cursor})).await?),
        ("another route", some.request("tools/list", json!({"cursor": cursor})).await?),
        ("another list", client.request("prompts/list", json!({"cursor": cursor})).await?),
        ("made up", client.request("tools/list", json!({"cursor": "1:alpha:0:0:00"})).await?),
        ("empty", client.request("tools/list", json!({"cursor": ""})).await?),
    ] {
        let code = answer.messages.first().and_then(|message| message.pointer("/error/code")?.as_i64());
        assert_eq!(code, Some(-32602), "{what}: {}", answer.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_virtual_server_shows_its_selection_and_policy_speaks_about_the_route_and_the_real_tools() -> Outcome
{
    let extra = "virtual_servers:\n  some:\n    description: a few tools\n    tools: {alpha: [echo, add], beta: [\"d*\"]}\n\
                 roles:\n  adder:\n    allow:\n      - actions: [connect]\n        servers: [some]\n      - actions: [call_tool]\n        \
                 tools: [add, delete]\n  outsider:\n    allow:\n      - actions: [call_tool]\n";
    let world = world("", extra).await?;
    let url = world.gateway.url("some");
    for era in Era::ALL {
        let mut client = McpClient::connect(&url, Some(world.gateway.key()?), era).await?;
        assert_eq!(client.list("tools/list").await?, ["alpha__echo", "alpha__add", "beta__delete"]);
        assert!(client.list("resources/list").await?.is_empty());
        assert_eq!(
            code_of(&client.call("beta__echo", json!({"text": "x"})).await?),
            "target.unknown",
            "not selected"
        );
        let adder = new_key(&world.gateway, &format!("adder{}", era.version()), "adder")?;
        let mut adder = McpClient::connect(&url, Some(&adder), era).await?;
        assert_eq!(
            adder.list("tools/list").await?,
            ["alpha__add", "beta__delete"],
            "filtered by the real tools"
        );
        assert_eq!(adder.call("alpha__add", json!({"a": 1, "b": 2})).await?.text(), "3");
        assert_eq!(code_of(&adder.call("alpha__echo", json!({"text": "x"})).await?), "target.unknown");
    }
    let outsider = new_key(&world.gateway, "outsider", "outsider")?;
    let mut outsider = McpClient::new(&url, Some(&outsider), Era::Modern);
    let before = world.alpha.count("tools/call");
    assert_eq!(code_of(&outsider.request("tools/list", json!({})).await?), "policy.denied");
    assert_eq!(code_of(&outsider.call("alpha__add", json!({"a": 1, "b": 2})).await?), "policy.denied");
    assert_eq!(world.alpha.count("tools/call"), before, "nothing was forwarded");
    Ok(())
}

#[tokio::test]
async fn a_list_that_its_server_wants_fresh_is_asked_for_each_time() -> Outcome {
    let world = world("", "").await?;
    let mut client = world.client(Era::Modern).await?;
    client.list("tools/list").await?;
    let before = world.alpha.count("tools/list");
    client.list("tools/list").await?;
    assert!(world.alpha.count("tools/list") > before, "`ttlMs: 0` is not served again");
    Ok(())
}

#[tokio::test]
async fn the_route_over_all_servers_is_there_only_where_it_is_switched_on() -> Outcome {
    let server = HostileServer::start().await?;
    let gateway = Gateway::start(&format!("servers:\n  s:\n    url: {}\n", server.url())).await?;
    let mut client = McpClient::new(&format!("{}/mcp", gateway.base()), Some(gateway.key()?), Era::Modern);
    let answer = client.request("tools/list", json!({})).await?;
    assert_eq!((answer.status().as_u16(), code_of(&answer).as_str()), (404, "server.unknown"));
    Ok(())
}

#[tokio::test]
async fn a_list_is_judged_anew_by_other_detectors_and_each_time_where_they_find_something() -> Outcome {
    let server = HostileServer::start().await?;
    let secret = ["AKIA", "R5KY8SN3", "UCX6AP4E"].concat();
    let described = format!("Ask with {secret}.");
    server.set_tools(vec![
        json!({"name": "echo", "description": described, "inputSchema": {"type": "object"}}),
    ]);
    let (off, on) = ("  credentials:\n    enabled: false\n", "  credentials:\n    enabled: true\n");
    let gateway = Gateway::start(&format!(
        "servers:\n  s:\n    url: {}\naggregate:\n  enabled: true\ninspect:\n{off}",
        server.url()
    ))
    .await?;
    known(&gateway, SOON).await?;
    let changes = async |from: &str, to: &str, count: usize| -> Outcome {
        gateway.rewrite(|yaml| yaml.replace(from, to))?;
        gateway.reload()?;
        let due = Instant::now() + SOON;
        while entries(&gateway, "event=config.changed").await?.len() < count {
            assert!(Instant::now() < due, "the change was not taken");
        }
        // Recorded before it takes effect: from the first answer that shows it on, every one does.
        let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Modern);
        while client.request("tools/list", json!({})).await?.reply.text().contains(&secret) != (to == off) {
            assert!(Instant::now() < due, "the change did not take effect");
        }
        Ok(())
    };
    let lists = async |shown: bool| -> Outcome {
        for url in [gateway.url("s"), format!("{}/mcp", gateway.base())] {
            let mut client = McpClient::new(&url, Some(gateway.key()?), Era::Modern);
            for _ in 0..3 {
                let text = client.request("tools/list", json!({})).await?.reply.text();
                assert!(text.contains("Ask with "), "{text}");
                assert_eq!(text.contains(&secret), shown, "{text}");
            }
        }
        Ok(())
    };
    lists(true).await?;
    changes(off, on, 1).await?;
    lists(false).await?;
    let all = entries(&gateway, "").await?;
    let found =
        all.iter().filter(|entry| entry["findings"].as_array().is_some_and(|found| !found.is_empty()));
    assert_eq!(found.count(), 7, "each time: {all:?}");
    changes(on, off, 2).await?;
    lists(true).await
}
