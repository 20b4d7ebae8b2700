//! Entries of the ledger go to sinks: all that their filter wants, in order, at least once, whatever ends in between.

use std::{fs, path::Path, sync::Arc};

use portcullis_testkit::{Gateway, Outcome};
use portcullis_tests::pair::{SOON, asked, entries, known, new_key, soon};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
}

fn indices(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["index"].as_u64()).collect()
}

fn sink(gateway: &Gateway, name: &str) -> Outcome<Value> {
    let list = asked(gateway, &["sink", "list", "--json"])?;
    let found = list["sinks"].as_array().into_iter().flatten().find(|sink| sink["name"] == name);
    Ok(found.cloned().ok_or("no such sink")?)
}

const YAML: &str = "sinks:
  all: {kind: file, path: all.ndjson, from: start}
  graves: {kind: file, path: graves.ndjson, severity: medium, identity: digest, network: leave_out, format: ocsf}
";

#[tokio::test]
async fn every_entry_is_in_the_file_once_and_in_order_from_the_first_start_to_the_last_stop() -> Outcome {
    let mut gateway = Gateway::start(YAML).await?;
    let folder = gateway.folder().to_owned();
    new_key(&gateway, "one", "reader")?;
    let trial = asked(&gateway, &["sink", "test", "all", "--json"])?;
    assert_eq!(trial["passed"], true, "{trial}");
    gateway.stop().await?;
    let first = lines(&folder.join("all.ndjson"));
    assert_eq!(indices(&first), (0..first.len() as u64).collect::<Vec<_>>());
    assert_eq!(first.last().map(|line| &line["entry"]["event"]), Some(&json!("gateway.stopped")));
    gateway.start_again().await?;
    new_key(&gateway, "two", "reader")?;
    gateway.kill()?;
    gateway.start_again().await?;
    gateway.stop().await?;
    let mut seen = indices(&lines(&folder.join("all.ndjson")));
    let last = seen.last().copied().unwrap_or_default();
    // Whatever was delivered right before the kill may be there twice, under the same index.
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..=last).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_sink_gets_what_its_filter_wants_without_what_it_must_not_have() -> Outcome {
    let gateway = Gateway::start(YAML).await?;
    known(&gateway, SOON).await?;
    let key = new_key(&gateway, "reader-of-notes", "reader")?;
    let mut client = portcullis_testkit::McpClient::new(
        &gateway.url("sample"),
        Some(&key),
        portcullis_testkit::Era::Modern,
    );
    client.request("tools/call", json!({"name": "notes.delete", "arguments": {"id": 1}})).await?;
    let file = gateway.folder().join("graves.ndjson");
    let refused = || lines(&file).into_iter().find(|line| line["class_uid"] == 6003);
    soon("the refusal in the file", || refused().is_some()).await?;
    let refused = refused().ok_or("gone")?;
    assert_eq!(
        (&refused["action_id"], &refused["metadata"]["event_code"]),
        (&json!(2), &json!("call.refused"))
    );
    let text = refused.to_string();
    assert!(refused["actor"]["user"]["uid"].as_str().is_some_and(|id| id.starts_with("hmac:")), "{text}");
    let id = key.trim_start_matches("pcl_").split('_').next().unwrap_or_default();
    assert!(!id.is_empty() && !text.contains(id) && !text.contains("127.0.0.1"), "{text}");
    assert!(lines(&file).iter().all(|line| line["severity_id"].as_u64() >= Some(3)));
    Ok(())
}

#[tokio::test]
async fn a_sink_that_fails_holds_up_no_call_and_gets_everything_later() -> Outcome {
    let gateway =
        Gateway::start("sinks:\n  away: {kind: file, path: not-yet/all.ndjson, from: start}\n").await?;
    known(&gateway, SOON).await?;
    assert_eq!(gateway.command(&["sink", "test", "nobody"])?.status.code(), Some(1));
    new_key(&gateway, "one", "reader")?;
    soon("the failure is told", || {
        sink(&gateway, "away")
            .is_ok_and(|sink| sink["error"].as_str().is_some_and(|why| why.contains("not-yet")))
    })
    .await?;
    assert!(gateway.admin_get("/metrics").await?.text().contains("portcullis_sink_failing{sink=\"away\"} 1"));
    fs::create_dir(gateway.folder().join("not-yet"))?;
    let size = || entries_now(&gateway);
    soon("everything is there", || {
        let got = indices(&lines(&gateway.folder().join("not-yet/all.ndjson")));
        !got.is_empty() && got.len() as u64 >= size()
    })
    .await?;
    Ok(())
}

fn entries_now(gateway: &Gateway) -> u64 {
    sink(gateway, "away")
        .ok()
        .and_then(|sink| Some(sink["next"].as_u64()? + sink["lag"].as_u64()?))
        .unwrap_or(u64::MAX)
}

const LATE: &str = "sinks: {late: {kind: file, path: late.ndjson, events: ['key.*', 'sink.*']}}";

#[tokio::test]
async fn sinks_come_and_go_with_a_reload_and_are_filled_again_on_demand() -> Outcome {
    let gateway = Gateway::start("sinks: {}\n").await?;
    known(&gateway, SOON).await?;
    gateway.rewrite(|text| text.replace("sinks: {}", LATE))?;
    gateway.reload()?;
    soon("the sink is there", || sink(&gateway, "late").is_ok()).await?;
    new_key(&gateway, "one", "reader")?;
    let file = gateway.folder().join("late.ndjson");
    soon("the key is told of", || lines(&file).iter().any(|line| line["entry"]["event"] == "key.created"))
        .await?;
    assert_eq!(lines(&file).len(), 1, "what was before the sink is not in it");
    asked(&gateway, &["sink", "backfill", "late", "--from", "0", "--json"])?;
    soon("all keys are told of", || {
        lines(&file).iter().filter(|line| line["entry"]["event"] == "key.created").count() >= 3
    })
    .await?;
    assert_eq!(entries(&gateway, "event=sink.moved").await?.len(), 1);
    let beyond = gateway.command(&["sink", "backfill", "late", "--from", "100000"])?;
    assert_eq!(beyond.status.code(), Some(1), "{}", String::from_utf8_lossy(&beyond.stderr));
    gateway.rewrite(|text| text.replace(LATE, "sinks: {}"))?;
    gateway.reload()?;
    soon("the sink is gone", || sink(&gateway, "late").is_err()).await?;
    Ok(())
}

#[tokio::test]
async fn a_switch_that_gives_up_protection_shows_in_check_log_metrics_and_at_the_start() -> Outcome {
    let yaml = "sinks: {s: {kind: syslog, url: 'tcp://siem.example:601', danger_plain_text: true}}\n";
    let gateway = Gateway::start(yaml).await?;
    let key = "sinks.s.danger_plain_text";
    let checked = gateway.command(&["check"])?;
    assert!(String::from_utf8_lossy(&checked.stderr).contains(&format!("DANGER: {key}")));
    assert_eq!(asked(&gateway, &["check", "--json"])?["dangers"], json!([key]));
    let shown = gateway.output();
    assert!(shown.matches(key).count() >= 2, "the log and what is printed at the start: {shown}");
    assert!(
        gateway
            .admin_get("/metrics")
            .await?
            .text()
            .contains(&format!("portcullis_danger{{key=\"{key}\"}} 1"))
    );
    assert_eq!(sink(&gateway, "s")?["plain_text"], true);
    Ok(())
}

#[tokio::test]
async fn a_sink_that_would_send_in_the_clear_or_nowhere_is_a_mistake_with_its_place() -> Outcome {
    let gateway = Gateway::start("sinks: {}\n").await?;
    let cases = [
        ("sinks: {s: {kind: webhook, url: 'http://siem.example/', token: env:T}}", "in the clear"),
        ("sinks: {s: {kind: syslog, url: 'udp://siem.example:514'}}", "in the clear"),
        ("sinks: {s: {kind: splunk_hec, url: 'https://siem.example/'}}", "token"),
        ("sinks: {s: {kind: file}}", "path"),
        ("sinks: {s: {kind: otlp}}", "url"),
        ("sinks: {s: {kind: syslog, url: 'https://siem.example/'}}", "tls://"),
        ("sinks: {s: {kind: carrier_pigeon, url: 'https://siem.example/'}}", "splunk_hec"),
        ("sinks: {s: {kind: otlp, url: 'https://siem.example/', format: xml}}", "ocsf"),
    ];
    for (yaml, expected) in cases {
        fs::write(gateway.folder().join("other.yaml"), yaml)?;
        let output = gateway.command(&["check", "--config", "other.yaml"])?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(5), "{yaml}: {said}");
        assert!(said.contains(expected), "{yaml}: {said}");
    }
    Ok(())
}

/// A receiver of webhooks that shows this certificate, and its port.
async fn receiver(shown: &portcullis_testkit::Certificate) -> Outcome<u16> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(shown.certificate_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes())?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut some = [0; 65_536];
                while stream.read(&mut some).await.is_ok_and(|count| count > 0) {
                    // A post is small and comes in one piece or two; an answer to a piece more would end the connection.
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                        .await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    Ok(port)
}

#[tokio::test]
async fn an_authority_that_was_replaced_in_its_file_reaches_a_sink_though_no_rule_has_changed() -> Outcome {
    let (shown, other) =
        (portcullis_testkit::self_signed(&["localhost"])?, portcullis_testkit::self_signed(&["localhost"])?);
    let port = receiver(&shown).await?;
    let files = tempfile::tempdir()?;
    let (ca, token) = (files.path().join("ca.pem"), files.path().join("token"));
    fs::write(&ca, &other.certificate_pem)?;
    fs::write(&token, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")?;
    let yaml = format!(
        "sinks:\n  post: {{kind: webhook, url: 'https://localhost:{port}/', token: 'file:{}', from: start, tls: {{ca: [{}]}}}}\n",
        token.display(),
        ca.display(),
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let told = |what: &str| {
        sink(&gateway, "post").is_ok_and(|one| one["error"].as_str().is_some_and(|why| why.contains(what)))
    };
    soon("the authority is not that of the receiver", || told("certificate")).await?;
    let before = entries(&gateway, "event=config.changed").await?.len();
    fs::write(&ca, &shown.certificate_pem)?;
    gateway.reload()?;
    soon("the receiver is trusted", || {
        sink(&gateway, "post").is_ok_and(|one| one["delivered"].as_u64() > Some(0) && one["error"].is_null())
    })
    .await?;
    assert_eq!(entries(&gateway, "event=config.changed").await?.len(), before, "no rule has changed");
    Ok(())
}
