//! `portcullis check`: everything that `run` would refuse, without starting.

use std::path::Path;

use portcullis_config::{Config, ConfigMistake, DEFAULT_FILE, Overrides};
use serde_json::json;

use super::{Common, Failure, output::Output};

/// Reads the configuration and everything it names: policies are compiled, certificates and key sets are read.
pub(crate) fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Failure> {
    let file = path.unwrap_or(Path::new(DEFAULT_FILE)).display().to_string();
    judge(path, overrides).map_err(|mistakes| Failure::mistakes(&file, &mistakes))
}

fn judge(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Vec<ConfigMistake>> {
    let config = Config::load(path, overrides)?;
    let mut mistakes = config.unreadable_files();
    if let Err(found) = crate::wire::check(&config) {
        mistakes.extend(found);
    }
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

pub(super) fn check(common: &Common, output: &Output) -> Result<(), Failure> {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    let config = load(common.config.as_deref(), &overrides)?;
    let settings = &config.settings;
    let file = config.path.as_ref().map(|path| path.display().to_string());
    let summary = json!({
        "ok": true,
        "file": file,
        "listen": settings.listen.address.to_string(),
        "tls": settings.listen.tls.is_some(),
        "admin": settings.admin.address.to_string(),
        "data": config.data_dir().display().to_string(),
        "servers": settings.servers.keys().collect::<Vec<_>>(),
        "aggregate": settings.aggregate.enabled,
        "virtual_servers": settings.virtual_servers.keys().collect::<Vec<_>>(),
        "roles": settings.roles.keys().collect::<Vec<_>>(),
        "issuers": settings.identities.jwt.iter().map(|jwt| &jwt.issuer).collect::<Vec<_>>(),
        "policies": settings.policies.len(),
        "dangers": settings.dangers().into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
        "digest": config.digest.to_string(),
    });
    for (key, what) in settings.dangers() {
        output.note(&format!("DANGER: {key}: {what}"));
    }
    output.show(&summary, |_| {
        let names = |names: Vec<&String>| {
            if names.is_empty() { String::from("none") } else { names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ") }
        };
        format!(
            "ok: {}\n  listen   {}{}\n  admin    {}\n  data     {}\n  servers  {}\n  roles    {} (beside admin, operator, reader)\n  policies {}",
            file.unwrap_or_else(|| String::from("no file, defaults")),
            settings.listen.address,
            if settings.listen.tls.is_some() { " (TLS)" } else { "" },
            settings.admin.address,
            config.data_dir().display(),
            if settings.servers.is_empty() { String::from("sample (built in)") } else { names(settings.servers.keys().collect()) },
            names(settings.roles.keys().collect()),
            settings.policies.len(),
        )
    });
    Ok(())
}
