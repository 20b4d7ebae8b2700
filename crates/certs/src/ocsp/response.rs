//! What an OCSP responder is asked, and whether its answer holds (RFC 6960, in the profile of RFC 5019): of the certificate that
//! was asked about, signed by its authority or by whom it has named for that, and in date.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use portcullis_core::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use x509_cert::{
    Certificate,
    der::{
        Decode, Encode, Header, Reader as _, SliceReader,
        asn1::{Any, ObjectIdentifier, OctetString},
    },
    ext::pkix::{AuthorityInfoAccessSyntax, ExtendedKeyUsage, name::GeneralName},
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    ResponderId, SingleResponse, TbsRequest,
};

/// SHA-1, of which both sides make how an authority is named, and nothing else.
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const RESPONDER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const SIGNS_RESPONSES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
const TLS_FEATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// `status_request` among TLS features, as DER writes the number.
const MUST_STAPLE: [u8; 3] = [2, 1, 5];
/// How far the clock of a responder may be ahead of ours.
const AHEAD_MS: u64 = 300_000;
/// How long an answer is used that does not say so.
const UNSAID_MS: u64 = 3_600_000;
/// Certificates that an answer may bring.
const CERTIFICATES_MAX: usize = 8;

/// A certificate and the one that signed it.
pub(super) struct Pair {
    leaf: Certificate,
    issuer: Certificate,
}

/// An answer that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Since when.
    pub(super) from: Timestamp,
    /// Until when.
    pub(super) until: Timestamp,
    /// It says that the certificate is revoked.
    pub(super) revoked: bool,
}

impl Pair {
    /// From the first two of a chain, in DER.
    pub(super) fn read(leaf: &[u8], issuer: &[u8]) -> Result<Self, String> {
        let read =
            |der| Certificate::from_der(der).map_err(|error| format!("the chain cannot be read: {error}"));
        let pair = Self { leaf: read(leaf)?, issuer: read(issuer)? };
        if pair.leaf.tbs_certificate.issuer != pair.issuer.tbs_certificate.subject {
            return Err("the second certificate of the chain is not that of the authority".to_owned());
        }
        Ok(pair)
    }

    fn id(&self) -> Result<CertId, String> {
        let sha1 = |bytes: &[u8]| OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
        let issuer = &self.issuer.tbs_certificate;
        let name = issuer.subject.to_der().map_err(text)?;
        Ok(CertId {
            hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Any::null()) },
            issuer_name_hash: sha1(&name).map_err(text)?,
            issuer_key_hash: sha1(issuer.subject_public_key_info.subject_public_key.raw_bytes())
                .map_err(text)?,
            serial_number: self.leaf.tbs_certificate.serial_number.clone(),
        })
    }

    /// What is sent to the responder: without a nonce, so that it can answer from what it has signed before.
    pub(super) fn request(&self) -> Result<Vec<u8>, String> {
        let one = Request { req_cert: self.id()?, single_request_extensions: None };
        let tbs_request = TbsRequest { request_list: vec![one], ..TbsRequest::default() };
        OcspRequest { tbs_request, optional_signature: None }.to_der().map_err(text)
    }

    /// Whether an answer holds at `now`.
    pub(super) fn judge(&self, response: &[u8], now: Timestamp) -> Result<Judged, String> {
        let unreadable = |error| format!("the answer cannot be read: {error}");
        let answer = OcspResponse::from_der(response).map_err(unreadable)?;
        if answer.response_status != OcspResponseStatus::Successful {
            return Err(format!("the responder says `{:?}`", answer.response_status));
        }
        let bytes = answer.response_bytes.filter(|bytes| bytes.response_type == BASIC);
        let bytes = bytes.ok_or("the answer is of another kind")?.response.into_bytes();
        let basic = BasicOcspResponse::from_der(&bytes).map_err(unreadable)?;
        if !self.signed(&basic, signed_part(&bytes).map_err(unreadable)?, now)? {
            return Err("the answer is not signed by the authority, nor by whom it has named".to_owned());
        }
        let wanted = self.id()?;
        let about = |one: &&SingleResponse| same(&one.cert_id, &wanted);
        let found = basic.tbs_response_data.responses.iter().find(about);
        let found = found.ok_or("the answer is about other certificates")?;
        let at = |seconds: std::time::Duration| Timestamp(seconds.as_secs().saturating_mul(1_000));
        let from = at(found.this_update.0.to_unix_duration());
        let until = found.next_update.map_or(from.plus_ms(UNSAID_MS), |next| at(next.0.to_unix_duration()));
        if from.0 > now.0.saturating_add(AHEAD_MS) || until <= now || until <= from {
            return Err(format!("the answer is good from {from} to {until}, which is not now"));
        }
        match found.cert_status {
            CertStatus::Good(_) => Ok(Judged { from, until, revoked: false }),
            CertStatus::Revoked(_) => Ok(Judged { from, until, revoked: true }),
            CertStatus::Unknown(_) => Err("the responder does not know the certificate".to_owned()),
        }
    }

    /// Whether the authority signed it, or a certificate that it has signed for this purpose alone.
    fn signed(&self, basic: &BasicOcspResponse, part: &[u8], now: Timestamp) -> Result<bool, String> {
        let named = &basic.tbs_response_data.responder_id;
        let signs = |one: &Certificate| {
            let key = &one.tbs_certificate.subject_public_key_info;
            is(named, one) && verified(key, &basic.signature_algorithm, part, basic.signature.raw_bytes())
        };
        if signs(&self.issuer) {
            return Ok(true);
        }
        let all = basic.certs.as_deref().unwrap_or_default();
        if all.len() > CERTIFICATES_MAX {
            return Err("the answer brings too many certificates".to_owned());
        }
        Ok(all.iter().any(|one| self.delegated(one, now) && signs(one)))
    }

    fn delegated(&self, one: &Certificate, now: Timestamp) -> bool {
        let (own, issuer) = (&one.tbs_certificate, &self.issuer.tbs_certificate);
        let purposes = own.get::<ExtendedKeyUsage>().ok().flatten();
        let may = purposes.is_some_and(|(_, purposes)| purposes.0.contains(&SIGNS_RESPONSES));
        let (from, until) = (own.validity.not_before, own.validity.not_after);
        let in_date =
            (from.to_unix_duration().as_secs()..=until.to_unix_duration().as_secs()).contains(&now.seconds());
        let Ok(part) = own.to_der() else { return false };
        may && in_date
            && own.issuer == issuer.subject
            && verified(
                &issuer.subject_public_key_info,
                &one.signature_algorithm,
                &part,
                one.signature.raw_bytes(),
            )
    }
}

fn text(error: x509_cert::der::Error) -> String {
    error.to_string()
}

/// The same certificate: how the digest is written that names its authority may differ.
fn same(one: &CertId, other: &CertId) -> bool {
    one.hash_algorithm.oid == other.hash_algorithm.oid
        && one.issuer_name_hash == other.issuer_name_hash
        && one.issuer_key_hash == other.issuer_key_hash
        && one.serial_number == other.serial_number
}

fn is(named: &ResponderId, one: &Certificate) -> bool {
    let own = &one.tbs_certificate;
    match named {
        ResponderId::ByName(name) => *name == own.subject,
        ResponderId::ByKey(key) => {
            let bits = own.subject_public_key_info.subject_public_key.raw_bytes();
            digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref() == key.as_bytes()
        }
    }
}

/// The bytes that are signed, as they came.
fn signed_part(basic: &[u8]) -> Result<&[u8], x509_cert::der::Error> {
    let mut reader = SliceReader::new(basic)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

/// By what TLS itself takes for a signature: no SHA-1, no short keys.
fn verified(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    // Both are short: their length is one byte.
    let inner = |id: &AlgorithmIdentifierOwned| id.to_der().ok().and_then(|der| Some(der.get(2..)?.to_vec()));
    let (Some(of_key), Some(of_signature)) = (inner(&key.algorithm), inner(algorithm)) else { return false };
    default_provider().signature_verification_algorithms.all.iter().any(|one| {
        one.public_key_alg_id().as_ref() == of_key
            && one.signature_alg_id().as_ref() == of_signature
            && one.verify_signature(key.subject_public_key.raw_bytes(), message, signature).is_ok()
    })
}

/// Where a certificate says that its responder is.
pub(super) fn responder(leaf: &[u8]) -> Option<String> {
    let leaf = Certificate::from_der(leaf).ok()?;
    let (_, access) = leaf.tbs_certificate.get::<AuthorityInfoAccessSyntax>().ok().flatten()?;
    access.0.into_iter().filter(|one| one.access_method == RESPONDER).find_map(|one| {
        match one.access_location {
            GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
            _ => None,
        }
    })
}

/// Whether a certificate is good with an answer of its responder alone (RFC 7633).
pub(super) fn must_staple(leaf: &[u8]) -> bool {
    let leaf = Certificate::from_der(leaf).ok();
    let extensions = leaf.and_then(|leaf| leaf.tbs_certificate.extensions).unwrap_or_default();
    let mut features = extensions.iter().filter(|one| one.extn_id == TLS_FEATURE);
    features.any(|one| one.extn_value.as_bytes().windows(3).any(|part| part == MUST_STAPLE))
}
