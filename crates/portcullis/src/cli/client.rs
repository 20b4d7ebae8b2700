//! The client of the admin API: the same table of endpoints as the server's, the same types.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use portcullis_admin::{ENDPOINTS, ProblemBody};
use portcullis_config::{Config, Overrides};
use portcullis_core::{Limits, Secret};
use portcullis_hosts::Places;
use portcullis_net::{
    body::read_bounded,
    client::{HttpUpstream, UpstreamOptions},
    guard::EgressPolicy,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::{Common, Failure, exit};

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 67_108_864;
/// Longer than the longest wait that the API offers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// File in the data directory with the URL of the admin API.
pub(crate) const ADDRESS_FILE: &str = "admin.addr";

/// A gateway that can be asked.
#[derive(Debug)]
pub(crate) struct Client {
    url: Url,
    token: Secret<String>,
    runtime: tokio::runtime::Runtime,
}

/// The data directory that a command works on.
pub(crate) fn data_dir(common: &Common) -> std::path::PathBuf {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    // A mistake elsewhere in the file is `check`'s business; here only the place of the data matters.
    match (&common.data, Config::load(common.config.as_deref(), &overrides)) {
        (Some(data), _) => data.clone(),
        (None, Ok(config)) => config.data_dir(),
        (None, Err(_)) => "portcullis-data".into(),
    }
}

impl Client {
    /// The gateway of the data directory, or the one that `--admin` names.
    pub(crate) fn connect(common: &Common) -> Result<Self, Failure> {
        Self::connect_as(common, None)
    }

    /// The same, with the API key in a file instead of the admin token.
    pub(crate) fn connect_as(common: &Common, key: Option<PathBuf>) -> Result<Self, Failure> {
        let data = data_dir(common);
        let url = match &common.admin {
            Some(url) => url.clone(),
            None => address(&data)?,
        };
        let file = key.or_else(|| common.token_file.clone()).unwrap_or_else(|| data.join("admin.token"));
        let token = match portcullis_store::read_secret(&file) {
            Ok(Some(bytes)) => String::from_utf8_lossy(bytes.expose()).trim().to_owned(),
            Ok(None) => {
                let text = format!(
                    "`{}` does not exist\nhint: start the gateway with `portcullis run`, or name the file with --token-file",
                    file.display()
                );
                return Err(Failure::of(exit::UNREACHED, text));
            }
            Err(error) => return Err(Failure::refused(error.to_string())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::refused(error.to_string()))?;
        Ok(Self { url, token: Secret::new(token), runtime })
    }

    /// Where the admin API is.
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    /// Asks the endpoint `name`; `path` fills its variable part.
    pub(crate) fn ask<A: DeserializeOwned>(
        &self,
        name: &str,
        path: &str,
        query: Option<&impl Serialize>,
        body: Option<&impl Serialize>,
    ) -> Result<A, Failure> {
        let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.name == name) else {
            return Err(Failure::refused(format!("the admin API has no `{name}`")));
        };
        let mut url = self.url.clone();
        let fixed = endpoint.path.split_once('{').map_or(endpoint.path, |(fixed, _)| fixed);
        url.set_path(fixed);
        if endpoint.path.contains('{')
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().push(path);
        }
        if let Some(query) = query {
            append_query(&mut url, query)?;
        }
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| Failure::refused(error.to_string()))?,
            None => Vec::new(),
        };
        let (status, bytes) = self.runtime.block_on(self.send(endpoint.method, &url, body))?;
        if (200..300).contains(&status) {
            return serde_json::from_slice(&bytes)
                .map_err(|error| Failure::refused(format!("the gateway's answer does not fit: {error}")));
        }
        Err(problem(status, &bytes))
    }

    async fn send(&self, method: &str, url: &Url, body: Vec<u8>) -> Result<(u16, Bytes), Failure> {
        let unreached = |reason: String| {
            let text = format!(
                "no gateway reached at {}: {reason}\nhint: start it with `portcullis run`, or name it with --admin URL",
                self.url
            );
            Failure::of(exit::UNREACHED, text)
        };
        let egress = EgressPolicy::of(true, true);
        let mut options = UpstreamOptions::new(egress, &Limits::default());
        options.first_byte_timeout = ANSWER_TIMEOUT;
        let upstream = HttpUpstream::new(url, &options).map_err(|error| unreached(error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unreached(error.to_string()))?;
        let answer = upstream.send(request).await.map_err(|error| unreached(error.to_string()))?;
        let status = answer.status().as_u16();
        let bytes = read_bounded(answer.into_body(), ANSWER_BYTES_MAX, ANSWER_TIMEOUT).await;
        Ok((status, bytes.map_err(|error| unreached(error.to_string()))?))
    }
}

/// The URL in `admin.addr`.
fn address(data: &Path) -> Result<Url, Failure> {
    let file = data.join(ADDRESS_FILE);
    let missing = |reason: &str| {
        let text = format!(
            "no gateway runs on `{}`: {reason}\nhint: start it with `portcullis run`, or name its data directory with --data",
            data.display()
        );
        Failure::of(exit::UNREACHED, text)
    };
    let text = std::fs::read_to_string(&file).map_err(|_| missing(&format!("there is no {ADDRESS_FILE}")))?;
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&url).map_err(|_| missing(&format!("{ADDRESS_FILE} is damaged")))
}

fn append_query(url: &mut Url, query: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_value(query).map_err(|error| Failure::refused(error.to_string()))?;
    let Value::Object(members) = value else { return Ok(()) };
    let mut pairs = url.query_pairs_mut();
    for (name, value) in members {
        match value {
            Value::Null => {}
            Value::String(text) => {
                pairs.append_pair(&name, &text);
            }
            other => {
                pairs.append_pair(&name, &other.to_string());
            }
        }
    }
    Ok(())
}

fn problem(status: u16, bytes: &[u8]) -> Failure {
    match serde_json::from_slice::<ProblemBody>(bytes) {
        Ok(body) => {
            let detail = &body.error;
            let mut failure = Failure::refused(format!("{}\nhint: {}", detail.message, detail.hint));
            failure.json = serde_json::to_value(&body).unwrap_or_default();
            failure
        }
        Err(_) => Failure::refused(format!("the gateway answered with status {status}")),
    }
}

/// For endpoints without query or body.
pub(crate) const NONE: Option<&()> = None;

/// Where the clients of this user keep files, and which folder this is.
pub(crate) fn places() -> Result<Places, String> {
    let home = std::env::home_dir().ok_or("the home directory is unknown; set HOME")?;
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let project = std::env::current_dir().map_err(|error| format!("the current folder: {error}"))?;
    Ok(Places { config: config.unwrap_or_else(|| home.join(".config")), home, project })
}
