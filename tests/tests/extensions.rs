//! Methods and extensions beyond the specification: refused, unheard and untold unless the operator lists them.

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, SOON, code_of, entries, known, new_key, verdict};
use serde_json::{Value, json};

const LISTED: &str = "    methods: [acme/frob, notifications/acme, acme/ask]\n    extensions: [com.acme/x]\n";

#[tokio::test]
async fn a_method_beyond_the_specification_passes_only_where_it_is_listed_and_policy_allows_it() -> Outcome {
    for (extra, passes) in [("", false), (LISTED, true)] {
        let pair = Pair::with(HostileServer::start().await?, extra, &[]).await?;
        let admin = new_key(&pair.gateway, "all", "admin")?;
        pair.server.on(
            "acme/frob",
            Hostile::Answer(json!({"resultType": "complete",
            "odd": "card 4111111111111111"})),
        );
        for era in Era::ALL {
            let mut client = McpClient::connect(&pair.gateway.url("s"), Some(&admin), era).await?;
            let answer = client.request("acme/frob", json!({"x": 1})).await?;
            let refused = if era == Era::Legacy { 200 } else { 404 };
            if !passes {
                assert_eq!(verdict(&answer), (refused, "method.unknown".to_owned()));
                assert_eq!(pair.server.count("acme/frob"), 0);
                continue;
            }
            assert_eq!(answer.result()["odd"], "card [masked:payment_card]", "{}", answer.reply.text());
            let other = client.request("acme/other", json!({})).await?;
            assert_eq!(verdict(&other), (refused, "method.unknown".to_owned()));
            // A name that only case tells apart is another name.
            assert_eq!(code_of(&client.request("Acme/frob", json!({})).await?), "method.unknown");
            let mut operator = pair.client(era).await?;
            assert_eq!(code_of(&operator.request("acme/frob", json!({})).await?), "policy.denied");
            let note = json!({"jsonrpc": "2.0", "method": "notifications/acme", "params": {"y": 1}});
            assert_eq!(client.notify(&note).await?.status, 202);
            assert_eq!(pair.server.count("notifications/acme"), if era == Era::Legacy { 1 } else { 2 });
        }
        if passes {
            let all = entries(&pair.gateway, "event=call.intent").await?;
            let named = all.iter().filter(|entry| entry["method"] == "acme/frob").count();
            assert_eq!(named, 2, "{all:?}");
            assert!(all.iter().any(|entry| entry["action"] == "call_method"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_a_server_says_beyond_the_specification_reaches_a_client_only_where_it_is_listed() -> Outcome {
    let events = vec![
        r#"{"jsonrpc":"2.0","method":"notifications/acme","params":{"text":"psst"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/acme","params":{"text":"psst again"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","content":[]}}"#.to_owned(),
    ];
    for (extra, passes) in [("", false), (LISTED, true)] {
        let pair = Pair::with(HostileServer::start().await?, extra, &[]).await?;
        pair.server.on("tools/call", Hostile::Events(events.clone()));
        for era in Era::ALL {
            let mut client = pair.client(era).await?;
            let answer = client.call("echo", json!({"text": "x"})).await?;
            assert!(answer.result().get("content").is_some(), "{}", answer.reply.text());
            assert_eq!(answer.reply.text().contains("psst"), passes, "{}", answer.reply.text());
        }
        let dropped = entries(&pair.gateway, "event=server.request").await?;
        let dropped: Vec<_> = dropped.iter().map(|entry| (&entry["method"], &entry["code"])).collect();
        let (method, code) = (json!("notifications/acme"), json!("method.unknown"));
        // One entry a stream, however much is said.
        assert_eq!(dropped, if passes { vec![] } else { vec![(&method, &code); 2] });
    }
    Ok(())
}

#[tokio::test]
async fn an_extension_is_offered_to_the_other_side_only_where_it_is_listed_or_understood() -> Outcome {
    let offered = json!({"com.acme/x": {"deep": [1.0]}, "io.modelcontextprotocol/tasks": {},
        "io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}, "org.other/y": {}});
    let names = |value: &Value| -> Vec<String> {
        value.as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default()
    };
    let understood = ["io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"];
    for (extra, expected) in
        [("", understood.to_vec()), (LISTED, [&["com.acme/x"], &understood[..]].concat())]
    {
        let server = HostileServer::start().await?;
        let info = json!({"name": "s", "version": "1"});
        let capabilities = json!({"tools": {}, "extensions": offered});
        server.on(
            "initialize",
            Hostile::Answer(json!({"protocolVersion": "2025-11-25", "serverInfo": info,
            "capabilities": capabilities})),
        );
        server.on(
            "server/discover",
            Hostile::Answer(json!({"resultType": "complete", "serverInfo": info,
            "supportedVersions": ["2026-07-28", "2025-11-25"], "capabilities": capabilities,
            "ttlMs": 0, "cacheScope": "private"})),
        );
        let yaml = format!("servers:\n  s:\n    url: {}\n{extra}", server.url());
        let gateway = Gateway::start(&yaml).await?;
        known(&gateway, SOON).await?;
        server.forget();
        for (era, method) in [(Era::Legacy, "initialize"), (Era::Modern, "server/discover")] {
            let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), era);
            let own = json!({"extensions": offered, "elicitation": {}});
            let params = match era {
                Era::Legacy => json!({"protocolVersion": "2025-11-25", "capabilities": own,
                    "clientInfo": {"name": "c", "version": "1"}}),
                Era::Modern => json!({"_meta": {"io.modelcontextprotocol/clientCapabilities": own}}),
            };
            let answer = client.request(method, params).await?;
            let told = &answer.result()["capabilities"];
            assert_eq!(names(&told["extensions"]), expected, "{}", answer.reply.text());
            assert!(told.get("tools").is_some());
            let heard = server.received().into_iter().rfind(|request| request.method == method);
            let heard = heard.ok_or("nothing heard")?.json();
            let heard = match era {
                Era::Legacy => &heard["params"]["capabilities"],
                Era::Modern => &heard["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"],
            };
            assert_eq!(names(&heard["extensions"]), expected, "{heard}");
            assert!(heard.get("elicitation").is_some());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_method_of_the_specification_cannot_be_listed() -> Outcome {
    let yaml = "servers:\n  s:\n    url: http://127.0.0.1:1/mcp\n    methods: [tools/call, 'a b']\n";
    let (status, text) = Gateway::builder().config(yaml).refused().await?;
    assert!(!status.success());
    assert!(text.contains("is a method of the specification") && text.contains("`a b`"), "{text}");
    Ok(())
}

/// What a role may do on a route with a page of an app, a file, and a tool that shows the page.
const APPS: &str = "roles:
  viewer:
    allow:
      - actions: [connect]
      - actions: [call_tool]
      - actions: [read_resource]
        resources: ['ui://charts/*']
  caller:
    allow:
      - actions: [connect]
      - actions: [call_tool]
";

#[tokio::test]
async fn the_page_of_an_app_is_read_as_a_resource_and_by_whom_policy_allows_alone() -> Outcome {
    let server = HostileServer::start().await?;
    let meta = json!({"ui": {"resourceUri": "ui://charts/view", "visibility": ["model", "app"], "n": 1.0},
        "ui/resourceUri": "ui://charts/view"});
    server.set_tools(vec![json!({"name": "chart", "inputSchema": {"type": "object"}, "_meta": meta})]);
    let media = "text/html;profile=mcp-app";
    server.set_resources(vec![
        json!({"uri": "ui://charts/view", "name": "view", "mimeType": media,
            "_meta": {"ui": {"csp": {"connectDomains": ["https://api.example"]}}}}),
        json!({"uri": "ui://admin/panel", "name": "panel", "mimeType": media}),
    ]);
    let page = "<!doctype html><script>ui('4111111111111111')</script>";
    server.on(
        "resources/read",
        Hostile::Answer(json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "contents": [{"uri": "ui://charts/view", "mimeType": media, "text": page,
                "_meta": {"ui": {"prefersBorder": true}}}]})),
    );
    let gateway = Gateway::start(&format!("{APPS}servers:\n  s:\n    url: {}\n", server.url())).await?;
    known(&gateway, SOON).await?;
    let (viewer, caller) = (new_key(&gateway, "v", "viewer")?, new_key(&gateway, "c", "caller")?);
    for era in Era::ALL {
        let mut client = McpClient::connect(&gateway.url("s"), Some(&viewer), era).await?;
        let tools = client.request("tools/list", json!({})).await?;
        assert_eq!(tools.result().pointer("/tools/0/_meta"), Some(&meta), "{}", tools.reply.text());
        assert!(tools.reply.text().contains("1.0"), "a number was written anew");
        assert_eq!(client.list("resources/list").await?, ["view"], "{era:?}: only what may be read");
        let read = client.request("resources/read", json!({"uri": "ui://charts/view"})).await?;
        let content = &read.result()["contents"][0];
        assert_eq!(content["mimeType"], media, "{}", read.reply.text());
        assert_eq!(content["_meta"], json!({"ui": {"prefersBorder": true}}));
        // It is inspected like any other.
        assert_eq!(content["text"], page.replace("4111111111111111", "[masked:payment_card]"));
        assert_eq!(client.call("chart", json!({})).await?.status(), 200);

        server.forget();
        let mut other = McpClient::connect(&gateway.url("s"), Some(&caller), era).await?;
        let hidden = other.request("resources/read", json!({"uri": "ui://charts/view"})).await?;
        let unknown = other.request("resources/read", json!({"uri": "ui://charts/none"})).await?;
        let panel = client.request("resources/read", json!({"uri": "ui://admin/panel"})).await?;
        for (who, refused) in [("caller", &hidden), ("nobody", &unknown), ("viewer", &panel)] {
            assert!(refused.result().is_null(), "{era:?} {who}: {}", refused.reply.text());
            assert_eq!(
                verdict(refused),
                verdict(&unknown),
                "{era:?} {who}: it shows that there is something"
            );
        }
        assert_eq!(other.list("resources/list").await?, Vec::<String>::new());
        assert_eq!(server.count("resources/read"), 0, "what was refused reached the server");
    }
    let reads = entries(&gateway, "event=call.intent").await?;
    let reads: Vec<_> = reads.iter().filter(|entry| entry["method"] == "resources/read").collect();
    assert_eq!(reads.len(), 2);
    assert!(reads.iter().all(|entry| entry["action"] == "read_resource"), "{reads:?}");
    let refused = entries(&gateway, "event=call.refused").await?;
    let refused = refused.iter().filter(|entry| entry["method"] == "resources/read").count();
    assert_eq!(refused, 6, "each refusal is one entry");
    Ok(())
}
