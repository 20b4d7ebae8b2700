//! Handshakes of an ACME server that looks whose a name is (RFC 8737), beside those of clients. They come to the port of clients
//! and name a protocol of their own.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::Acceptor,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::{ServerIdentity, ServerTls, TlsError, certificates, provider, versions};

/// The protocol.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// What an ACME server finds.
#[async_trait]
pub trait Challenges: Send + Sync + fmt::Debug {
    /// The certificate that proves whose `name` is, while somebody asks.
    async fn proof(&self, name: &str) -> Option<ServerIdentity>;
}

impl ServerTls {
    /// The same, which lets an ACME server look, too.
    #[must_use]
    pub fn with_challenges(self, challenges: Arc<dyn Challenges>) -> Self {
        Self { challenges: Some(challenges), ..self }
    }

    /// The handshake of a client. That of an ACME server is none, and is over when this ends.
    pub(crate) async fn accept<IO>(&self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(challenges) = &self.challenges else {
            return TlsAcceptor::from(self.config()).accept(io).await;
        };
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        let hello = start.client_hello();
        let asks = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == PROTOCOL));
        if !asks {
            return start.into_stream(self.config()).await;
        }
        let name = hello.server_name().unwrap_or_default().to_owned();
        let unknown = || io::Error::other("nobody waits for a challenge of this name");
        let proof = challenges.proof(&name).await.ok_or_else(unknown)?;
        let config = shown(&proof).map_err(io::Error::other)?;
        start.into_stream(Arc::new(config)).await?;
        Err(io::Error::other("this was the challenge of an ACME server"))
    }
}

fn shown(proof: &ServerIdentity) -> Result<ServerConfig, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(proof.key_pem.expose());
    let key = key.map_err(|error| TlsError::Key(error.to_string()))?;
    let key = provider().key_provider.load_private_key(key).map_err(TlsError::Pair)?;
    // Not compared with its key as others are: its critical extension says that it is no certificate for clients.
    let certified = CertifiedKey::new(certificates(&proof.cert_pem)?, key);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(false))
        .map_err(TlsError::Setup)?;
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}
