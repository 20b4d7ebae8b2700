//! What is scanned: URLs, a command, and every server in configuration files, with what the files alone show.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::HeaderName;
use portcullis_config::{Config, Overrides, Reference, SecretsSection, Server, Transport, Upstream};
use portcullis_core::Clock;
use portcullis_hosts::{
    self as hosts,
    entry::{Entry, Reach as Declared},
    mcpb,
    placeholder::{Piece, Text},
};
use portcullis_net::{guard::EgressPolicy, sandbox::Confinement};
use portcullis_secrets::{Broker, Value};
use portcullis_upstream::stdio::Program;
use serde_json::json;
use url::{Host, Url};

use super::{
    super::{
        Common, Failure, client,
        import::{
            confine::{self, Surroundings},
            secrets::Detective,
        },
    },
    Finding, Level, Scan,
};
use crate::wire::{SystemClock, secrets};

/// Servers in one scan.
const TARGETS_MAX: usize = 1_000;

/// One server that is asked.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) target: String,
    pub(super) server: String,
    /// For people, without credentials.
    pub(super) shown: String,
    pub(super) reach: Result<Reach, String>,
    pub(super) findings: Vec<Finding>,
}

/// How it is reached.
#[derive(Debug)]
pub(super) enum Reach {
    Http {
        url: Url,
        headers: Vec<(HeaderName, Value)>,
        egress: EgressPolicy,
        /// Over HTTP+SSE.
        legacy: bool,
    },
    Stdio {
        program: Program,
        /// `None` where it keeps all rights of the user.
        sandbox: Option<Confinement>,
        /// The gateway's own files.
        hidden: Vec<PathBuf>,
    },
    /// A command that nobody wants to be started.
    Unstarted,
}

/// Everything that the command line names.
pub(super) fn targets(common: &Common, options: &Scan) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    let around = around(common)?;
    for target in &options.targets {
        if target.contains("://") {
            targets.push(of_url(target, options)?);
        } else if matches!(Path::new(target).extension().and_then(|e| e.to_str()), Some("yaml" | "yml")) {
            targets.extend(of_config(target, options, &around)?);
        } else {
            targets.extend(of_file(target, options, &around)?);
        }
    }
    if let Some((program, args)) = options.command.split_first() {
        let (name, args) = (program.clone(), args.to_vec());
        let run = Program { program: name, args, env: BTreeMap::new(), cwd: None };
        targets.push(Target {
            target: options.command.join(" "),
            server: Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned(),
            shown: options.command.join(" "),
            reach: Ok(if options.no_start {
                Reach::Unstarted
            } else {
                let sandbox = confined(&options.command, options, &around)?;
                Reach::Stdio { program: run, sandbox, hidden: around.hidden.clone() }
            }),
            findings: unpinned(&options.command).into_iter().collect(),
        });
    }
    if targets.len() > TARGETS_MAX {
        return Err(Failure::refused(format!("more than {TARGETS_MAX} servers")));
    }
    Ok(targets)
}

/// What no command may be given, and where bundles are.
fn around(common: &Common) -> Result<Surroundings, Failure> {
    let places = client::places().map_err(Failure::refused)?;
    let data = places.project.join(client::data_dir(common));
    Ok(Surroundings {
        bundles: mcpb::bundles(&data),
        home: places.home,
        hidden: vec![data.canonicalize().unwrap_or(data)],
    })
}

/// How a command is confined that nobody said more about: as an import would.
fn confined(words: &[String], options: &Scan, around: &Surroundings) -> Result<Option<Confinement>, Failure> {
    if options.no_sandbox {
        return Ok(None);
    }
    let section = json!({ "command": words, "sandbox": confine::section(words, around) });
    match Server::from_json("scanned", &section) {
        Ok(Server { upstream: Upstream::Stdio { sandbox, .. }, .. }) => Ok(sandbox),
        Ok(Server { upstream: Upstream::Http { .. }, .. }) => Ok(None),
        Err(found) => Err(Failure::mistakes("the command", &found)),
    }
}

fn of_url(text: &str, options: &Scan) -> Result<Target, Failure> {
    let broker = broker(None)?;
    let url = Url::parse(text).map_err(|error| Failure::refused(format!("`{text}`: {error}")))?;
    let headers: Result<Vec<_>, String> = options
        .headers
        .iter()
        .map(|(name, value)| {
            let reference = Reference::parse(value).map_err(|mistake| mistake.to_string())?;
            let header = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
            Ok((header, Value::new(reference, Arc::clone(&broker))))
        })
        .collect();
    let reach = headers
        .and_then(|headers| http(&url, headers, options.allow_private))
        .map(|reach| if options.legacy_sse { older(reach) } else { reach });
    Ok(Target {
        target: text.to_owned(),
        server: url.host_str().unwrap_or_default().to_owned(),
        shown: bare(&url),
        reach,
        findings: plaintext(&url).into_iter().collect(),
    })
}

/// Without query and user information: either may carry a credential.
fn bare(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// A literal address or `localhost` allows exactly that kind of address: somebody wrote it.
fn http(url: &Url, headers: Vec<(HeaderName, Value)>, all: bool) -> Result<Reach, String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is reached over `{}`, which is neither http nor https", url.scheme()));
    }
    let (loopback, private) =
        (is_loopback(url), matches!(url.host(), Some(Host::Ipv4(ip)) if ip.is_private()));
    let egress = EgressPolicy::of(all || loopback, all || private);
    Ok(Reach::Http { url: url.clone(), headers, egress, legacy: false })
}

/// The same over HTTP+SSE.
fn older(reach: Reach) -> Reach {
    match reach {
        Reach::Http { url, headers, egress, legacy: _ } => Reach::Http { url, headers, egress, legacy: true },
        other @ (Reach::Stdio { .. } | Reach::Unstarted) => other,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn plaintext(url: &Url) -> Option<Finding> {
    (url.scheme() == "http" && !is_loopback(url)).then(|| Finding {
        rule: "plaintext",
        severity: Level::Medium,
        place: String::from("configuration"),
        message: String::from("is reached over plain http, where anybody on the way can read and change it"),
    })
}

/// A package that is fetched anew, in whatever version is newest.
fn unpinned(command: &[String]) -> Option<Finding> {
    let program = Path::new(command.first()?).file_name()?.to_str()?;
    let package = command.iter().skip(1).find(|word| !word.starts_with('-'))?;
    let name = package.strip_prefix('@').unwrap_or(package);
    let pinned = match program {
        "npx" | "bunx" | "pnpx" => name.split_once('@').is_some_and(|(_, version)| version != "latest"),
        "uvx" | "pipx" => name.contains("==") || name.contains('@'),
        _ => return None,
    };
    (!pinned).then(|| Finding {
        rule: "unpinned_package",
        severity: Level::Low,
        place: String::from("configuration"),
        message: format!("`{package}` is fetched in whatever version is newest; name one"),
    })
}

fn of_config(file: &str, options: &Scan, around: &Surroundings) -> Result<Vec<Target>, Failure> {
    let config = Config::load(Some(Path::new(file)), &Overrides::default())
        .map_err(|mistakes| Failure::mistakes(file, &mistakes))?;
    let broker = broker(Some(&config.settings.secrets))?;
    let servers = config.settings.servers.iter();
    Ok(servers.map(|(name, server)| of_server(file, (name, server), options, (around, &broker))).collect())
}

/// Follows the references of what is scanned; nothing of it is recorded, since a scan has no ledger.
fn broker(section: Option<&SecretsSection>) -> Result<Arc<Broker>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    secrets::broker(section, &clock, (None, Arc::new(secrets::Unrecorded))).map_err(Failure::refused)
}

fn of_server(
    file: &str,
    (name, server): (&str, &Server),
    options: &Scan,
    (around, broker): (&Surroundings, &Arc<Broker>),
) -> Target {
    let (shown, reach, findings) = match &server.upstream {
        Upstream::Http { url, transport, headers, egress, .. } => {
            let resolved = headers.iter().map(|(name, value)| {
                let header = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
                Ok((header, Value::new(value.clone(), Arc::clone(broker))))
            });
            let all = options.allow_private || egress.allow_private || egress.allow_loopback;
            let reach =
                resolved.collect::<Result<Vec<_>, String>>().and_then(|headers| http(url, headers, all));
            let reach = match transport {
                Transport::LegacySse => reach.map(older),
                Transport::StreamableHttp => reach,
            };
            (bare(url), reach, plaintext(url))
        }
        Upstream::Stdio { program, args, env, cwd, sandbox } => {
            let words: Vec<String> = std::iter::once(program).chain(args).cloned().collect();
            let value = |reference: &Reference| Value::new(reference.clone(), Arc::clone(broker));
            let reach = match options.no_start {
                true => Ok(Reach::Unstarted),
                false => (|| {
                    let env = env.iter().map(|(name, reference)| (name.clone(), value(reference))).collect();
                    let (program, args) = (program.clone(), args.clone());
                    let program = Program { program, args, env, cwd: cwd.clone() };
                    let sandbox = match sandbox {
                        Some(declared) if !options.no_sandbox => Some(declared.clone()),
                        Some(_) | None => {
                            confined(&words, options, around).map_err(|failure| failure.text)?
                        }
                    };
                    Ok(Reach::Stdio { program, sandbox, hidden: around.hidden.clone() })
                })(),
            };
            (words.join(" "), reach, unpinned(&words))
        }
    };
    let findings = findings.into_iter().collect();
    Target { target: file.to_owned(), server: name.to_owned(), shown, reach, findings }
}

fn of_file(file: &str, options: &Scan, around: &Surroundings) -> Result<Vec<Target>, Failure> {
    let places = client::places().map_err(Failure::refused)?;
    let found = hosts::read(&PathBuf::from(file), None, &places, &around.bundles);
    let entries = found.entries.map_err(|reason| Failure::refused(format!("`{file}` {reason}")))?;
    let detective = Detective::new().map_err(Failure::refused)?;
    Ok(entries.iter().map(|entry| of_entry(file, entry, &detective, options, around)).collect())
}

/// A server as a client would reach it, secrets and all; what is a secret there is a finding.
fn of_entry(
    file: &str,
    entry: &Entry,
    detective: &Detective,
    options: &Scan,
    around: &Surroundings,
) -> Target {
    let mut target = Target {
        target: file.to_owned(),
        server: entry.name.clone(),
        shown: String::new(),
        reach: Ok(Reach::Unstarted),
        findings: Vec::new(),
    };
    match &entry.reach {
        Err(reason) => target.reach = Err(reason.clone()),
        Ok(Declared::Http { url, older: is_older, headers }) => {
            for (name, value) in headers {
                let why = value.literal().and_then(|value| detective.named(name, &value));
                target.findings.extend(why.map(|why| exposed(&format!("the header `{name}`"), why)));
            }
            target.reach = resolve(url).and_then(|text| {
                let url = Url::parse(&text).map_err(|error| error.to_string())?;
                target.shown = bare(&url);
                target.findings.extend(plaintext(&url));
                if detective.in_url(&url) {
                    target.findings.push(exposed("the URL", "it carries a credential"));
                }
                let headers = headers.iter().map(|(name, value)| {
                    let name = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
                    Ok((name, Value::literal(&resolve(value)?)))
                });
                let reach = http(&url, headers.collect::<Result<Vec<_>, String>>()?, options.allow_private)?;
                Ok(if *is_older { older(reach) } else { reach })
            });
        }
        Ok(Declared::Stdio { command, env, cwd }) => {
            for (name, value) in env {
                let why = value
                    .literal()
                    .and_then(|value| detective.named(name, &value).filter(|_| !value.is_empty()));
                target.findings.extend(why.map(|why| exposed(&format!("the variable `{name}`"), why)));
            }
            target.shown = words(command, detective, &mut target.findings).join(" ");
            let literal: Vec<String> =
                command.iter().map(|word| word.literal().unwrap_or_default()).collect();
            target.findings.extend(unpinned(&literal));
            if !options.no_start {
                target.reach = started(command, env, cwd.clone()).and_then(|program| {
                    let words: Vec<String> =
                        std::iter::once(&program.program).chain(&program.args).cloned().collect();
                    let sandbox = confined(&words, options, around).map_err(|failure| failure.text)?;
                    Ok(Reach::Stdio { program, sandbox, hidden: around.hidden.clone() })
                });
            }
        }
    }
    target
}

/// The command for people: secrets in it are findings and are not shown.
fn words(command: &[Text], detective: &Detective, findings: &mut Vec<Finding>) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for text in command {
        let word: String = text
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Literal(literal) => literal.clone(),
                Piece::Variable(name) => format!("${{{name}}}"),
            })
            .collect();
        let secret =
            detective.argument(shown.last().map(String::as_str), &word).filter(|_| !shown.is_empty());
        match secret.filter(|_| text.literal().is_some()) {
            Some((start, _, why)) => {
                findings.push(exposed(&format!("argument {}", shown.len()), why));
                shown.push(format!("{}****", word.get(..start).unwrap_or_default()));
            }
            None => shown.push(word),
        }
    }
    shown
}

fn exposed(place: &str, why: &str) -> Finding {
    Finding {
        rule: "exposed_secret",
        severity: Level::Medium,
        place: String::from("configuration"),
        message: format!("{place} holds a secret in clear ({why}); `portcullis import` moves it"),
    }
}

fn started(command: &[Text], env: &[(String, Text)], cwd: Option<PathBuf>) -> Result<Program, String> {
    let words = command.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    let (program, args) = words.split_first().ok_or("names no program")?;
    let env = env.iter().map(|(name, value)| Ok((name.clone(), Value::literal(&resolve(value)?))));
    let env = env.collect::<Result<BTreeMap<_, _>, String>>()?;
    Ok(Program { program: program.clone(), args: args.to_vec(), env, cwd })
}

fn resolve(text: &Text) -> Result<String, String> {
    text.0
        .iter()
        .map(|piece| match piece {
            Piece::Literal(literal) => Ok(literal.clone()),
            Piece::Variable(name) => {
                std::env::var(name).map_err(|_| format!("needs the variable `{name}`, which is not set"))
            }
        })
        .collect()
}
