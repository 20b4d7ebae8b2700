//! `portcullis doctor`: a healthy gateway and sick ones, and attacks that are stopped and that are not.

use std::{fs, os::unix::fs::PermissionsExt as _};

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
    let yaml = format!(
        "servers:\n  gone:\n    url: http://127.0.0.1:{}/mcp\nidentities:\n  anonymous:\n    roles: [reader]\n",
        free_port()?
    );
    let mut gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    fs::set_permissions(gateway.data().join("pepper"), fs::Permissions::from_mode(0o644))?;
    let (code, report) = examined(&gateway, &[])?;
    assert_eq!(code, Some(1), "{report:#}");
    let pepper = finding(&report, "file pepper");
    assert_eq!(pepper["state"], "bad");
    assert!(pepper["fix"].as_str().unwrap().contains("chmod 600"), "{pepper}");
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
    Ok(())
}
