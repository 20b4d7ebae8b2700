//! Who the gateway is at AWS: the standard chain of the SDKs. The environment, the shared files with their profiles and
//! roles, web identity, the container's endpoint, and the metadata service of the machine (IMDSv2 alone).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis_core::{Clock, Secret, Timestamp};
use serde_json::Value;
use url::Url;

use super::sts;
use crate::{
    http::{Reach, Service, sensitive},
    local::Variables,
    source::Failure,
};

/// Credentials are replaced so long before they end.
const EARLY_MS: u64 = 300_000;
/// Bytes of a file of profiles, or of a token.
const FILE_BYTES_MAX: u64 = 1_048_576;
/// Profiles that refer to each other.
const PROFILES_MAX: usize = 5;
const METADATA: &str = "http://169.254.169.254/";
const CONTAINER: &str = "http://169.254.170.2/";

/// What the operator declares about the gateway's identity at AWS.
#[derive(Clone, Debug)]
pub struct AwsIdentity {
    /// The region; that of the environment or the profile where none is named.
    pub region: Option<String>,
    /// The profile of the shared files.
    pub profile: Option<String>,
    /// The role that is taken on with what the chain finds.
    pub role: Option<AssumeRole>,
    /// The address of every service, in the place of the public ones.
    pub endpoint: Option<Url>,
    /// How the services are reached.
    pub reach: Reach,
    /// The environment.
    pub variables: Variables,
}

/// A role that is taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    /// Its ARN.
    pub arn: String,
    /// What its trust policy may ask for.
    pub external_id: Option<String>,
    /// The name under which the gateway appears in AWS's own log.
    pub session_name: String,
}

/// A key of AWS.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Secret<String>,
    pub(super) token: Option<Secret<String>>,
    /// When they end, if they do.
    pub(super) end: Option<Timestamp>,
}

/// The chain, with what it found last.
#[derive(Debug)]
pub(super) struct Chain {
    identity: AwsIdentity,
    clock: Arc<dyn Clock>,
    held: tokio::sync::Mutex<Option<Arc<Credentials>>>,
}

impl Chain {
    pub(super) fn new(identity: AwsIdentity, clock: Arc<dyn Clock>) -> Self {
        Self { identity, clock, held: tokio::sync::Mutex::default() }
    }

    /// The credentials to sign with; others than `refused`, where there are any.
    pub(super) async fn credentials(
        &self,
        refused: Option<Arc<Credentials>>,
    ) -> Result<Arc<Credentials>, Failure> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        let lasts = |one: &&Arc<Credentials>| one.end.is_none_or(|end| now.plus_ms(EARLY_MS) < end);
        let other =
            |one: &&Arc<Credentials>| refused.as_ref().is_none_or(|refused| !Arc::ptr_eq(one, refused));
        if let Some(good) = held.as_ref().filter(lasts).filter(other) {
            return Ok(Arc::clone(good));
        }
        match Self::find(&self.identity, now).await {
            Ok(found) => Ok(Arc::clone(held.insert(Arc::new(found)))),
            // Early enough for what is held to be good still.
            Err(failure) => {
                match held.as_ref().filter(other).filter(|one| one.end.is_none_or(|end| now < end)) {
                    Some(good) if failure.passing() => Ok(Arc::clone(good)),
                    Some(_) | None => Err(failure),
                }
            }
        }
    }

    /// Goes through the chain.
    pub(super) async fn find(identity: &AwsIdentity, now: Timestamp) -> Result<Credentials, Failure> {
        let found = source(identity, now).await?;
        match &identity.role {
            None => Ok(found),
            Some(role) => assume(identity, role, &found, now).await,
        }
    }
}

async fn assume(
    identity: &AwsIdentity,
    role: &AssumeRole,
    with: &Credentials,
    now: Timestamp,
) -> Result<Credentials, Failure> {
    let mut form =
        vec![("Action", "AssumeRole"), ("RoleArn", &role.arn), ("RoleSessionName", &role.session_name)];
    form.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    sts::assume(identity, &form, Some(with), now).await
}

async fn source(identity: &AwsIdentity, now: Timestamp) -> Result<Credentials, Failure> {
    let variable = |name: &str| identity.variables.get(name);
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let token = variable("AWS_SESSION_TOKEN").map(Secret::new);
        return Ok(Credentials { id, secret: Secret::new(secret), token, end: None });
    }
    if let Some(found) = profile(identity, now).await? {
        return Ok(found);
    }
    if let (Some(file), Some(arn)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        let session = variable("AWS_ROLE_SESSION_NAME");
        return web_identity(identity, &file, &arn, session.as_deref().unwrap_or("portcullis"), now).await;
    }
    if let Some(found) = container(identity).await? {
        return Ok(found);
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(nowhere("the metadata service is switched off"));
    }
    metadata(identity).await.map_err(|failure| nowhere(&failure.to_string()))
}

fn nowhere(why: &str) -> Failure {
    Failure::Unavailable(format!(
        "no credentials of AWS in the environment, in a profile, by web identity or from a container; {why}"
    ))
}

impl AwsIdentity {
    /// The region, wherever it is named.
    pub(super) fn region(&self) -> Option<String> {
        self.region
            .clone()
            .or_else(|| self.variables.get("AWS_REGION"))
            .or_else(|| self.variables.get("AWS_DEFAULT_REGION"))
            .or_else(|| self.profiles().ok()?.get(&self.profile_name())?.get("region").cloned())
    }

    /// A service in a region.
    pub(super) fn service(&self, name: &str, region: &str) -> Result<Service, Failure> {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = match &self.endpoint {
            Some(url) => url.clone(),
            None => Url::parse(&format!("https://{name}.{region}.{domain}/"))
                .map_err(|error| Failure::Unavailable(error.to_string()))?,
        };
        Service::new(&url, &self.reach).map_err(Failure::Unavailable)
    }

    fn profile_name(&self) -> String {
        let named = || self.variables.get("AWS_PROFILE");
        self.profile.clone().or_else(named).unwrap_or_else(|| "default".to_owned())
    }

    /// The profiles of both shared files; what stands in the one for credentials goes first.
    fn profiles(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failure> {
        let home = self.variables.get("HOME").map(PathBuf::from);
        let file = |variable: &str, name: &str| {
            let named = self.variables.get(variable).map(PathBuf::from);
            named.or_else(|| Some(home.as_ref()?.join(".aws").join(name)))
        };
        let mut profiles = BTreeMap::<String, BTreeMap<String, String>>::new();
        for path in [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")] {
            let Some(text) = path.map(|path| read(&path)).transpose()?.flatten() else { continue };
            for (profile, name, value) in settings(text.expose()) {
                profiles.entry(profile).or_default().entry(name).or_insert(value);
            }
        }
        Ok(profiles)
    }
}

/// A file, or nothing where there is none.
fn read(path: &Path) -> Result<Option<Secret<String>>, Failure> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::Unavailable(format!("`{}`: {error}", path.display()))),
    };
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::Unavailable(format!("`{}`: {error}", path.display())))?;
    Ok(Some(Secret::new(text)))
}

/// The settings of a shared file: profile, name, value.
fn settings(text: &str) -> Vec<(String, String, String)> {
    let (mut profile, mut out) = (None, Vec::new());
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = section.trim();
            // Other sections, such as those of single sign-on, are no profiles.
            let named =
                name.strip_prefix("profile ").map(str::trim).or((!name.contains(' ')).then_some(name));
            profile = named.map(str::to_owned);
        } else if let (Some(profile), Some((name, value))) = (&profile, bare.split_once('='))
            // An indented line belongs to the settings of another service.
            && !line.starts_with([' ', '\t'])
        {
            out.push((profile.clone(), name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    out
}

/// What the profile says: keys, or a role with the profile whose keys take it on.
async fn profile(identity: &AwsIdentity, now: Timestamp) -> Result<Option<Credentials>, Failure> {
    let profiles = identity.profiles()?;
    let mut name = identity.profile_name();
    let mut roles = Vec::new();
    for _ in 0..PROFILES_MAX {
        let Some(profile) = profiles.get(&name) else {
            return if identity.profile.is_some() || !roles.is_empty() {
                Err(Failure::Unavailable(format!("there is no profile `{name}` in the shared files of AWS")))
            } else {
                Ok(None)
            };
        };
        if let Some(arn) = profile.get("role_arn") {
            roles.push(AssumeRole {
                arn: arn.clone(),
                external_id: profile.get("external_id").cloned(),
                session_name: profile
                    .get("role_session_name")
                    .cloned()
                    .unwrap_or_else(|| "portcullis".to_owned()),
            });
            if let Some(file) = profile.get("web_identity_token_file") {
                let role = roles.pop().unwrap_or_else(|| AssumeRole {
                    arn: arn.clone(),
                    external_id: None,
                    session_name: "portcullis".to_owned(),
                });
                let found = web_identity(identity, file, &role.arn, &role.session_name, now).await?;
                return taken_on(identity, roles, found, now).await.map(Some);
            }
            match profile.get("source_profile") {
                Some(source) if *source != name => {
                    name.clone_from(source);
                    continue;
                }
                _ => {}
            }
        }
        return match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                let token = profile.get("aws_session_token").map(|token| Secret::new(token.clone()));
                let (id, secret) = (id.clone(), Secret::new(secret.clone()));
                taken_on(identity, roles, Credentials { id, secret, token, end: None }, now).await.map(Some)
            }
            _ if roles.is_empty() => Ok(None),
            _ => Err(Failure::Unavailable(format!(
                "the profile `{name}` has no keys that could take on a role"
            ))),
        };
    }
    Err(Failure::Unavailable("profiles of AWS refer to each other without end".into()))
}

/// Takes on the roles, the last found first.
async fn taken_on(
    identity: &AwsIdentity,
    roles: Vec<AssumeRole>,
    mut with: Credentials,
    now: Timestamp,
) -> Result<Credentials, Failure> {
    for role in roles.iter().rev() {
        with = assume(identity, role, &with, now).await?;
    }
    Ok(with)
}

async fn web_identity(
    identity: &AwsIdentity,
    file: &str,
    arn: &str,
    session: &str,
    now: Timestamp,
) -> Result<Credentials, Failure> {
    let token = read(Path::new(file))?;
    let token = token.ok_or_else(|| Failure::Unavailable(format!("`{file}` is not there")))?;
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", arn),
        ("RoleSessionName", session),
        ("WebIdentityToken", token.expose().trim()),
    ];
    sts::assume(identity, &form, None, now).await
}

/// The endpoint that a container of ECS or EKS is given.
async fn container(identity: &AwsIdentity) -> Result<Option<Credentials>, Failure> {
    let variable = |name: &str| identity.variables.get(name);
    let url = match variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        Some(path) => Url::parse(CONTAINER).and_then(|base| base.join(&path)),
        None => match variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
            Some(full) => Url::parse(&full),
            None => return Ok(None),
        },
    };
    let url = url.map_err(|error| Failure::Unavailable(format!("the container's endpoint: {error}")))?;
    let mut headers = HeaderMap::new();
    let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => read(Path::new(&file))?.map(|token| token.expose().trim().to_owned()),
        None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    if let Some(value) = token.and_then(|token| sensitive(&token)) {
        headers.insert(http::header::AUTHORIZATION, value);
    }
    let answer = ask(identity, Method::GET, &url, headers).await?;
    credentials(&answer.body).map(Some)
}

/// The metadata service, second version: a token is asked for first, which no redirected request can do.
async fn metadata(identity: &AwsIdentity) -> Result<Credentials, Failure> {
    let named = identity.variables.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let base = Url::parse(named.as_deref().unwrap_or(METADATA));
    let base = base.map_err(|error| Failure::Unavailable(error.to_string()))?;
    let at = |path: &str| base.join(path).map_err(|error| Failure::Unavailable(error.to_string()));
    let mut headers = HeaderMap::new();
    let lasts = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    headers.insert(lasts, HeaderValue::from_static("300"));
    let token = ask(identity, Method::PUT, &at("latest/api/token")?, headers).await?.text;
    let token = sensitive(token.trim()).ok_or_else(|| Failure::Unavailable("it gave no token".into()))?;
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-aws-ec2-metadata-token"), token);
    let list = at("latest/meta-data/iam/security-credentials/")?;
    let roles = ask(identity, Method::GET, &list, headers.clone()).await?.text;
    let role = roles.split_whitespace().next().unwrap_or_default().to_owned();
    let one = list.join(&role).map_err(|error| Failure::Unavailable(error.to_string()))?;
    credentials(&ask(identity, Method::GET, &one, headers).await?.body)
}

async fn ask(
    identity: &AwsIdentity,
    method: Method,
    url: &Url,
    headers: HeaderMap,
) -> Result<crate::http::Answer, Failure> {
    let mut reach = identity.reach.clone();
    // What the platform names for this purpose; everything else stays closed.
    reach.egress = reach.egress.naming(url).with_metadata();
    reach.timeout = reach.timeout.min(std::time::Duration::from_secs(2));
    let service = Service::new(url, &reach).map_err(Failure::Unavailable)?;
    let answer = service.ask(method, url, headers, Vec::new()).await;
    let answer = answer.map_err(|silent| Failure::Unavailable(format!("`{url}`: {}", silent.reason)))?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(Failure::Unavailable(format!("`{url}` says {}", answer.status.as_u16())))
}

/// The credentials that a container's endpoint and the metadata service tell.
fn credentials(answer: &Value) -> Result<Credentials, Failure> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    match (text("AccessKeyId"), text("SecretAccessKey")) {
        (Some(id), Some(secret)) => Ok(Credentials {
            id,
            secret: Secret::new(secret),
            token: text("Token").map(Secret::new),
            end: text("Expiration").and_then(|end| end_of(&end)),
        }),
        _ => Err(Failure::Unavailable("the platform tells no credentials".into())),
    }
}

/// A moment as AWS writes it.
pub(super) fn end_of(text: &str) -> Option<Timestamp> {
    let moment = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    let ms = moment.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(ms).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_files_are_read_as_they_are_written_by_hand() {
        let text = "# keys\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=a=b\n\n[profile  dev]\nrole_arn = r\n\
                    source_profile = default\ns3 =\n  region = nowhere\n[sso-session x]\nregion = other\n[tools]\nregion=eu-west-1\n";
        let found = settings(text);
        let has = |profile: &str, name: &str| {
            found.iter().find(|(p, n, _)| p == profile && n == name).map(|(_, _, value)| value.as_str())
        };
        assert_eq!(has("default", "aws_secret_access_key"), Some("a=b"));
        assert_eq!(has("dev", "source_profile"), Some("default"));
        assert_eq!(has("dev", "region"), None, "a nested setting is not the profile's");
        assert_eq!(has("tools", "region"), Some("eu-west-1"));
        assert!(!found.iter().any(|(_, _, value)| value == "other"), "{found:?}");
    }

    #[test]
    fn moments_are_read_as_aws_writes_them() {
        assert_eq!(end_of("2026-11-23T16:00:00Z"), Some(Timestamp(1_795_449_600_000)));
        assert_eq!(end_of("2026-11-23T16:00:00.500Z"), Some(Timestamp(1_795_449_600_500)));
        assert_eq!(end_of("tomorrow"), None);
    }
}
