//! What the server finds when it looks whose a name is, at every gateway on the store: a certificate made for the purpose
//! (RFC 8737), or a text on port 80 (RFC 8555 section 8.3).

use std::{convert::Infallible, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::Service};
use portcullis_core::Digest;
use portcullis_net::tls::{Challenges, ServerIdentity};
use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::{Acme, Way};

/// Where a text is asked for.
const PATH: &str = "/.well-known/acme-challenge/";

#[async_trait]
impl Challenges for Acme {
    async fn proof(&self, name: &str) -> Option<ServerIdentity> {
        let name = self.ours(name, Way::TlsAlpn01)?;
        let proof = self.0.book.proof(name).await?;
        let mut made = CertificateParams::new(vec![name.to_owned()]).ok()?;
        made.custom_extensions =
            vec![CustomExtension::new_acme_identifier(&Digest::of(proof.text.as_bytes()).0)];
        let key = KeyPair::generate().ok()?;
        let certificate = made.self_signed(&key).ok()?;
        Some(ServerIdentity::new(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()))
    }
}

impl Acme {
    /// A name of the certificate, where it is proven in this way: strangers must not make us read the store for others.
    fn ours(&self, name: &str, way: Way) -> Option<&str> {
        let settings = &self.0.settings;
        let mut names = settings.domains.iter().filter(|_| settings.way == way);
        names.find(|one| one.eq_ignore_ascii_case(name)).map(String::as_str)
    }

    async fn text(&self, host: &str, token: &str) -> Option<String> {
        let name = self.ours(host, Way::Http01)?;
        let proof = self.0.book.proof(name).await?;
        (proof.token == token).then_some(proof.text)
    }
}

/// Answers on port 80, and knows nothing else.
#[derive(Clone, Debug)]
pub struct HttpAnswers(pub Acme);

impl Service<Request<Incoming>> for HttpAnswers {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let acme = self.0.clone();
        Box::pin(async move {
            let token = request.uri().path().strip_prefix(PATH).filter(|_| request.method() == Method::GET);
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
            let text = match (token, host) {
                (Some(token), Some(host)) => acme.text(host, token).await,
                _ => None,
            };
            let status = if text.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
            let mut response = Response::new(Full::new(Bytes::from(text.unwrap_or_default())));
            *response.status_mut() = status;
            let plain = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            Ok(response)
        })
    }
}
