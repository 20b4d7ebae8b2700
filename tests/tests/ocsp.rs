//! OCSP answers beside the certificates of the listener, with OpenSSL on both ends: its responder is asked, its client sees the
//! result.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use portcullis_testkit::{Gateway, Outcome};
use portcullis_tests::pair::{entries, soon};

fn openssl(folder: &Path, arguments: &str) -> Outcome<String> {
    let command = &mut Command::new("openssl");
    let out = command.args(arguments.split_whitespace()).current_dir(folder).stdin(Stdio::null()).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() || arguments.starts_with("s_client"), "{arguments}: {said}");
    Ok(said)
}

/// An authority, a stranger of the same name, and a certificate whose responder is at `port`.
fn house(at: &Path, port: u16, more: &str) -> Outcome {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "stranger"] {
        openssl(
            at,
            &format!("req -x509 {key} -keyout {name}.key -out {name}.crt -subj /CN=authority -days 30"),
        )?;
    }
    let extensions = format!(
        "subjectAltName=DNS:localhost\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}/\n{more}\n"
    );
    fs::write(at.join("leaf.ext"), extensions)?;
    openssl(at, &format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"))?;
    openssl(
        at,
        "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -set_serial 4097 -days 20 -extfile leaf.ext -out leaf.crt",
    )?;
    let chain = [fs::read(at.join("leaf.crt"))?, fs::read(at.join("ca.crt"))?].concat();
    fs::write(at.join("chain.crt"), chain)?;
    Ok(())
}

/// OpenSSL's responder.
struct Responder(Child);

impl Responder {
    fn start(at: &Path, port: u16, state: &str, signer: &str) -> Outcome<Self> {
        let since = if state == "R" { "250101000000Z" } else { "" };
        fs::write(
            at.join("index"),
            format!("{state}\t991231000000Z\t{since}\t1001\tunknown\t/CN=localhost\n"),
        )?;
        let arguments = format!(
            "ocsp -index index -port {port} -CA ca.crt -rsigner {signer}.crt -rkey {signer}.key -nmin 30 -ignore_err"
        );
        let log = fs::File::create(at.join("responder.log"))?;
        let child = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(at)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What OpenSSL's client sees that asks for an answer.
fn seen(at: &Path, gateway: &Gateway) -> String {
    let address = gateway.address();
    openssl(at, &format!("s_client -connect {address} -servername localhost -CAfile ca.crt -status"))
        .unwrap_or_default()
}

async fn gateway(at: &Path, ocsp: &str) -> Outcome<Gateway> {
    let yaml = format!(
        "listen:\n  address: 127.0.0.1:{}\n  tls:\n    certificate: {at}/chain.crt\n    key: {at}/leaf.key\n    ocsp: {ocsp}\n",
        portcullis_testkit::free_port()?,
        at = at.display()
    );
    Gateway::builder().config(&yaml).tls().start().await
}

#[tokio::test]
async fn the_answer_of_the_responder_that_a_certificate_names_is_shown_beside_it() -> Outcome {
    let (folder, port) = (tempfile::tempdir()?, portcullis_testkit::free_port()?);
    let at = folder.path();
    house(at, port, "")?;
    let gateway = gateway(at, "{allow_loopback: true}").await?;
    assert!(seen(at, &gateway).contains("OCSP response: no response sent"), "a listener without one serves");
    soon("it is told of", || gateway.output().contains("no OCSP answer")).await?;
    let responder = Responder::start(at, port, "V", "ca")?;
    soon("the answer is shown", || seen(at, &gateway).contains("Cert Status: good")).await?;
    assert!(seen(at, &gateway).contains("Verify return code: 0"), "with the certificate");
    let failed = entries(&gateway, "event=certificate.failed").await?;
    assert_eq!((failed.len(), &failed[0]["data"]["source"]), (1, &"ocsp".into()));
    drop(responder);
    gateway.reload()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(seen(at, &gateway).contains("Cert Status: good"), "as long as it is good");
    assert!(
        gateway
            .admin_get("/metrics")
            .await?
            .text()
            .contains("portcullis_ocsp_answers_total{outcome=\"obtained\"} 1")
    );
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_is_good_with_an_answer_alone_is_not_shown_without_one() -> Outcome {
    let (folder, port) = (tempfile::tempdir()?, portcullis_testkit::free_port()?);
    let at = folder.path();
    house(at, port, "tlsfeature=status_request")?;
    // By a stranger who has the name of the authority, but not its key.
    let stranger = Responder::start(at, port, "V", "stranger")?;
    let gateway = gateway(at, "{allow_loopback: true}").await?;
    soon("it is told of", || gateway.output().contains("not signed by the authority")).await?;
    let shown = seen(at, &gateway);
    assert!(!shown.contains("CN = authority") && !shown.contains("Cert Status"), "{shown}");
    drop(stranger);
    let _responder = Responder::start(at, port, "V", "ca")?;
    soon("both are shown", || {
        let shown = seen(at, &gateway);
        shown.contains("Cert Status: good") && shown.contains("Verify return code: 0")
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_responder_on_this_machine_is_asked_only_where_that_is_allowed_and_a_revocation_is_shown() -> Outcome
{
    let (folder, port) = (tempfile::tempdir()?, portcullis_testkit::free_port()?);
    let at = folder.path();
    house(at, port, "")?;
    let _responder = Responder::start(at, port, "R", "ca")?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let strict = gateway(at, "{}").await?;
    soon("it is refused", || strict.output().contains("is not allowed")).await?;
    let asked = fs::read_to_string(at.join("responder.log"))?;
    assert!(!asked.contains("OCSP Request Data"), "{asked}");
    assert!(seen(at, &strict).contains("OCSP response: no response sent"));
    let open = gateway(at, &format!("{{url: 'http://localhost:{port}/'}}")).await?;
    soon("clients are told", || seen(at, &open).contains("Cert Status: revoked")).await?;
    let failed = entries(&open, "event=certificate.failed").await?;
    assert!(failed.iter().any(|entry| entry["data"]["detail"] == "the certificate is revoked"), "{failed:?}");
    Ok(())
}
