//! `portcullis wrap`: one MCP server for one user, guarded without a running gateway. This file turns the command line
//! into a configuration, finds a data directory that is free, and says who the caller is.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use portcullis_config::{Config, Overrides, Server, names_a_secret};
use portcullis_core::{Caller, Digest};
use portcullis_hosts::mcpb;
use portcullis_net::stdio::Environment;
use portcullis_store::{DataDir, DataDirError};
use serde_json::{Value, json};
use url::Url;

use super::{
    Common, Failure, client,
    import::confine::{self, Surroundings},
    output::Output,
};
use crate::{
    logging,
    wire::{self, Wrapped},
};

/// Data directories of one command at once: hosts start the same server more than once.
const SIBLINGS_MAX: u32 = 64;

/// Bytes of the user database that are read.
const PASSWD_BYTES_MAX: u64 = 4_194_304;

/// The role of the local user where the configuration declares it, and the built-in one where it does not.
const ROLES: [&str; 2] = ["local", "operator"];

/// A session lasts as long as its host, which does not know of it. Far from any overflow.
const SESSION_MS: u64 = u64::MAX / 1_000_000;

/// Hosts kill a server some two seconds after they asked it to end, so that a child gets less of that.
const CHILD_GRACE_MS_MAX: u64 = 700;

/// What `wrap` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  portcullis wrap -- npx -y @modelcontextprotocol/server-filesystem ~/notes
  portcullis wrap --sandbox --allow-net api.example.com -- npx -y some-server
  portcullis wrap --config policy.yaml --name files -- mcp-server-files /srv
  portcullis wrap --url https://mcp.example.com/mcp --header \"Authorization=Bearer env:TOKEN\"
  portcullis audit verify --data \"$(portcullis wrap --where -- npx -y some-server)\"

In the configuration of an MCP host, put `portcullis` where the command stands and `wrap --` before the rest:
  { \"command\": \"portcullis\", \"args\": [\"wrap\", \"--\", \"npx\", \"-y\", \"some-server\"] }")]
pub(crate) struct Wrap {
    /// URL of a remote server (Streamable HTTP), instead of a command
    #[arg(long, value_name = "URL", conflicts_with = "command", required_unless_present = "command")]
    url: Option<Url>,
    /// Header for the remote server; its value is a reference: `env:NAME`, `file:PATH` or `Bearer env:NAME`
    #[arg(long = "header", value_name = "NAME=REFERENCE", requires = "url")]
    headers: Vec<String>,
    /// Name of the server in policies and in the ledger [default: from the command or the URL]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Let the server ask the host's model for completions, and the user pay for them
    #[arg(long)]
    allow_sampling: bool,
    /// Confine the command (Linux): it reads what its arguments name, and reaches nothing but the registry of its package
    /// runner; the options below open more
    #[arg(long, conflicts_with = "url")]
    sandbox: bool,
    /// File or folder that the confined command may read
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    allow_read: Vec<PathBuf>,
    /// File or folder that the confined command may read and change
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    allow_write: Vec<PathBuf>,
    /// Host that the confined command may reach: `host`, `host:port` or `*.domain`
    #[arg(long, value_name = "HOST", requires = "sandbox")]
    allow_net: Vec<String>,
    /// Print the data directory, with the ledger, and do nothing else
    #[arg(long = "where")]
    locate: bool,
    /// The command that starts the server, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn wrap(common: &Common, wrap: Wrap, output: &Output) -> ExitCode {
    match carry_out(common, &wrap, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

fn carry_out(common: &Common, wrap: &Wrap, output: &Output) -> Result<(), Failure> {
    let server = match &wrap.name {
        Some(name) => name.clone(),
        None => name_of(wrap),
    };
    let folder = root(common)?.join(format!("{server}-{}", digest(wrap)));
    if wrap.locate {
        output.line(&folder.display().to_string());
        return Ok(());
    }
    let dir = free(&folder)?;
    let config = configure(common, wrap, &server, dir.path())?;
    let failed = |error: anyhow::Error| Failure::refused(format!("{error:#}"));
    logging::start(&config.settings.log).map_err(failed)?;
    let caller = local_user(&config);
    let environment = environment();
    let wrapped = Wrapped { config, dir, caller, server: Arc::from(server), environment };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(error.to_string()))?;
    // Boxed: the whole gateway is one large future.
    let done = runtime.block_on(Box::pin(wire::wrap(wrapped))).map_err(failed);
    // A read of standard input cannot be taken back; the process does not wait for the host's next line.
    runtime.shutdown_background();
    done
}

/// Folder of all data directories: `--data`, or the user's state (XDG base directory specification).
fn root(common: &Common) -> Result<PathBuf, Failure> {
    if let Some(data) = &common.data {
        return Ok(data.clone());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local").join("state")))
        .map(|state| state.join("portcullis").join("wrap"))
        .ok_or_else(|| {
            Failure::refused("there is neither HOME nor XDG_STATE_HOME; hint: name a folder with --data")
        })
}

/// What is wrapped, as a short text: the same command has the same pinned definitions and the same ledger.
fn digest(wrap: &Wrap) -> String {
    let url = wrap.url.as_ref().map(ToString::to_string);
    let kind = if url.is_some() { "url" } else { "command" };
    let words = url.iter().chain(&wrap.command).map(String::as_str);
    // No word of a command line holds a NUL.
    let words: Vec<&str> = std::iter::once(kind).chain(words).collect();
    let digest = Digest::of(words.join("\0").as_bytes());
    digest.0.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The data directory, or the first sibling that no other process uses.
fn free(folder: &Path) -> Result<DataDir, Failure> {
    for number in 1..=SIBLINGS_MAX {
        let mut path = folder.as_os_str().to_owned();
        if number > 1 {
            path.push(format!("-{number}"));
        }
        match DataDir::open(Path::new(&path)) {
            Ok(dir) => return Ok(dir),
            Err(DataDirError::Locked { .. }) => {}
            Err(error) => return Err(Failure::refused(error.to_string())),
        }
    }
    Err(Failure::refused(format!("{SIBLINGS_MAX} processes wrap this command already")))
}

/// The configuration: what `--config` says about roles, policies, detectors and limits, and this one server. A file
/// that lies in the current folder is not read: hosts start servers in folders that strangers fill.
fn configure(common: &Common, wrap: &Wrap, name: &str, data: &Path) -> Result<Config, Failure> {
    let overrides = Overrides { data: Some(data.to_path_buf()), ..Overrides::default() };
    let mut config = match &common.config {
        Some(path) => super::check::load(Some(path), &overrides)?,
        None => {
            let mut config =
                Config::parse("", None, &overrides).map_err(|found| Failure::mistakes("", &found))?;
            // Hosts show what a server writes to standard error, so that only what matters is written.
            config.settings.log.level.0 = String::from("warn");
            config
        }
    };
    let server = Server::from_json(name, &declared(wrap, data)?)
        .map_err(|found| Failure::mistakes("the command line", &found))?;
    config.settings.servers = BTreeMap::from([(name.to_owned(), server)]);
    let limits = &mut config.settings.limits;
    (limits.session_idle_ms, limits.session_total_ms) = (SESSION_MS, SESSION_MS);
    limits.child_grace_ms = limits.child_grace_ms.min(CHILD_GRACE_MS_MAX);
    Ok(config)
}

/// The server as a section of the configuration would declare it.
fn declared(wrap: &Wrap, data: &Path) -> Result<Value, Failure> {
    let mut asks = vec!["elicitation", "roots"];
    if wrap.allow_sampling {
        asks.push("sampling");
    }
    let Some(url) = &wrap.url else {
        // Credentials are handed on by name, so that the log masks their values in what the command prints.
        let secrets: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()))
            .map(|(name, _)| name)
            .filter(|name| is_credential(name))
            .map(|name| (name.clone(), format!("env:{name}")))
            .collect();
        let mut section = json!({ "command": wrap.command, "env": secrets, "server_requests": asks });
        if let (true, Some(members)) = (wrap.sandbox, section.as_object_mut()) {
            members.insert("sandbox".into(), sandbox(wrap, data)?);
        }
        return Ok(section);
    };
    let mut headers = BTreeMap::new();
    for header in &wrap.headers {
        let (name, value) = header.split_once('=').unwrap_or((header, ""));
        let word = value.rsplit(' ').next().unwrap_or_default();
        if !word.starts_with("env:") && !word.starts_with("file:") {
            let text = format!(
                "--header {name}: the value must be a reference, and command lines are no place for a secret; \
                 hint: write `{name}=env:NAME`, `{name}=file:PATH` or `{name}=Bearer env:NAME`"
            );
            return Err(Failure::refused(text));
        }
        if headers.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::refused(format!("--header {name} is given twice")));
        }
    }
    Ok(json!({ "url": url.as_str(), "headers": headers, "server_requests": asks }))
}

/// As an import would confine the command, and what was opened by hand.
fn sandbox(wrap: &Wrap, data: &Path) -> Result<Value, Failure> {
    let places = client::places().map_err(Failure::refused)?;
    let around = Surroundings { bundles: mcpb::bundles(data), home: places.home, hidden: vec![data.into()] };
    let mut section = confine::section(&wrap.command, &around);
    let absolute = |path: &PathBuf| places.project.join(path).display().to_string();
    let opened: [(&str, Vec<String>); 3] = [
        ("read", wrap.allow_read.iter().map(absolute).collect()),
        ("write", wrap.allow_write.iter().map(absolute).collect()),
        ("allow", wrap.allow_net.clone()),
    ];
    for (member, more) in opened.into_iter().filter(|(_, more)| !more.is_empty()) {
        if let Some(list) = section.as_object_mut().map(|members| members.entry(member).or_insert(json!([])))
            && let Some(list) = list.as_array_mut()
        {
            list.extend(more.into_iter().map(Value::from));
        }
    }
    Ok(section)
}

fn is_credential(name: &str) -> bool {
    let writable = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    writable && !name.starts_with(|first: char| first.is_ascii_digit()) && names_a_secret(name)
}

/// What a wrapped command gets: what its host gave us, but for our own settings. The host decides what its server
/// needs, as it did before.
fn environment() -> Environment {
    let own = |name: &OsString| name.to_string_lossy().starts_with("PORTCULLIS_");
    Environment::of(std::env::vars_os().filter(|(name, _)| !own(name)))
}

/// The user this process runs as, by the kernel's word and not by that of the environment.
fn local_user(config: &Config) -> Caller {
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(uid).unwrap_or_else(|| format!("uid{uid}"));
    let [own, built_in] = ROLES;
    let role = if config.settings.roles.contains_key(own) { own } else { built_in };
    Caller::local(&user, uid, Arc::from([role.to_owned()]))
}

/// The name of a user in the local user database, where there is one and it can stand in an entry.
fn user_name(uid: u32) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open("/etc/passwd").ok()?;
    file.take(PASSWD_BYTES_MAX).read_to_string(&mut text).ok()?;
    let uid = uid.to_string();
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    let name = line.split(':').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (!name.is_empty() && name.len() <= 64 && name.bytes().all(plain)).then(|| name.to_owned())
}

/// Programs that run another one, which is then named by their first argument of meaning.
const LAUNCHERS: &[&str] = &[
    "bun", "bunx", "deno", "docker", "node", "npx", "pipx", "pnpm", "podman", "python", "python3", "uv",
    "uvx",
];

/// Words that launchers take before the name of what they run.
const LAUNCHER_WORDS: &[&str] = &["dlx", "exec", "run", "tool", "x"];

/// A name for what is wrapped: of the package or program, or the host of the URL.
fn name_of(wrap: &Wrap) -> String {
    let given = match &wrap.url {
        Some(url) => url.host_str().unwrap_or_default().to_owned(),
        None => program_of(&wrap.command),
    };
    let kept: String = given
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        .take(40)
        .collect();
    let name = kept.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { String::from("server") } else { name.to_owned() }
}

fn program_of(command: &[String]) -> String {
    let base = |word: &str| word.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let program = command.first().map(|program| base(program)).unwrap_or_default();
    let meant = |word: &&String| !word.starts_with('-') && !LAUNCHER_WORDS.contains(&word.as_str());
    let launched =
        LAUNCHERS.contains(&program.as_str()).then(|| command.iter().skip(1).find(meant)).flatten();
    let Some(launched) = launched else { return program };
    // A package may have a scope before its name and a version behind it.
    let name = base(launched);
    name.split(['@', ':']).find(|part| !part.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &[&str]) -> Wrap {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let (headers, allow_read, allow_write, allow_net) = Default::default();
        Wrap {
            url: None,
            headers,
            name: None,
            allow_sampling: false,
            sandbox: false,
            allow_read,
            allow_write,
            allow_net,
            locate: false,
            command,
        }
    }

    #[test]
    fn a_wrapped_server_is_named_after_what_is_run() {
        for (command, name) in [
            (&["npx", "-y", "@modelcontextprotocol/server-filesystem@1.2", "/x"][..], "server-filesystem"),
            (&["uvx", "mcp-server-git"], "mcp-server-git"),
            (&["docker", "run", "-i", "--rm", "mcp/github:latest"], "github"),
            (&["/opt/bin/my server"], "myserver"),
            (&["../--"], "server"),
            (&["node"], "node"),
        ] {
            assert_eq!(name_of(&of(command)), name);
        }
    }

    #[test]
    fn other_commands_have_other_data() {
        let all = [&["a"][..], &["b"], &["a", ""], &["a", "b"], &["a b"]].map(|words| digest(&of(words)));
        let mut distinct = all.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(digest(&of(&["a"])), all[0]);
    }

    #[test]
    fn a_header_is_a_reference_and_never_the_secret_itself() {
        let with = |headers: &[&str]| Wrap {
            url: Url::parse("https://mcp.example/").ok(),
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            ..of(&[])
        };
        for good in ["A=env:B", "Authorization=Bearer env:TOKEN", "X-Key=file:/run/key"] {
            assert!(declared(&with(&[good]), Path::new("/d")).is_ok(), "{good}");
        }
        for bad in ["A=b", "A=", "A", "Authorization=Bearer abc", "A=env:B c"] {
            let failure = declared(&with(&[bad]), Path::new("/d")).unwrap_err();
            assert!(!failure.text.contains("abc"), "{}", failure.text);
        }
        assert!(declared(&with(&["A=env:B", "A=env:C"]), Path::new("/d")).is_err());
    }
}
