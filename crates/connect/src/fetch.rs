//! How documents of identity providers are fetched: through the guarded client, bounded, redirects never followed.

use std::time::Duration;

use bytes::Bytes;
use portcullis_net::{client::get_bounded, guard::EgressPolicy};
use url::{Host, Url};

/// From where documents of an identity provider may come. The default is the strictest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Its names may resolve to private addresses.
    pub allow_private: bool,
    /// Certificate authorities trusted beside the platform's, in PEM.
    pub roots_pem: Vec<Vec<u8>>,
}

impl Reach {
    /// What may be connected to for `url`. This machine is reached only where the operator wrote its loopback address or
    /// `localhost`: `local` says that.
    pub(crate) fn egress(&self, local: bool) -> EgressPolicy {
        EgressPolicy { allow_http: local, ..EgressPolicy::of(local, self.allow_private) }
    }

    /// The body of a `200` answer to `GET url`.
    ///
    /// # Errors
    /// What went wrong, for the log.
    pub(crate) async fn get(
        &self,
        url: &Url,
        local: bool,
        bytes_max: u64,
        timeout_ms: u64,
    ) -> Result<Bytes, String> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let limit = Duration::from_millis(timeout_ms);
        get_bounded(url, &self.egress(local), &self.roots_pem, bytes_max, limit)
            .await
            .map_err(|error| format!("`{url}`: {error}"))
    }
}

/// Whether the URL points at this machine, as it is written.
pub(crate) fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Whether nobody on the way can replace what comes from there: `https`, or this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_local(url))
}
