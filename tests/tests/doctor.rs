//! `portcullis doctor`: a healthy gateway and sick ones, and attacks that are stopped and that are not.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use portcullis_testkit::{Gateway, HostileServer, Outcome, free_port};
use portcullis_tests::pair::{Pair, SOON, known};
use serde_json::Value;

fn examined(gateway: &Gateway, arguments: &[&str]) -> Outcome<(Option<i32>, Value)> {
    let output = gateway.command(&[&["doctor", "--json"], arguments].concat())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text)
        .map_err(|error| format!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), report))
}

fn finding<'v>(report: &'v Value, name: &str) -> &'v Value {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_gateway_is_well_and_stops_every_attack_without_a_call_to_its_server() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let (code, report) = examined(&pair.gateway, &[])?;
    assert_eq!(code, Some(0), "{report:#}");
    for name in [
        "configuration",
        "data directory",
        "bind",
        "TLS",
        "authentication",
        "Origin",
        "Host",
        "limits",
        "ledger",
        "ledger verifies",
        "clock",
        "server s",
    ] {
        assert_eq!(finding(&report, name)["state"], "good", "{report:#}");
    }
    let (code, report) = examined(&pair.gateway, &["--attack"])?;
    assert_eq!(code, Some(0), "{report:#}");
    let attacks: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|finding| finding["attack"] == true).collect();
    assert!(attacks.len() >= 30, "{}", attacks.len());
    assert!(attacks.iter().all(|attack| attack["state"] == "good"), "{report:#}");
    assert_eq!(pair.server.count("tools/call"), 0);
    let keys = pair.gateway.command(&["key", "list", "--json"])?;
    let keys: Value = serde_json::from_slice(&keys.stdout)?;
    let doctors = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["name"].as_str().unwrap().starts_with("doctor"));
    assert!(doctors.clone().count() == 2 && doctors.clone().all(|key| key["state"] == "revoked"), "{keys:#}");
    let said = pair.gateway.command(&["doctor"])?;
    assert!(String::from_utf8_lossy(&said.stdout).contains("0 bad"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attack_that_is_not_stopped_is_said_and_fails() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "servers:\n  s:\n    url: {}\nlisten:\n  address: 127.0.0.1:{}\n  hosts: [evil.example]\n  origins: [\"https://evil.example\"]\n",
        server.url(),
        free_port()?
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let (code, report) = examined(&gateway, &["--attack"])?;
    assert_eq!(code, Some(1), "{report:#}");
    for name in ["DNS rebinding: Host", "cross-site: Origin", "Host", "Origin"] {
        assert_eq!(finding(&report, name)["state"], "bad", "{report:#}");
        assert!(finding(&report, name)["fix"].is_string());
    }
    assert_eq!(finding(&report, "cross-site: Origin null")["state"], "good");
    let said = gateway.command(&["doctor", "--attack"])?;
    assert!(String::from_utf8_lossy(&said.stdout).contains("NOT STOPPED"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_with_the_command_that_helps() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "servers:\n  gone:\n    url: http://127.0.0.1:{}/mcp\n  well:\n    url: {}\nidentities:\n  anonymous:\n    roles: [reader]\n",
        free_port()?,
        server.url()
    );
    let mut gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let (_, report) = examined(&gateway, &["--attack"])?;
    assert_eq!(
        finding(&report, "cross-site: Origin")["state"],
        "good",
        "the server that is well is aimed at: {report:#}"
    );
    fs::set_permissions(gateway.data().join("kek"), fs::Permissions::from_mode(0o644))?;
    let (code, report) = examined(&gateway, &[])?;
    assert_eq!(code, Some(1), "{report:#}");
    let kek = finding(&report, "file kek");
    assert_eq!(kek["state"], "bad");
    assert!(kek["fix"].as_str().unwrap().contains("chmod 600"), "{kek}");
    assert_eq!(finding(&report, "server gone")["state"], "bad", "{report:#}");
    assert_eq!(finding(&report, "authentication")["state"], "warn", "{report:#}");
    fs::write(gateway.folder().join("portcullis.yaml"), "nonsense: 1\n")?;
    let (_, report) = examined(&gateway, &[])?;
    assert_eq!(finding(&report, "configuration")["fix"], "portcullis check");
    gateway.stop().await?;
    let (code, report) = examined(&gateway, &["--attack"])?;
    assert_eq!(code, Some(3), "{report:#}");
    assert_eq!(finding(&report, "gateway")["fix"], "portcullis run");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_tls_is_examined_and_attacked_through_it() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!("servers:\n  s:\n    url: {}\n", server.url());
    let gateway = Gateway::builder().config(&yaml).argument("--tls").tls().start().await?;
    known(&gateway, SOON).await?;
    let (code, report) = examined(&gateway, &["--attack"])?;
    assert_eq!(code, Some(0), "{report:#}");
    assert!(finding(&report, "TLS")["detail"].as_str().unwrap().contains("trusted"), "{report:#}");
    assert_eq!(finding(&report, "smuggling: both lengths")["state"], "good");
    let certificate = finding(&report, "certificate");
    assert!(certificate["detail"].as_str().unwrap().starts_with("ends 20"), "{certificate}");
    Ok(())
}

/// A certificate for `name` that lasts from `from` to `to`, in days from now; and its key.
fn certificate(name: &str, from: i64, to: i64) -> Outcome<(String, String)> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()])?;
    let day = |days: i64| {
        let now = std::time::SystemTime::now();
        let seconds = Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - seconds } else { now + seconds }
    };
    (params.not_before, params.not_after) = (day(from).into(), day(to).into());
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_clients_will_not_take_is_named_with_what_mends_it() -> Outcome {
    for (name, from, to, state, words) in [
        ("127.0.0.1", -1, 90, "good", "ends"),
        ("127.0.0.1", -1, 5, "warn", "ends"),
        ("127.0.0.1", -9, -1, "bad", "is over"),
        ("127.0.0.1", 2, 9, "bad", "not valid yet"),
        ("other.example", -1, 90, "bad", "is not for `127.0.0.1`"),
    ] {
        let gateway = Gateway::builder().argument("--tls").tls().start().await?;
        let (pem, key) = certificate(name, from, to)?;
        // Looked at as it will be read at the next start: the listener still presents the old one.
        fs::write(gateway.data().join("tls.crt"), pem)?;
        fs::write(gateway.data().join("tls.key"), key)?;
        let (_, report) = examined(&gateway, &[])?;
        let found = finding(&report, "certificate");
        assert_eq!(found["state"], state, "{name} {from} {to}: {found}");
        assert!(found["detail"].as_str().unwrap().contains(words), "{found}");
        assert_eq!(found["fix"].as_str().is_some_and(|fix| fix.contains("portcullis")), state != "good");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ledger_and_an_unconfined_server_are_found_and_every_finding_says_what_mends_it() -> Outcome
{
    let binary = Gateway::builder().prepare()?.binary().to_path_buf();
    let yaml = format!("servers:\n  loose:\n    command: [\"{}\", sample-server]\n", binary.display());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let (code, report) = examined(&gateway, &[])?;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(finding(&report, "sandbox of loose")["state"], "warn");
    let key = gateway.data().join("ledger/key.pub");
    let other = fs::read_to_string(&key)?.replace('+', "-");
    fs::write(&key, other)?;
    let (code, report) = examined(&gateway, &[])?;
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(finding(&report, "ledger verifies")["state"], "bad");
    for found in report["findings"].as_array().unwrap() {
        assert_eq!(found["fix"].is_string(), found["state"] != "good", "{found}");
    }
    Ok(())
}
