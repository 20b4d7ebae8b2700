//! The admin API over the real store and the real ledger, through its own router.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header},
};
use portcullis_admin::{
    Access, AdminParts, CanaryBook, CanaryState, CanaryValues, ConnectionBook, ENDPOINTS, FreshKey,
    GatewayInfo, Health, Pending, RenewedSecret, Revoked, Searching, SecretBook, SecretState, SecretUse,
    SinkBook, SinkState, api::ServerState, openapi_document, router,
};
use portcullis_approve::{Counts, Desk, Hooks, Parts, Shown, Waiting};
use portcullis_core::{
    Approval, Caller, Clock, Code, Digest, Entropy, Limits, Secret, Target, TargetKind, Timestamp,
};
use portcullis_forensics::{Librarian, Place, Shelf};
use portcullis_policy::{Policies, PolicySource, builtin_roles};
use portcullis_proof::{SigningKey, VerifierKey, manifest::definition_digest};
use portcullis_seal::{FileKek, Keyring};
use portcullis_store::{
    Batch, ConnectionRow, FileLedger, FileLedgerOptions, Keys, KillSwitch, Ledger, LocalSecrets, Move,
    NewRevision, Revisions, Sqlite, definitions,
};
use serde_json::{Value, json};
use tower_service::Service as _;

const TOKEN: &str = "the-admin-token-of-this-test";

/// Starts at a fixed moment; each look moves it a millisecond.
#[derive(Debug)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(1_790_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn ticks_us(&self) -> u64 {
        1 + self.0.fetch_add(1, Ordering::Relaxed) * 1_000
    }
}

/// Other bytes each time.
#[derive(Debug)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        out.iter_mut().zip(count.iter().rev().cycle()).for_each(|(to, from)| *to = *from);
    }
}

/// Keys of people, by the role they have.
const PEOPLE: [&str; 2] = ["lead", "reader"];

fn person(role: &str) -> Caller {
    Caller::local(role, 1, [role.to_owned()].into())
}

#[derive(Debug)]
struct Plane;

impl Health for Plane {
    fn servers(&self) -> Vec<ServerState> {
        vec![ServerState {
            name: "files".into(),
            transport: "stdio".into(),
            source: "file".into(),
            state: "ready".into(),
            place: "npx".into(),
            revisions: vec!["2025-11-25".into()],
            sandbox: Some("full".into()),
            error: None,
        }]
    }

    fn ready(&self) -> bool {
        true
    }
}

/// A gateway to which nobody is connected.
#[derive(Debug)]
struct Nobody;

impl ConnectionBook for Nobody {
    fn list(&self) -> Pending<Result<Vec<ConnectionRow>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn revoke(&self, _caller: &str, _server: &str, _by: &str) -> Pending<Result<Revoked, String>> {
        Box::pin(async { Ok(Revoked::Unknown) })
    }
}

impl SinkBook for Nobody {
    fn list(&self) -> Vec<SinkState> {
        Vec::new()
    }

    fn go_to(&self, _sink: &str, _index: u64) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

impl SecretBook for Nobody {
    fn list(&self) -> Pending<Result<Vec<SecretState>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn put(&self, _name: &str, _value: Secret<String>, _by: &str) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, _name: &str, _by: &str) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn uses(&self, name: &str) -> Pending<Result<Vec<SecretUse>, String>> {
        let (key, server) = ("servers.files.headers.Authorization".to_owned(), Some("files".to_owned()));
        let one = SecretUse { key, reference: name.to_owned(), server, personal: false };
        Box::pin(async { Ok(vec![one]) })
    }

    fn renew(&self, _key: &str, _at_source: bool) -> Pending<Result<Vec<RenewedSecret>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl CanaryBook for Nobody {
    fn list(&self) -> Pending<Result<Vec<CanaryState>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn make(&self, kind: &str) -> Option<CanaryValues> {
        (kind == "password").then(|| vec![("PASSWORD".into(), Secret::new("a made-up one".into()))])
    }

    fn plant(
        &self,
        _name: &str,
        _kind: &str,
        _values: &CanaryValues,
        _by: &str,
    ) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, _name: &str, _by: &str) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

struct World {
    router: Router,
    store: Arc<Sqlite>,
    ledger: Arc<FileLedger>,
    desk: Arc<Desk>,
    _folder: tempfile::TempDir,
}

/// Data keys that nobody has opened.
fn keyring(store: &Arc<Sqlite>) -> Keyring {
    let entropy: Arc<dyn Entropy> = Arc::new(Counting(AtomicU64::new(0)));
    let text = FileKek::text(None, &*entropy).unwrap();
    Keyring::new(portcullis_seal::Parts {
        store: store.clone(),
        kept: LocalSecrets::all(&(store.clone() as Arc<dyn Revisions>)),
        kek: Arc::new(FileKek::of_text(text.expose(), None, Arc::clone(&entropy)).unwrap()),
        former: Vec::new(),
        clock: Arc::new(Ticking(AtomicU64::new(0))),
        entropy,
    })
}

fn searching(folder: &std::path::Path, key: VerifierKey) -> Searching {
    let place = Place { index: folder.join("index.db"), shelf: Shelf::new(folder.join("ledger"), key) };
    Searching { librarian: Arc::new(Librarian::new(Some(place))), readers: Arc::new(Vec::new) }
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(folder.path().join("db")).unwrap());
    let key = SigningKey::from_seed("admin.test/ledger", [7; 32]).unwrap();
    let (verifier, vkey) = (key.verifier(), key.verifier().to_string());
    let options = FileLedgerOptions::new(folder.path().join("ledger"), key, Limits::default(), store.clone());
    let (ledger, _) = FileLedger::open(options).unwrap();
    let ledger = Arc::new(ledger);
    let source = PolicySource { roles: builtin_roles(), ..PolicySource::default() };
    let policies = Arc::new(Policies::compile(&source, &Limits::default()).unwrap());
    let made = AtomicU64::new(0);
    let desk = Arc::new(Desk::new(
        Parts {
            store: store.clone(),
            ledger: ledger.clone(),
            clock: Arc::new(Ticking(AtomicU64::new(0))),
            entropy: Arc::new(Counting(AtomicU64::new(0))),
            instance: "test".into(),
        },
        Counts::default(),
        Hooks::default(),
    ));
    let parts = AdminParts {
        ledger: ledger.clone(),
        keys: store.clone(),
        grants: store.clone(),
        quotas: Arc::new(|| Box::pin(async { Vec::new() })),
        connections: Arc::new(Nobody),
        keyring: Arc::new(keyring(&store)),
        secrets: Arc::new(Nobody),
        canaries: Arc::new(Nobody),
        sinks: Arc::new(Nobody),
        searching: searching(folder.path(), verifier),
        revisions: store.clone(),
        kills: Arc::new(KillSwitch::new(store.clone())),
        approvals: desk.clone(),
        subjects: store.clone(),
        subject_of: Arc::new(|who| Some(Digest::of(who.as_bytes()))),
        sessions: Arc::new(|_, _| 0),
        holder: Arc::new(|key| PEOPLE.contains(&key).then(|| Arc::new(person(key)))),
        fresh_key: Arc::new(move || {
            let id = format!("key{}", made.fetch_add(1, Ordering::Relaxed));
            let (text, hash) = (Secret::new(format!("pcl_{id}_secret-text")), Digest::of(id.as_bytes()).0);
            Some(FreshKey { text, hash, id })
        }),
        policies: Arc::new(move || Arc::clone(&policies)),
        roles: Arc::new(|| builtin_roles().into_iter().map(|role| role.name).collect::<BTreeSet<_>>()),
        health: Arc::new(Plane),
        metrics: Arc::new(|| String::from("# HELP x\n")),
        metrics_public: false,
        follow: Arc::new(|| Box::pin(async {})),
        reload: Arc::new(|| Box::pin(async { Err(vec![String::from("portcullis.yaml:3: wrong")]) })),
        check_server: Arc::new(|_, server| {
            let fits = server.get("url").is_some();
            Box::pin(async move { if fits { Ok(()) } else { Err(vec![String::from("has no url")]) } })
        }),
        clock: Arc::new(Ticking(AtomicU64::new(0))),
        limits: Limits::default(),
        token: Secret::new(TOKEN.into()),
        info: GatewayInfo {
            version: "0.0.0".into(),
            instance: "test".into(),
            endpoint: "http://127.0.0.1:1/mcp/".into(),
            config: None,
            data: "/data".into(),
            vkey,
            started_ms: 0,
        },
    };
    World { router: router(parts), store, ledger, desk, _folder: folder }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:7301")
}

fn with_token(method: &str, path: &str) -> axum::http::request::Builder {
    request(method, path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

impl World {
    async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let mut router = self.router.clone();
        let response = router.call(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 10_000_000).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(with_token("GET", path).body(Body::empty()).unwrap()).await
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(with_token("DELETE", path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = with_token("POST", path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Every entry of the ledger so far.
    async fn entries(&self) -> Vec<Value> {
        let size = usize::try_from(self.ledger.status().durable).unwrap();
        self.ledger.read(0, size.max(1)).await.unwrap().iter().map(|record| record.value().unwrap()).collect()
    }

    async fn events(&self) -> Vec<String> {
        self.entries().await.iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect()
    }

    /// As the data plane does: stores what a server says and moves heads.
    async fn observe(&self, name: &str, body: &Value, pin: bool) -> Digest {
        let raw = body.to_string().into_bytes();
        let digest = definition_digest(TargetKind::Tool, &raw).unwrap();
        let (kind, name, by, at) =
            (String::from("tool"), definitions::name("files", name), String::from("test"), Timestamp(1));
        let mut moves = Vec::new();
        for slot in [definitions::OBSERVED].into_iter().chain(pin.then_some(definitions::PINNED)) {
            let expect = self.store.head(&kind, &name, slot).await.unwrap().map(|head| head.digest);
            moves.push(Move {
                kind: kind.clone(),
                name: name.clone(),
                slot: slot.into(),
                expect,
                to: Some(digest),
                by: by.clone(),
                at,
            });
        }
        let put = NewRevision {
            kind,
            name,
            body: raw,
            digest,
            parent: None,
            author: by,
            reason: String::new(),
            at,
        };
        assert!(self.store.apply(Batch { puts: vec![put], moves }).await.unwrap());
        digest
    }
}

/// A path of the endpoint that can be asked.
fn concrete(path: &str) -> String {
    path.replace("{id}", "key0").replace("{hook}", "chat").replace("{name}", "nobody").replace("{index}", "0")
}

#[tokio::test]
async fn the_access_matrix_holds_for_every_endpoint() {
    let world = world();
    for endpoint in ENDPOINTS {
        let path = concrete(endpoint.path);
        let open = endpoint.access == Access::Open;
        let plain = |builder: axum::http::request::Builder| {
            builder.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap()
        };
        let name = endpoint.name;
        let (without, _) = world.send(plain(request(endpoint.method, &path))).await;
        let (wrong, _) =
            world.send(plain(request(endpoint.method, &path).header("authorization", "Bearer x"))).await;
        let (basic, _) = world
            .send(plain(request(endpoint.method, &path).header("authorization", format!("Basic {TOKEN}"))))
            .await;
        let twice = with_token(endpoint.method, &path).header("authorization", format!("Bearer {TOKEN}"));
        let (twice, _) = world.send(plain(twice)).await;
        let (page, _) = world
            .send(plain(with_token(endpoint.method, &path).header("origin", "http://127.0.0.1:7301")))
            .await;
        let foreign = Request::builder().method(endpoint.method).uri(&path).header("host", "evil.example");
        let (foreign, _) =
            world.send(plain(foreign.header("authorization", format!("Bearer {TOKEN}")))).await;
        let (allowed, _) = world.send(plain(with_token(endpoint.method, &path))).await;
        let (method, _) = world.send(plain(with_token("PATCH", &path))).await;
        if open {
            assert_eq!((without, wrong, basic), (200, 200, 200), "{name}");
        } else {
            assert_eq!((without, wrong, basic, twice), (401, 401, 401, 401), "{name}");
        }
        assert_eq!((page, foreign, method), (403, 403, 405), "{name}");
        if endpoint.access == Access::Signed {
            assert_eq!(allowed, 401, "{name}: the admin token signs nothing");
        } else {
            assert!(![401, 403, 405, 500, 503].contains(&allowed), "{name}: {allowed}");
        }
    }
    let (unknown, _) = world.get("/v1/nothing").await;
    assert_eq!(unknown, 404);
    let refused = world.events().await.iter().filter(|event| *event == "admin.refused").count();
    assert!(refused >= 10, "{refused} refusals recorded");
}

#[tokio::test]
async fn a_key_is_made_recorded_listed_without_its_text_and_revoked() {
    let world = world();
    let (status, made) =
        world.post("/v1/keys", &json!({ "name": "ci", "roles": ["operator"], "expires_in_s": 60 })).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(made["text"], "pcl_key0_secret-text");
    let row = world.store.find("key0").unwrap();
    assert_eq!((row.name.as_str(), row.roles.as_slice()), ("ci", ["operator".to_owned()].as_slice()));
    let (_, list) = world.get("/v1/keys").await;
    assert_eq!(list["keys"][0]["state"], "valid");
    assert!(!list.to_string().contains("secret-text"));
    let (status, revoked) = world.delete("/v1/keys/key0").await;
    assert_eq!((status, &revoked["state"]), (200, &json!("revoked")));
    assert!(world.store.find("key0").unwrap().revoked.is_some());
    let (again, _) = world.delete("/v1/keys/key0").await;
    let (missing, _) = world.delete("/v1/keys/other").await;
    assert_eq!((again, missing), (200, 404));
    assert_eq!(world.events().await, ["key.created", "key.revoked"]);
    assert!(!format!("{:?}", world.entries().await).contains("secret-text"));
}

#[tokio::test]
async fn impossible_keys_are_refused_and_not_recorded() {
    let world = world();
    for body in [
        json!({ "name": "x", "roles": [] }),
        json!({ "name": "x", "roles": ["nobody"] }),
        json!({ "name": "", "roles": ["admin"] }),
        json!({ "name": "a\nb", "roles": ["admin"] }),
        json!({ "name": "x", "roles": ["admin"], "expires_in_s": 0 }),
        json!({ "name": "x", "roles": ["admin"], "kind": "robot" }),
        json!({ "name": "x", "roles": ["admin"], "extra": 1 }),
        json!({ "roles": ["admin"] }),
        json!([]),
    ] {
        let (status, answer) = world.post("/v1/keys", &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{answer}");
    }
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn nothing_changes_when_the_ledger_cannot_record_it() {
    let world = world();
    let observed = world.observe("read", &json!({ "name": "read" }), false).await;
    world.ledger.close().await.unwrap();
    let judged = json!({ "server": "files", "name": "read" });
    let server = json!({ "name": "new", "server": { "url": "http://h/" } });
    for (path, body) in [
        ("/v1/keys", &json!({ "name": "ci", "roles": ["admin"] })),
        ("/v1/definitions/approve", &judged),
        ("/v1/definitions/reject", &judged),
        ("/v1/servers", &server),
        ("/v1/kills", &json!({ "kind": "everything" })),
    ] {
        let (status, answer) = world.post(path, body).await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("ledger.unavailable")), "{path}");
    }
    assert!(world.store.list().await.unwrap().is_empty());
    assert!(world.store.heads("server").await.unwrap().is_empty());
    assert!(world.store.heads("kill").await.unwrap().is_empty());
    let heads = world.store.heads("tool").await.unwrap();
    assert_eq!(
        heads.iter().map(|head| (head.slot.as_str(), head.digest)).collect::<Vec<_>>(),
        [(definitions::OBSERVED, observed)]
    );
    let (status, health) = world.get("/healthz").await;
    assert_eq!((status, &health["status"]), (503, &json!("degraded")));
}

impl World {
    /// Asks people about a call of a tool, or uses the yes to it up.
    async fn call(&self, text: &str) -> Result<Arc<str>, (Code, Value)> {
        let caller = Arc::new(person("asker"));
        let target = Target {
            server: "files".into(),
            item: Some((TargetKind::Tool, "write".into())),
            digest: Some(Digest::of(b"definition")),
        };
        let roles = BTreeSet::from([BTreeSet::from(["lead".to_owned()])]);
        let demand = Approval { people: 1, roles, expires_s: 3_600, by_caller: false };
        let (policy, params) = (Digest::of(b"policy"), [("arguments".into(), text.as_bytes())]);
        let waiting = Waiting {
            answer: None,
            binding: portcullis_approve::Binding::of(&caller, &target, (policy, &demand), &params, None),
            caller: &caller,
            asks: false,
            confirmation: None,
            owner: Some("a team"),
            target: &target,
            demand: &demand,
            policy,
            policies: &["p".to_owned()],
            findings: &[],
            session: None,
            trace: None,
            shown: &|| Shown { text: Some(text.to_owned()), size: 7, digest: Digest::of(text.as_bytes()) },
        };
        let passed = self.desk.pass(&waiting, &Limits::default()).await.map(|used| used.id);
        passed.map_err(|refusal| {
            let data = refusal.data.as_deref().unwrap_or("null");
            (refusal.code, serde_json::from_str(data).unwrap())
        })
    }

    async fn as_person(&self, who: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = request(method, path)
            .header(header::AUTHORIZATION, format!("Bearer {who}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()));
        self.send(request.unwrap()).await
    }
}

#[tokio::test]
async fn people_with_the_role_see_and_answer_and_others_learn_of_no_question() {
    let world = world();
    let (code, data) = world.call("{}").await.unwrap_err();
    assert_eq!(code, Code::ApprovalRequired);
    let id = data["approval"].as_str().unwrap().to_owned();
    let verdict = json!({ "id": id, "reason": "fine" });
    let show = format!("/v1/approvals/{id}");
    let (status, shown) = world.get(&show).await;
    assert_eq!((status, &shown["owner"], &shown["arguments"]), (200, &json!("a team"), &json!("{}")));
    for (who, list, one, answer) in [("reader", 0, 404, 404), ("nobody", 0, 401, 401)] {
        let (_, listed) = world.as_person(who, "GET", "/v1/approvals", &Value::Null).await;
        assert_eq!(listed["approvals"].as_array().map_or(0, Vec::len), list, "{who}");
        assert_eq!(world.as_person(who, "GET", &show, &Value::Null).await.0, one, "{who}");
        for path in ["/v1/approvals/approve", "/v1/approvals/deny"] {
            assert_eq!(world.as_person(who, "POST", path, &verdict).await.0, answer, "{who} {path}");
        }
    }
    assert_eq!(world.post("/v1/approvals/approve", &verdict).await.0, 403, "the admin token is no person");
    // A key of a person opens nothing else.
    assert_eq!(world.as_person("lead", "GET", "/v1/keys", &Value::Null).await.0, 401);
    let long = json!({ "id": id, "reason": "x".repeat(1_025) });
    assert_eq!(world.as_person("lead", "POST", "/v1/approvals/approve", &long).await.0, 400);
    let (status, said) = world.as_person("lead", "POST", "/v1/approvals/approve", &verdict).await;
    assert_eq!((status, &said["state"]), (200, &json!("approved")), "{said}");
    assert_eq!(world.call("{ }").await.unwrap_err().0, Code::ApprovalRequired, "another call");
    assert_eq!(*world.call("{}").await.unwrap(), *id);
    assert_eq!(world.as_person("lead", "POST", "/v1/approvals/deny", &verdict).await.0, 409, "it is made");
    let (_, all) = world.get("/v1/approvals?all=true").await;
    assert_eq!(all["approvals"].as_array().unwrap().len(), 2);
    let (_, open) = world.get("/v1/approvals").await;
    assert_eq!(open["approvals"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_is_asked_answers_or_uses_a_yes_up_when_the_ledger_cannot_record_it() {
    let world = world();
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        ids.push(world.call(text).await.unwrap_err().1["approval"].as_str().unwrap().to_owned());
    }
    let verdict = |id: &String| json!({ "id": id });
    let approved = world.as_person("lead", "POST", "/v1/approvals/approve", &verdict(&ids[0])).await;
    assert_eq!(approved.0, 200);
    world.ledger.close().await.unwrap();
    assert_eq!(world.call("three").await.unwrap_err().0, Code::LedgerUnavailable);
    assert_eq!(world.call("one").await.unwrap_err().0, Code::LedgerUnavailable);
    for path in ["/v1/approvals/approve", "/v1/approvals/deny"] {
        let (status, answer) = world.as_person("lead", "POST", path, &verdict(&ids[1])).await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("ledger.unavailable")), "{path}");
    }
    let (_, list) = world.get("/v1/approvals?all=true").await;
    let states: Vec<_> = list["approvals"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["approved", "open"], "as it was");
}

#[tokio::test]
async fn a_changed_definition_is_shown_compared_and_approved() {
    let world = world();
    let old = world.observe("a/b", &json!({ "name": "a/b", "description": "reads" }), true).await;
    let new = world.observe("a/b", &json!({ "name": "a/b", "description": "reads and sends" }), false).await;
    let query = "server=files&name=a%2Fb";
    let (_, list) = world.get("/v1/definitions?state=changed").await;
    assert_eq!(list["definitions"][0]["name"], "a/b");
    let (_, none) = world.get("/v1/definitions?state=approved&server=files").await;
    assert_eq!(none["definitions"], json!([]));
    let (_, shown) = world.get(&format!("/v1/definitions/show?{query}")).await;
    assert_eq!(
        (&shown["pinned"]["description"], &shown["observed"]["description"]),
        (&json!("reads"), &json!("reads and sends"))
    );
    let (_, diff) = world.get(&format!("/v1/definitions/diff?{query}")).await;
    assert_eq!(
        diff["changes"],
        json!([{ "pointer": "/description", "before": "\"reads\"", "after": "\"reads and sends\"" }])
    );
    let verdict = |digest: Digest| json!({ "server": "files", "name": "a/b", "digest": digest });
    let (stale, _) = world.post("/v1/definitions/approve", &verdict(old)).await;
    assert_eq!(stale, 409);
    let (status, judged) = world.post("/v1/definitions/approve", &verdict(new)).await;
    assert_eq!((status, &judged["row"]["state"]), (200, &json!("approved")));
    let head = world
        .store
        .head("tool", &definitions::name("files", "a/b"), definitions::PINNED)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.digest, new);
    let entry = world.entries().await.pop().unwrap();
    assert_eq!(
        (&entry["event"], &entry["target"]["digest"], &entry["data"]["before"]),
        (&json!("definition.approved"), &json!(new), &json!(old))
    );
}

#[tokio::test]
async fn a_rejected_definition_loses_its_approval_and_can_be_approved_again() {
    let world = world();
    world.observe("x", &json!({ "name": "x" }), true).await;
    let verdict = json!({ "server": "files", "name": "x" });
    for (path, state, event) in [
        ("/v1/definitions/reject", "rejected", "definition.rejected"),
        ("/v1/definitions/approve", "approved", "definition.approved"),
    ] {
        let (status, judged) = world.post(path, &verdict).await;
        assert_eq!((status, &judged["row"]["state"]), (200, &json!(state)));
        assert_eq!(world.events().await.pop().unwrap(), event);
    }
    let (missing, _) =
        world.post("/v1/definitions/approve", &json!({ "server": "files", "name": "y" })).await;
    let (kind, _) = world
        .post("/v1/definitions/approve", &json!({ "server": "files", "name": "x", "kind": "robot" }))
        .await;
    assert_eq!((missing, kind), (404, 400));
}

#[tokio::test]
async fn servers_are_added_and_removed_with_a_record_of_each() {
    let world = world();
    let (taken, _) =
        world.post("/v1/servers", &json!({ "name": "files", "server": { "url": "http://h/" } })).await;
    let (wrong, answer) = world.post("/v1/servers", &json!({ "name": "n", "server": {} })).await;
    assert_eq!((taken, wrong, &answer["error"]["message"]), (409, 400, &json!("has no url")));
    for _ in 0..2 {
        let (status, _) =
            world.post("/v1/servers", &json!({ "name": "n", "server": { "url": "http://h/" } })).await;
        assert_eq!(status, 200);
        let head = world.store.head("server", "n", "active").await.unwrap().unwrap();
        let revision = world.store.get("server", "n", head.digest).await.unwrap().unwrap();
        assert_eq!(revision.body, br#"{"url":"http://h/"}"#);
        let (status, _) = world.delete("/v1/servers/n").await;
        assert_eq!(status, 200);
        assert_eq!(world.store.head("server", "n", "active").await.unwrap(), None);
    }
    let (declared, _) = world.delete("/v1/servers/files").await;
    let (unknown, _) = world.delete("/v1/servers/nobody").await;
    assert_eq!((declared, unknown), (409, 404));
    assert_eq!(world.events().await, ["server.added", "server.removed", "server.added", "server.removed"]);
}

#[tokio::test]
async fn the_ledger_is_searched_followed_and_proven() {
    let world = world();
    for name in ["a", "b", "c"] {
        world.post("/v1/keys", &json!({ "name": name, "roles": ["admin"] })).await;
    }
    world.delete("/v1/keys/key1").await;
    let (_, all) = world.get("/v1/ledger/entries?event=key.*&limit=2").await;
    assert_eq!(
        (all["entries"].as_array().unwrap().len(), &all["next"], &all["size"]),
        (2, &json!(2), &json!(4))
    );
    let (_, last) = world.get("/v1/ledger/entries?last=1&event=key.created").await;
    assert_eq!(last["entries"][0]["entry"]["data"]["name"], "c");
    let (_, revoked) = world
        .get("/v1/ledger/entries?event=key.revoked&caller=admin&since=2026-01-01&until=2100-01-01")
        .await;
    assert_eq!(revoked["entries"][0]["index"], 3);
    let (_, none) = world.get("/v1/ledger/entries?code=policy.denied").await;
    assert_eq!((&none["entries"], &none["next"]), (&json!([]), &json!(4)));
    let follow = world.get("/v1/ledger/entries?from=4&wait_ms=20000");
    let later = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        world.post("/v1/keys", &json!({ "name": "d", "roles": ["admin"] })).await
    };
    let ((_, followed), _) = tokio::join!(follow, later);
    assert_eq!(followed["entries"][0]["entry"]["data"]["name"], "d");
    let (status, checkpoint) =
        world.send(with_token("POST", "/v1/ledger/checkpoint").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200);
    let vkey = VerifierKey::from_text(checkpoint["vkey"].as_str().unwrap()).unwrap();
    let opened =
        portcullis_proof::Checkpoint::open(checkpoint["checkpoint"].as_str().unwrap(), &vkey).unwrap();
    assert_eq!(opened.size, 5);
    let (_, proof) = world.get("/v1/ledger/proof/2").await;
    let proof = portcullis_proof::proof_file::ProofFile::from_text(proof["proof"].as_str().unwrap()).unwrap();
    let records = world.ledger.read(2, 1).await.unwrap();
    proof.verify(&records.first().unwrap().bytes, &vkey).unwrap();
    let (beyond, _) = world.get("/v1/ledger/proof/99").await;
    let (word, _) = world.get("/v1/ledger/proof/two").await;
    assert_eq!((beyond, word), (404, 400));
}

#[tokio::test]
async fn policies_are_explained_for_keys_and_for_made_up_callers() {
    let world = world();
    world.post("/v1/keys", &json!({ "name": "r", "roles": ["reader"], "servers": ["other"] })).await;
    for (question, allowed) in [
        (json!({ "server": "files", "name": "read", "roles": ["admin"] }), true),
        (json!({ "server": "files", "name": "read", "roles": ["reader"] }), false),
        (json!({ "server": "files", "name": "read", "kind": "resource", "roles": ["reader"] }), true),
        (json!({ "server": "files", "roles": ["reader"] }), true),
        (json!({ "server": "files", "caller": "anonymous" }), false),
        (json!({ "server": "other", "key": "key0" }), true),
        (json!({ "server": "files", "key": "key0" }), false),
    ] {
        let (status, answer) = world.post("/v1/policy/explain", &question).await;
        assert_eq!((status, &answer["allowed"]), (200, &json!(allowed)), "{question}: {answer}");
    }
    for question in [
        json!({ "server": "f", "key": "nobody" }),
        json!({ "server": "f", "action": "fly" }),
        json!({ "server": "f", "claims": 5 }),
    ] {
        let (status, _) = world.post("/v1/policy/explain", &question).await;
        assert!([400, 404].contains(&status), "{question}");
    }
}

#[tokio::test]
async fn a_refused_reload_names_the_mistakes() {
    let (status, answer) = world().post("/v1/config/reload", &json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("config.refused")));
    assert!(answer["error"]["message"].as_str().unwrap().contains("portcullis.yaml:3"));
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let world = world();
    let huge = json!({ "name": "x".repeat(300_000), "roles": ["admin"] });
    let (large, _) = world.post("/v1/keys", &huge).await;
    let form =
        with_token("POST", "/v1/keys").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let (media, _) = world.send(form.body(Body::from("name=x")).unwrap()).await;
    let (query, _) = world.get("/v1/definitions?colour=red").await;
    assert_eq!((large, media, query), (413, 415, 400));
}

#[tokio::test]
async fn the_openapi_document_lists_every_endpoint_and_its_answers_fit() {
    let world = world();
    world.observe("x", &json!({ "name": "x" }), true).await;
    world.post("/v1/keys", &json!({ "name": "ci", "roles": ["admin"] })).await;
    let asked = world.call("{}").await.unwrap_err().1["approval"].as_str().unwrap().to_owned();
    let document = openapi_document("1");
    let mut fitted = 0;
    for endpoint in ENDPOINTS {
        let operation = &document["paths"][endpoint.path][endpoint.method.to_ascii_lowercase()];
        assert_eq!(operation["operationId"], endpoint.name);
        let (Some(schema), "GET") = (endpoint.answer, endpoint.method) else { continue };
        let query = match endpoint.name {
            "secret_uses" => "?name=vault:app%23token",
            name if name.ends_with("_definition") => "?server=files&name=x",
            _ => "",
        };
        let path = match endpoint.name {
            "show_approval" => endpoint.path.replace("{id}", &asked),
            _ => concrete(endpoint.path),
        };
        let (status, answer) = world.get(&format!("{path}{query}")).await;
        assert_eq!(status, 200, "{}: {answer}", endpoint.name);
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", endpoint.name);
        fitted += 1;
    }
    assert!(fitted >= 9, "{fitted}");
    let names: BTreeSet<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
    assert_eq!(names.len(), ENDPOINTS.len());
}
