//! Approvals in a chat system: questions are posted there, signed, and a signed answer of a known user counts once, for
//! the key that configuration names.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_testkit::{Client, Era, Gateway, HostileServer, McpClient, Outcome, Reply};
use portcullis_tests::pair::{code_of, entries, known, new_key};
use serde_json::{Value, json};

/// How long anything that must happen may take on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

const YAML: &str = "roles:
  lead: {}
  caller:
    allow:
      - actions: [connect]
      - actions: [call_tool]
        tools: [echo]
        approval: {roles: [lead]}
      - actions: [call_tool]
        tools: [add]
        approval: {people: 2, roles: [lead]}
";

/// A chat system that refuses the first post, takes the others, and says what it got.
struct Chat {
    url: String,
    posts: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Chat {
    async fn start() -> Outcome<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let posts: Arc<Mutex<Vec<(HeaderMap, Bytes)>>> = Arc::default();
        let shared = Arc::clone(&posts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let posts = Arc::clone(&shared);
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let posts = Arc::clone(&posts);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        let mut posts = posts.lock().unwrap_or_else(|error| error.into_inner());
                        posts.push((head.headers, body));
                        let mut response = Response::new(Full::new(Bytes::new()));
                        if posts.len() == 1 {
                            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { url, posts })
    }

    fn posts(&self) -> Vec<(HeaderMap, Bytes)> {
        self.posts.lock().map(|posts| posts.clone()).unwrap_or_default()
    }

    /// Everything that was posted, once it is so much.
    async fn after(&self, count: usize) -> Outcome<Vec<(HeaderMap, Bytes)>> {
        let due = Instant::now() + SOON;
        while self.posts().len() < count {
            if Instant::now() > due {
                return Err(format!("{} posts instead of {count}", self.posts().len()).into());
            }
            // There is nothing to wait for: the gateway posts when it does.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self.posts())
    }
}

fn sign(secret: &str, id: &str, seconds: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let content = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &content)))
}

fn now() -> Outcome<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

struct House {
    gateway: Gateway,
    server: HostileServer,
    key: String,
}

/// Name, URL, and the key of each user who answers there.
type Hook<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// An answer on its way: what may be wrong with it.
struct Said<'a> {
    hook: &'a str,
    id: &'a str,
    secret: &'a str,
    seconds: u64,
    body: Value,
}

impl House {
    async fn start() -> Outcome<Self> {
        let server = HostileServer::start().await?;
        let yaml = format!("{YAML}servers:\n  s:\n    url: {}\n", server.url());
        let gateway = Gateway::start(&yaml).await?;
        known(&gateway, SOON).await?;
        let key = new_key(&gateway, "caller", "caller")?;
        Ok(Self { gateway, server, key })
    }

    /// A key of a person: its id and its file.
    fn person(&self, name: &str, role: &str) -> Outcome<(String, String)> {
        let output = self.gateway.command(&["key", "create", name, "--role", role, "--user", "--json"])?;
        let made: Value = serde_json::from_slice(&output.stdout)?;
        let text = made["text"].as_str().ok_or("no text")?;
        let file = self.gateway.folder().join(format!("{name}.key"));
        std::fs::write(&file, text)?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let id = text.split('_').nth(1).ok_or("no id")?.to_owned();
        Ok((id, file.to_string_lossy().into_owned()))
    }

    /// Starts again with these chat systems: name, URL, user and key of one who answers there.
    async fn with_hooks(&mut self, hooks: &[Hook<'_>]) -> Outcome {
        let file = self.gateway.folder().join("chat.secret");
        std::fs::write(&file, SECRET)?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let mut section = String::from("approval_hooks:\n");
        for (name, url, people) in hooks {
            let people: Vec<String> = people.iter().map(|(user, key)| format!("{user}: {key}")).collect();
            section.push_str(&format!(
                "  {name}: {{url: '{url}', secret: 'file:{}', people: {{{}}}}}\n",
                file.display(),
                people.join(", ")
            ));
        }
        self.gateway.rewrite(|yaml| format!("{yaml}{section}"))?;
        self.gateway.stop().await?;
        self.gateway.start_again().await?;
        known(&self.gateway, SOON).await
    }

    async fn client(&self) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url("s"), Some(&self.key), Era::Modern).await
    }

    async fn send(&self, said: &Said<'_>) -> Outcome<Reply> {
        let body = Bytes::from(said.body.to_string());
        let signature = sign(said.secret, said.id, said.seconds, &body);
        let url = format!("{}/v1/approvals/answer/{}", self.gateway.admin_base(), said.hook);
        let seconds = said.seconds.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", said.id),
            ("webhook-timestamp", seconds.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        Client::default().send(Method::POST, &url, &headers, body).await
    }

    fn state(&self, id: &str) -> Outcome<Value> {
        let output = self.gateway.command(&["approval", "show", id, "--json"])?;
        Ok(serde_json::from_slice::<Value>(&output.stdout)?["state"].clone())
    }
}

fn answer(approval: &str, user: &str, answer: &str) -> Value {
    json!({"kind": "approval.answer", "approval": approval, "user": user, "answer": answer, "reason": "CHG-1"})
}

async fn asked(client: &mut McpClient, tool: &str, arguments: Value) -> Outcome<String> {
    let refused = client.call(tool, arguments).await?;
    if code_of(&refused) != "approval.required" {
        return Err(format!("not asked: {}", refused.reply.text()).into());
    }
    let data = &refused.result()["_meta"]["dev.portcullis/data"];
    Ok(data["approval"].as_str().ok_or("no name")?.to_owned())
}

#[tokio::test]
async fn a_question_is_posted_signed_until_it_arrives_only_where_somebody_may_answer_it() -> Outcome {
    let mut house = House::start().await?;
    let (chat, strangers) = (Chat::start().await?, Chat::start().await?);
    // It takes connections and never says a word.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0")?;
    let deaf_url = format!("http://{}/", deaf.local_addr()?);
    let ((alice, _), (stranger, _)) = (house.person("alice", "lead")?, house.person("stranger", "caller")?);
    let hooks: [Hook<'_>; 3] = [
        ("chat", &chat.url, &[("U1", &alice)]),
        ("deaf", &deaf_url, &[("U1", &alice)]),
        ("strangers", &strangers.url, &[("U1", &stranger)]),
    ];
    house.with_hooks(&hooks).await?;
    let mut client = house.client().await?;
    // The call is answered although one chat is deaf and another fails.
    let id = asked(&mut client, "echo", json!({"text": "x"})).await?;
    assert_eq!(asked(&mut client, "echo", json!({"text": "x"})).await?, id);
    let posts = chat.after(2).await?;
    for (headers, body) in &posts {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(header("webhook-id"), id, "a message keeps its id, however often it is tried");
        let seconds: u64 = header("webhook-timestamp").parse()?;
        assert!(seconds.abs_diff(now()?) < 120);
        assert_eq!(header("webhook-signature"), sign(SECRET, &id, seconds, body));
        let said: Value = serde_json::from_slice(body)?;
        assert_eq!((&said["kind"], &said["approval"]), (&json!("approval.asked"), &json!(id)));
        assert_eq!(said["question"]["arguments"], r#"{"text":"x"}"#);
        assert_eq!((&said["question"]["server"], &said["question"]["name"]), (&json!("s"), &json!("echo")));
    }
    // One question, asked twice, is posted once; the next comes after it.
    let next = asked(&mut client, "echo", json!({"text": "y"})).await?;
    let posts = chat.after(3).await?;
    assert_eq!(posts.len(), 3);
    assert_eq!(posts[2].0["webhook-id"], *next);
    assert!(strangers.posts().is_empty(), "nobody there may answer");
    let due = Instant::now() + SOON;
    loop {
        let metrics = house.gateway.admin_get("/metrics").await?.text().to_string();
        if metrics.contains(r#"portcullis_approval_posts_total{hook="chat",outcome="delivered"} 2"#) {
            break;
        }
        assert!(Instant::now() < due, "{metrics}");
        // The count follows the answer of the chat, which nobody else sees.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(house.server.count("tools/call"), 0);
    Ok(())
}

#[tokio::test]
async fn a_signed_answer_counts_once_for_the_key_of_its_user_and_no_other_message_does() -> Outcome {
    let mut house = House::start().await?;
    let chat = Chat::start().await?;
    let (alice, alice_file) = house.person("alice", "lead")?;
    let (bob, _) = house.person("bob", "lead")?;
    let own = house.key.split('_').nth(1).ok_or("no id")?.to_owned();
    house
        .with_hooks(&[
            ("chat", &chat.url, &[("U1", &alice), ("U2", &bob), ("U3", &own)]),
            ("other", &chat.url, &[("U1", &alice)]),
        ])
        .await?;
    let mut client = house.client().await?;
    let id = asked(&mut client, "echo", json!({"text": "x"})).await?;
    let seconds = now()?;
    let yes = answer(&id, "U1", "yes");
    let said =
        |nonce, body: &Value| Said { hook: "chat", id: nonce, secret: SECRET, seconds, body: body.clone() };
    let reflected = json!({"kind": "approval.asked", "approval": id, "user": "U1", "answer": "yes"});
    let unknown = answer("apr_nosuch", "U1", "yes");
    let more =
        json!({"kind": "approval.answer", "approval": id, "user": "U1", "answer": "yes", "as": "admin"});
    for (what, message, status) in [
        ("another secret", Said { secret: "another", ..said("n1", &yes) }, 401),
        ("old", Said { seconds: seconds - 4_000, ..said("n2", &yes) }, 401),
        ("from later", Said { seconds: seconds + 4_000, ..said("n3", &yes) }, 401),
        ("no such hook", Said { hook: "nosuch", ..said("n4", &yes) }, 401),
        ("no id", said("", &yes), 401),
        ("a question sent back", said("n5", &reflected), 400),
        ("neither yes nor no", said("n6", &answer(&id, "U1", "maybe")), 400),
        ("more than an answer", said("n7", &more), 400),
        ("a stranger", said("n8", &answer(&id, "U9", "yes")), 403),
        ("who asks", said("n9", &answer(&id, "U3", "yes")), 403),
        ("no question", said("n10", &unknown), 404),
    ] {
        let reply = house.send(&message).await?;
        assert_eq!(reply.status.as_u16(), status, "{what}: {}", reply.text());
        assert_eq!(house.state(&id)?, "open", "{what}");
    }
    let refused = entries(&house.gateway, "event=admin.refused").await?;
    assert!(refused.iter().filter(|entry| entry["data"]["code"] == "admin.signature").count() >= 5);
    assert!(entries(&house.gateway, "event=approval.granted").await?.is_empty());

    let reply = house.send(&said("m1", &yes)).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(house.state(&id)?, "approved");
    assert_eq!(house.send(&said("m1", &yes)).await?.status, 401, "each message counts once");
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.text(), "x");
    assert_ne!(asked(&mut client, "echo", json!({"text": "x"})).await?, id);
    let granted = entries(&house.gateway, "event=approval.granted").await?;
    assert_eq!(granted.len(), 1);
    assert_eq!(granted[0]["actor"]["id"], format!("key:{alice}"));
    assert_eq!(
        (&granted[0]["data"]["via"], &granted[0]["data"]["reason"]),
        (&json!("hook:chat"), &json!("CHG-1"))
    );

    // A person is one person in two chats and on the command line.
    let sum = json!({"a": 1, "b": 2});
    let id = asked(&mut client, "add", sum.clone()).await?;
    let yes = answer(&id, "U1", "yes");
    assert_eq!(house.send(&said("m2", &yes)).await?.status, 200);
    assert_eq!(house.send(&Said { hook: "other", ..said("m3", &yes) }).await?.status, 409);
    let again = house.gateway.command(&["approval", "approve", &id, "--key-file", &alice_file])?;
    assert!(!again.status.success() && house.state(&id)? == "open");
    // A key that was revoked answers nowhere.
    assert!(house.gateway.command(&["key", "revoke", &bob])?.status.success());
    assert_eq!(house.send(&said("m4", &answer(&id, "U2", "yes"))).await?.status, 403);
    assert_eq!(house.send(&said("m5", &answer(&id, "U1", "no"))).await?.status, 200);
    assert_eq!(code_of(&client.call("add", sum).await?), "approval.denied");
    Ok(())
}
