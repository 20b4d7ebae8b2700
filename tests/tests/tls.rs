//! Certificates of one's own: made for a first run, wanted of a server, shown to it, and replaced while calls go on.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use portcullis_core::Timestamp;
use portcullis_testkit::{Gateway, Outcome};
use portcullis_tests::pair::{SOON, known};
use serde_json::Value;

/// Runs a command of the gateway in a folder of its own.
fn made(folder: &std::path::Path, arguments: &[&str]) -> Outcome<String> {
    let output =
        Command::new(Gateway::builder().prepare()?.binary()).args(arguments).current_dir(folder).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// How the server `behind` stands, and why.
async fn behind(gateway: &Gateway) -> Outcome<(String, String)> {
    let reply = gateway.admin_get("/v1/servers").await?;
    let list: Value = serde_json::from_slice(&reply.body)?;
    let server = list["servers"].as_array().and_then(|all| all.first()).ok_or_else(|| reply.text())?;
    let text = |name: &str| server[name].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("error")))
}

/// When a self-signed certificate ends, in days from now.
fn days_left(pem: &[u8]) -> Outcome<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?;
    let look = portcullis_net::certificate::look(pem, "localhost", &[pem.to_vec()], Timestamp(now))?;
    assert_eq!(look.flaw, None, "clients take it that trust it");
    Ok((look.ends.ok_or("no end")?.0 - now) / 86_400_000)
}

#[tokio::test]
async fn the_certificate_of_a_first_run_ends_in_a_year_and_a_start_makes_another_one_before() -> Outcome {
    let mut gateway = Gateway::builder().argument("--tls").tls().start().await?;
    let at = gateway.data().join("tls.crt");
    let (first, key) = (std::fs::read(&at)?, std::fs::read_to_string(gateway.data().join("tls.key"))?);
    assert!((390..398).contains(&days_left(&first)?), "{}", days_left(&first)?);
    gateway.stop().await?;
    gateway.start_again().await?;
    assert_eq!(std::fs::read(&at)?, first, "it is kept");
    gateway.stop().await?;
    let mut ending = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    ending.not_after = (SystemTime::now() + Duration::from_secs(20 * 86_400)).into();
    let ending = ending.self_signed(&rcgen::KeyPair::from_pem(&key)?)?.pem();
    std::fs::write(&at, &ending)?;
    gateway.start_again().await?;
    let second = std::fs::read(&at)?;
    assert!((390..398).contains(&days_left(&second)?));
    let pin = portcullis_net::tls::pin_of;
    assert_eq!(pin(&second)?, pin(&first)?, "the key is the same");
    assert!(gateway.output().contains("was made anew"));
    Ok(())
}

#[tokio::test]
async fn a_server_with_an_authority_of_its_own_is_reached_with_mutual_tls_and_only_by_its_pinned_key()
-> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join("tls").join(name);
    made(folder.path(), &["tls", "dev-ca", "--name", "localhost", "--name", "127.0.0.1"])?;
    made(folder.path(), &["tls", "dev-ca", "--client", "edge"])?;
    let pin = made(folder.path(), &["tls", "pin", "tls/server.crt"])?;
    let other = made(folder.path(), &["tls", "pin", "tls/edge.crt"])?;
    let port = portcullis_testkit::free_port()?;
    let inner = format!(
        "listen:\n  address: 127.0.0.1:{port}\n  tls:\n    certificate: {}\n    key: {}\n    min_version: TLSv1.3\n    \
         client_ca: {}\n    client_certificates: required\nidentities:\n  anonymous:\n    roles: [operator]\n",
        at("server.crt").display(),
        at("server.key").display(),
        at("ca.crt").display(),
    );
    let _inner = Gateway::builder().config(&inner).tls().start().await?;
    let outer = |more: &str| {
        format!("servers:\n  behind:\n    url: https://localhost:{port}/mcp/sample\n    tls:\n{more}")
    };
    let (ca, cert, key) = (at("ca.crt"), at("edge.crt"), at("edge.key"));
    let (ca, cert, key) = (ca.display(), cert.display(), key.display());
    let shown = format!("      certificate: {cert}\n      key: {key}\n");
    let good = format!("      ca: [{ca}]\n      pins: [\"{pin}\"]\n{shown}");
    let gateway = Gateway::start(&outer(&good)).await?;
    known(&gateway, SOON).await?;
    assert_eq!(behind(&gateway).await?, ("ready".into(), String::new()));
    for (bad, why) in [
        (format!("      pins: [\"{pin}\"]\n{shown}"), "the platform does not know the authority"),
        (format!("      ca: [{ca}]\n      pins: [\"{other}\"]\n{shown}"), "another key is pinned"),
        (format!("      ca: [{ca}]\n      pins: [\"{pin}\"]\n"), "the server wants a certificate"),
    ] {
        let gateway = Gateway::start(&outer(&bad)).await?;
        known(&gateway, SOON).await?;
        let (state, error) = behind(&gateway).await?;
        assert!(state != "ready" && !error.is_empty(), "{why}: {state} {error}");
    }
    // What stands in the files is part of what a reload compares.
    gateway.rewrite(|yaml| yaml.replace(&pin, &other))?;
    gateway.reload()?;
    let due = tokio::time::Instant::now() + SOON;
    while behind(&gateway).await?.1.is_empty() {
        assert!(tokio::time::Instant::now() < due, "the new pin is not asked for");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}
