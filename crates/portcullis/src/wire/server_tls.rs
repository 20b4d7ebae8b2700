//! What is wanted of a server's certificate, from the files that the configuration names.

use std::path::Path;

use portcullis_config::{ServerTlsSection, TlsVersion};
use portcullis_core::{Digest, Secret};
use portcullis_net::tls::{ClientIdentity, ClientTls, SpiffePeer, Workload};

/// With what stands in its files, so that a reload sees other ones; and with what the SPIFFE Workload API gives, where it is there.
pub(super) fn read(
    section: Option<&ServerTlsSection>,
    workload: Option<Workload>,
    parts: &mut Vec<String>,
) -> Result<ClientTls, String> {
    let Some(section) = section else { return Ok(ClientTls::default()) };
    if let Some((flaw, hint)) = section.flaw() {
        return Err(format!("`tls`: {flaw}; {hint}"));
    }
    let ids: Vec<String> = section.spiffe.iter().map(|id| id.0.clone()).collect();
    let spiffe = match workload {
        _ if ids.is_empty() => None,
        Some(workload) => Some(SpiffePeer { workload, ids }),
        None => {
            return Err(
                "`tls.spiffe`: there is no Workload API to ask; write the section `spiffe`".to_owned()
            );
        }
    };
    let mut read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        parts.push(Digest::of(&bytes).to_string());
        Ok::<_, String>(bytes)
    };
    let roots_pem = section.ca.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let revoked_pem = section.crls.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let identity = match (&section.certificate, &section.key) {
        (Some(certificate), Some(key)) => {
            Some(ClientIdentity { cert_pem: read(certificate)?, key_pem: Secret::new(read(key)?) })
        }
        _ => None,
    };
    parts.push(format!("{:?}{:?}{:?}", section.pins, section.min_version, section.spiffe));
    let tls = ClientTls {
        only_these_roots: !roots_pem.is_empty(),
        roots_pem,
        revoked_pem,
        pins: section.pins.iter().map(|pin| pin.0).collect(),
        identity,
        only_1_3: section.min_version == TlsVersion::V13,
        spiffe,
    };
    tls.config(false).map_err(|error| format!("`tls`: {error}"))?;
    Ok(tls)
}
