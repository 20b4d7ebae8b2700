//! Certificates of a SPIFFE Workload API: shown to callers and to servers, replaced while the gateway runs, and used up to their
//! end and no longer.

use std::{path::Path, time::Duration};

use portcullis_testkit::{Gateway, Outcome};
use portcullis_tests::{
    agent::{Agent, Given},
    authority::{Authority, Identity, Secured},
    pair::{SOON, entries, known},
};
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(3_600);
const OURS: &str = "spiffe://td.example/gateway";

fn given(authority: &Authority, life: Duration, ids: &[&str]) -> Outcome<Given> {
    let svids = ids.iter().map(|id| Ok(((*id).to_owned(), authority.svid(id, life)?, authority.pem())));
    Ok(Given { svids: svids.collect::<Outcome<_>>()?, federated: Vec::new() })
}

fn listening(socket: &Path, port: u16) -> String {
    format!(
        "listen:\n  address: 127.0.0.1:{port}\n  tls:\n    spiffe: true\nspiffe:\n  socket: unix:{}\nidentities:\n  certificates:\n    \
         - name: spiffe://td.example/ns/*\n      roles: [operator]\n    - name: spiffe://partner.example/*\n      roles: [operator]\n",
        socket.display()
    )
}

/// What comes of a request with this certificate.
async fn asked(gateway: &Gateway, root: &Authority, shown: &Identity) -> String {
    match Secured::connect(gateway.address(), &root.pem(), Some(shown)).await {
        Ok(mut connection) => connection.list("sample", None).await.unwrap_or_else(|_| "cut off".into()),
        Err(_) => "no connection".into(),
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let due = tokio::time::Instant::now() + SOON;
    while !holds().await? {
        assert!(tokio::time::Instant::now() < due, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn callers_are_known_by_the_authorities_of_their_own_trust_domain_and_by_no_others() -> Outcome {
    let (folder, ports) = (tempfile::tempdir()?, portcullis_testkit::free_ports(1)?);
    let socket = folder.path().join("agent");
    let (ours, partner) = (Authority::new()?, Authority::new()?);
    let mut first = given(&ours, HOUR, &[OURS])?;
    first.federated.push(("partner.example".into(), partner.pem()));
    let agent = Agent::start(&socket, Some(&first))?;
    let gateway = Gateway::builder().config(&listening(&socket, ports[0])).tls().start().await?;
    known(&gateway, SOON).await?;
    let own = ours.svid("spiffe://td.example/ns/a", HOUR)?;
    let theirs = partner.svid("spiffe://partner.example/b", HOUR)?;
    assert_eq!(asked(&gateway, &ours, &own).await, "200 ok");
    assert_eq!(asked(&gateway, &ours, &theirs).await, "200 ok");
    let called = entries(&gateway, "event=call.intent").await?;
    let ids: Vec<&str> = called.iter().filter_map(|entry| entry["actor"]["id"].as_str()).collect();
    assert_eq!(ids, ["cert:spiffe://td.example/ns/a", "cert:spiffe://partner.example/b"]);
    for (name, bad) in [
        ("a name of ours, signed by the partner", partner.svid("spiffe://td.example/ns/a", HOUR)?),
        ("a name of the partner, signed by us", ours.svid("spiffe://partner.example/b", HOUR)?),
        ("a domain that nobody federates with", ours.svid("spiffe://other.example/b", HOUR)?),
        ("no SPIFFE ID at all", ours.svid("https://td.example/ns/a", HOUR)?),
    ] {
        let answer = asked(&gateway, &ours, &bad).await;
        assert!(matches!(&*answer, "cut off" | "no connection"), "{name}: {answer}");
    }
    // The partner is one no more, and everything of ours is signed by another authority.
    let mut open = Secured::connect(gateway.address(), &ours.pem(), Some(&theirs)).await?;
    assert_eq!(open.list("sample", None).await?, "200 ok");
    let next = Authority::new()?;
    agent.give(&given(&next, HOUR, &[OURS])?)?;
    let fresh = next.svid("spiffe://td.example/ns/a", HOUR)?;
    until("the new certificate", async || Ok(asked(&gateway, &next, &fresh).await == "200 ok")).await?;
    assert_eq!(asked(&gateway, &ours, &own).await, "no connection", "the old one is not shown");
    let held = open.list("sample", None).await?;
    assert!(held.starts_with("401"), "the connection was open: {held}");
    let obtained = entries(&gateway, "event=certificate.obtained").await?;
    assert_eq!(obtained.len(), 2);
    assert_eq!(
        (&obtained[0]["data"]["source"], &obtained[0]["data"]["id"]),
        (&"spiffe".into(), &OURS.into())
    );
    assert_eq!(
        gateway.files_with("PRIVATE KEY")?,
        Vec::<std::path::PathBuf>::new(),
        "no key is kept on disk"
    );
    Ok(())
}

/// How the server `behind` stands.
async fn behind(gateway: &Gateway) -> Outcome<String> {
    let reply = gateway.admin_get("/v1/servers").await?;
    let list: Value = serde_json::from_slice(&reply.body)?;
    Ok(list["servers"][0]["state"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_server_is_known_by_its_spiffe_id_and_sees_ours_also_after_both_have_new_ones() -> Outcome {
    let (folder, ports) = (tempfile::tempdir()?, portcullis_testkit::free_ports(1)?);
    let (inner_socket, outer_socket) = (folder.path().join("inner"), folder.path().join("outer"));
    let authority = Authority::new()?;
    let inner_id = "spiffe://td.example/ns/files";
    let inner_agent = Agent::start(&inner_socket, Some(&given(&authority, HOUR, &[inner_id])?))?;
    let both = ["spiffe://td.example/other", "spiffe://td.example/ns/edge"];
    let outer_agent = Agent::start(&outer_socket, Some(&given(&authority, HOUR, &both)?))?;
    let required = listening(&inner_socket, ports[0])
        .replace("spiffe: true", "spiffe: true\n    client_certificates: required");
    let inner = Gateway::builder().config(&required).tls().start().await?;
    known(&inner, SOON).await?;
    let outer = |wanted: &str| {
        format!(
            "spiffe:\n  socket: unix:{}\n  id: {}\nservers:\n  behind:\n    url: https://localhost:{}/mcp/sample\n    tls:\n      \
             spiffe: [\"{wanted}\"]\n",
            outer_socket.display(),
            both[1],
            ports[0]
        )
    };
    for wrong in
        ["spiffe://td.example/ns/file", "spiffe://td.example/ns/files/*", "spiffe://partner.example/*"]
    {
        let gateway = Gateway::start(&outer(wrong)).await?;
        known(&gateway, SOON).await?;
        assert_ne!(behind(&gateway).await?, "ready", "{wrong}");
    }
    let gateway = Gateway::start(&outer("spiffe://td.example/ns/*")).await?;
    known(&gateway, SOON).await?;
    assert_eq!(behind(&gateway).await?, "ready");
    // Of another authority from now on, both of them.
    let next = Authority::new()?;
    inner_agent.give(&given(&next, HOUR, &[inner_id])?)?;
    outer_agent.give(&given(&next, HOUR, &both)?)?;
    until("both have them", async || {
        let count = async |gateway| {
            Ok::<_, portcullis_testkit::Fault>(entries(gateway, "event=certificate.obtained").await?.len())
        };
        Ok(count(&inner).await? == 2 && count(&gateway).await? == 2)
    })
    .await?;
    // What was open goes on; a connection that is made anew sees the new ones.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let key = portcullis_tests::pair::new_key(&gateway, "caller", "operator")?;
    let mut client = portcullis_testkit::McpClient::new(
        &gateway.url("behind"),
        Some(&key),
        portcullis_testkit::Era::Modern,
    );
    let answer = client
        .request("tools/call", serde_json::json!({"name": "add", "arguments": {"a": 2, "b": 3}}))
        .await?;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let called = entries(&inner, "event=call.intent").await?;
    let by = called.last().map(|entry| entry["actor"]["id"].clone());
    assert_eq!(by, Some(format!("cert:{}", both[1]).into()));
    Ok(())
}

#[tokio::test]
async fn without_a_certificate_the_start_is_refused_with_what_to_do() -> Outcome {
    let (folder, ports) = (tempfile::tempdir()?, portcullis_testkit::free_ports(1)?);
    let socket = folder.path().join("agent");
    let yaml = listening(&socket, ports[0]).replace("spiffe:\n  socket", "spiffe:\n  wait_s: 1\n  socket");
    let (status, said) = Gateway::builder().config(&yaml).tls().refused().await?;
    assert!(!status.success() && said.contains("is the agent running"), "{said}");
    let agent = Agent::start(&socket, None)?;
    let (status, said) = Gateway::builder().config(&yaml).tls().refused().await?;
    assert!(!status.success() && said.contains("no identity issued"), "{said}");
    agent.give(&given(&Authority::new()?, HOUR, &["spiffe://td.example/somebody"])?)?;
    let id = yaml.replace("wait_s: 1", &format!("wait_s: 1\n  id: {OURS}"));
    let (status, said) = Gateway::builder().config(&id).tls().refused().await?;
    assert!(!status.success() && said.contains("gave no certificate for"), "{said}");
    let nowhere = "listen: {tls: {spiffe: true}}\n";
    let (_, said) = Gateway::builder().config(nowhere).tls().refused().await?;
    assert!(said.contains("write the section `spiffe`"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_an_agent_gave_that_is_away_is_used_up_to_its_end_and_no_longer() -> Outcome {
    let (folder, ports) = (tempfile::tempdir()?, portcullis_testkit::free_ports(1)?);
    let socket = folder.path().join("agent");
    let authority = Authority::new()?;
    let life = Duration::from_secs(12);
    let started = tokio::time::Instant::now();
    let agent = Agent::start(&socket, Some(&given(&authority, life, &[OURS])?))?;
    let gateway = Gateway::builder().config(&listening(&socket, ports[0])).tls().start().await?;
    known(&gateway, SOON).await?;
    let caller = authority.svid("spiffe://td.example/ns/a", HOUR)?;
    let mut open = Secured::connect(gateway.address(), &authority.pem(), Some(&caller)).await?;
    drop(agent);
    until("it is told of", async || Ok(!entries(&gateway, "event=certificate.failed").await?.is_empty()))
        .await?;
    assert_eq!(asked(&gateway, &authority, &caller).await, "200 ok", "while it is good");
    assert_eq!(open.list("sample", None).await?, "200 ok");
    let metrics = gateway.admin_get("/metrics").await?.text();
    assert!(metrics.contains("portcullis_certificate_orders_total{outcome=\"failed\"} 1"), "{metrics}");
    tokio::time::sleep_until(started + life + Duration::from_secs(1)).await;
    assert_eq!(asked(&gateway, &authority, &caller).await, "no connection", "it is over");
    let held = open.list("sample", None).await?;
    assert!(held.starts_with("401"), "no authority is in date: {held}");
    // The agent is back.
    let _agent = Agent::start(&socket, Some(&given(&authority, HOUR, &[OURS])?))?;
    until("it is back", async || Ok(asked(&gateway, &authority, &caller).await == "200 ok")).await?;
    Ok(())
}
