//! What takes a closer look: how long the certificate lasts, whether the ledger is whole, whether servers are confined.

use std::{fs, path::Path};

use portcullis_admin::api::ServerList;
use portcullis_config::OWN_CERTIFICATE;
use portcullis_core::{Clock as _, Timestamp};
use portcullis_net::{
    certificate::{self, Flaw},
    sandbox::{Confinement, Support},
};

use super::{
    super::{Common, Failure, audit::verify, client::NONE, output::exit},
    Finding, State,
    checks::Patient,
};
use crate::wire::SystemClock;

/// A certificate that ends sooner should be renewed.
const RENEW_DAYS: u64 = 14;
const DAY_MS: u64 = 86_400_000;
/// Entries that are verified while somebody waits.
const VERIFIED_MAX: u64 = 200_000;

/// The certificate as clients see it, without asking the listener.
pub(super) fn certificate(patient: &Patient) -> Option<Finding> {
    let name = patient.door.name.as_deref()?;
    let own = Path::new(&patient.status.data).join(OWN_CERTIFICATE);
    let tls = patient.config.settings.listen.tls.as_ref();
    // One that the gateway renews itself needs nobody who looks at it here: the metric and the ledger tell of it.
    if tls.is_some_and(|tls| tls.acme.is_some()) {
        return None;
    }
    let file = tls.and_then(|tls| tls.certificate.clone()).unwrap_or(own);
    let is_own = file.file_name().is_some_and(|name| name == OWN_CERTIFICATE);
    let renew = if is_own {
        format!("rm '{}'; then start portcullis run --tls again, which makes another", file.display())
    } else {
        format!("renew `{}`; it is taken up without a restart; then portcullis doctor", file.display())
    };
    let finding = |state, detail: String| Some(Finding::of("certificate", state, detail, &renew));
    let pem = match fs::read(&file) {
        Ok(pem) => pem,
        Err(error) => return finding(State::Skipped, format!("`{}`: {error}", file.display())),
    };
    // Whoever made it with --tls hands it to clients; one of one's own must be trusted as it is.
    let roots: Vec<Vec<u8>> = is_own.then(|| pem.clone()).into_iter().collect();
    let now = SystemClock::new().now();
    let look = match certificate::look(&pem, name, &roots, now) {
        Ok(look) => look,
        Err(error) => return finding(State::Bad, error.to_string()),
    };
    let ends = look.ends.map_or_else(|| String::from("does not end"), |ends| format!("ends {ends}"));
    match look.flaw {
        None if look.ends.is_some_and(|ends| ends < soon(now)) => finding(State::Warn, ends),
        None => finding(State::Good, ends),
        Some(Flaw::Issuer) => Some(Finding::of(
            "certificate",
            State::Warn,
            format!("no root of this machine leads to it; {ends}"),
            "give its issuer to clients, or use one that they trust: `listen.tls`; then portcullis doctor",
        )),
        Some(Flaw::Name) => finding(State::Bad, format!("is not for `{name}`; {ends}")),
        Some(Flaw::Expired) => finding(State::Bad, format!("is over: it {ends}")),
        Some(Flaw::NotYetValid) => finding(State::Bad, String::from("is not valid yet; is the clock right?")),
        Some(Flaw::Other(reason)) => finding(State::Bad, reason),
    }
}

fn soon(now: Timestamp) -> Timestamp {
    now.plus_ms(RENEW_DAYS * DAY_MS)
}

/// The whole ledger, from its files.
pub(super) fn ledger(common: &Common, patient: &Patient) -> Finding {
    let name = "ledger verifies";
    let fix = "portcullis audit verify names the file; docs/operate/audit.md";
    let durable = patient.status.health.ledger.durable;
    if durable > VERIFIED_MAX {
        let detail = format!("{durable} entries take a while");
        return Finding::of(name, State::Skipped, detail, "portcullis audit verify");
    }
    match verify::entries(common) {
        Ok(entries) => {
            Finding::of(name, State::Good, format!("{entries} entries under a valid checkpoint"), "")
        }
        Err(failure) if failure.exit == exit::UNVERIFIED => Finding::of(name, State::Bad, failure.text, fix),
        // A gateway on another machine: its files are not here.
        Err(failure) => {
            Finding::of(name, State::Skipped, failure.text, "portcullis audit verify --ledger DIR")
        }
    }
}

/// What this kernel can do, and which servers make use of it.
pub(super) fn sandbox(patient: &Patient) -> Vec<Finding> {
    let lacking = Support::detect().lacking(&Confinement::default());
    let update = "use a newer kernel, or `require_sandbox: true` to refuse what cannot be confined; then portcullis check";
    let mut findings = vec![match lacking.is_empty() {
        true => Finding::of("sandbox", State::Good, "this kernel confines fully", ""),
        false => {
            let detail = format!("this kernel lacks {}", lacking.join(", "));
            Finding::of("sandbox", State::Warn, detail, update)
        }
    }];
    let list: Result<ServerList, Failure> = patient.client.ask("list_servers", "", NONE, NONE);
    for server in list.map(|list| list.servers).unwrap_or_default() {
        let Some(state) = server.sandbox.filter(|state| state != "full") else { continue };
        let (detail, fix) = match state.as_str() {
            "off" => (
                String::from("runs with all rights of the gateway's user"),
                format!("write `sandbox: {{}}` under `servers.{}`; then portcullis check", server.name),
            ),
            _ => (format!("is confined {state}"), update.to_owned()),
        };
        findings.push(Finding::of(&format!("sandbox of {}", server.name), State::Warn, detail, &fix));
    }
    findings
}
