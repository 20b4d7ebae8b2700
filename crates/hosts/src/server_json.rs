//! `server.json` of the MCP Registry: packages to run and remote endpoints, of which the first usable one is taken.

use serde_json::Value;

use crate::{
    Format, Reading,
    document::Dialect,
    entry::{Entry, OLDER, Origin, Reach},
    placeholder::{Expansion, Piece, Text, expand, identifier},
};

pub(crate) const FORMAT: Format = Format {
    name: "server-json",
    title: "MCP Registry",
    dialect: Dialect::Json,
    files: |_| Vec::new(),
    fits: |_, value| {
        let listed = |member: &str| value.get(member).is_some_and(Value::is_array);
        value.get("name").is_some_and(Value::is_string) && (listed("packages") || listed("remotes"))
    },
    reading: Reading::Own(read),
};

/// Packages and remotes of one server that are looked at.
const WAYS_MAX: usize = 100;

fn read(value: &Value, origin: &Origin) -> Result<Vec<Entry>, String> {
    let whole = value.get("name").and_then(Value::as_str).ok_or("has no `name`")?;
    let name = whole.rsplit('/').next().unwrap_or(whole).to_owned();
    let expansion = origin.expansion(false);
    let list = |member: &str| value.get(member).and_then(Value::as_array).cloned().unwrap_or_default();
    let packages = list("packages").into_iter().map(|way| (package(&way, &expansion), way));
    let remotes = list("remotes").into_iter().map(|way| (remote(&way), way));
    let ways: Vec<(Result<Reach, String>, Value)> = packages.chain(remotes).take(WAYS_MAX).collect();
    let mut notes = Vec::new();
    if ways.len() > 1 {
        notes.push(format!("the first usable of {} ways to reach it is taken", ways.len()));
    }
    let older = |way: &Reach| matches!(way, Reach::Http { older: true, .. });
    // The transport before Streamable HTTP only where there is no other way.
    let newer = ways.iter().position(|(way, _)| way.as_ref().is_ok_and(|way| !older(way)));
    let usable = newer.or_else(|| ways.iter().position(|(way, _)| way.is_ok())).unwrap_or(0);
    let reach = match ways.into_iter().nth(usable) {
        Some((reach, _)) => reach,
        None => Err(String::from("has neither packages nor remotes")),
    };
    notes.extend(reach.as_ref().is_ok_and(older).then(|| OLDER.to_owned()));
    Ok(vec![Entry { name, reach, notes }])
}

/// A member, also under the spelling of older files.
fn get<'v>(value: &'v Value, camel: &str) -> Option<&'v Value> {
    value.get(camel).or_else(|| {
        let snake: String = camel
            .chars()
            .flat_map(|c| if c.is_ascii_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        value.get(snake)
    })
}

fn text<'v>(value: &'v Value, member: &str) -> Option<&'v str> {
    get(value, member).and_then(Value::as_str)
}

fn items<'v>(value: &'v Value, member: &str) -> impl Iterator<Item = &'v Value> {
    get(value, member).and_then(Value::as_array).into_iter().flatten()
}

fn package(package: &Value, expansion: &Expansion) -> Result<Reach, String> {
    let kind =
        get(package, "transport").map_or("stdio", |transport| text(transport, "type").unwrap_or("stdio"));
    if kind != "stdio" {
        return Err(format!("is a package that is reached over `{kind}`; start it and name its URL"));
    }
    let identifier = text(package, "identifier")
        .or_else(|| text(package, "name"))
        .ok_or("has a package without an identifier")?;
    let version = text(package, "version").unwrap_or_default();
    let pinned = |sign: &str| {
        if version.is_empty() { identifier.to_owned() } else { format!("{identifier}{sign}{version}") }
    };
    let mut env = Vec::new();
    for variable in items(package, "environmentVariables") {
        let name = text(variable, "name").ok_or("has an environment variable without a name")?;
        if let Some(value) = input(variable, name, expansion)? {
            env.push((name.to_owned(), value));
        }
    }
    let registry =
        text(package, "registryType").or_else(|| text(package, "registryName")).unwrap_or_default();
    let (runtime, mut own, artefact): (&str, Vec<Text>, String) = match registry {
        "npm" => ("npx", vec![Text::of("-y")], pinned("@")),
        "pypi" => ("uvx", Vec::new(), pinned("==")),
        "nuget" => ("dnx", vec![Text::of("--yes")], pinned("@")),
        "oci" | "docker" => {
            let passed = env.iter().flat_map(|(name, _)| [Text::of("-e"), Text::of(name.clone())]);
            let fixed = ["run", "-i", "--rm"].into_iter().map(Text::of);
            (
                "docker",
                fixed.chain(passed).collect(),
                if identifier.contains(['@', ':']) { identifier.to_owned() } else { pinned(":") },
            )
        }
        "mcpb" => {
            return Err(format!(
                "is a bundle: fetch {identifier}, check its SHA-256 ({}) and import the file",
                text(package, "fileSha256").unwrap_or("not given")
            ));
        }
        other => return Err(format!("is a package of a registry that is not known here: `{other}`")),
    };
    let mut command = vec![Text::of(text(package, "runtimeHint").unwrap_or(runtime))];
    command.extend(arguments(package, "runtimeArguments", expansion)?);
    command.append(&mut own);
    command.push(Text::of(artefact));
    command.extend(arguments(package, "packageArguments", expansion)?);
    Ok(Reach::Stdio { command, env, cwd: None })
}

fn arguments(package: &Value, member: &str, expansion: &Expansion) -> Result<Vec<Text>, String> {
    let mut out = Vec::new();
    for argument in items(package, member) {
        let name = text(argument, "name").unwrap_or_default();
        let hint = text(argument, "valueHint").unwrap_or("argument");
        let value = input(argument, if name.is_empty() { hint } else { name }, expansion)?;
        if text(argument, "type") == Some("named") {
            out.push(Text::of(name));
        }
        out.extend(value);
    }
    Ok(out)
}

/// The value of an input: what is fixed, or a variable that a person sets; nothing where it is not needed.
fn input(input: &Value, name: &str, expansion: &Expansion) -> Result<Option<Text>, String> {
    let secret = get(input, "isSecret") == Some(&Value::Bool(true));
    if let Some(value) = text(input, "value") {
        return Ok(Some(braces(&expand(value, expansion)?)));
    }
    match text(input, "default") {
        Some(default) if !secret => Ok(Some(Text::of(default))),
        Some(_) | None if secret || get(input, "isRequired") == Some(&Value::Bool(true)) => {
            Ok(Some(Text::variable(name)))
        }
        Some(_) | None => Ok(None),
    }
}

/// `{name}` in a value is a variable of the file.
fn braces(value: &Text) -> Text {
    let mut out = Text::default();
    for piece in &value.0 {
        let Piece::Literal(literal) = piece else {
            out.0.push(piece.clone());
            continue;
        };
        let mut rest = literal.as_str();
        while let Some((before, name, after)) = rest
            .split_once('{')
            .and_then(|(before, tail)| tail.split_once('}').map(|(name, after)| (before, name, after)))
        {
            if !before.is_empty() {
                out.0.push(Piece::Literal(before.to_owned()));
            }
            out.0.push(Piece::Variable(identifier(name)));
            rest = after;
        }
        if !rest.is_empty() || literal.is_empty() {
            out.0.push(Piece::Literal(rest.to_owned()));
        }
    }
    out
}

fn remote(remote: &Value) -> Result<Reach, String> {
    let kind = text(remote, "type").or_else(|| text(remote, "transportType")).unwrap_or_default();
    let older = kind == "sse";
    if !older && !matches!(kind, "streamable-http" | "streamable" | "http") {
        return Err(format!("is reached over `{kind}`, which is neither Streamable HTTP nor HTTP+SSE"));
    }
    let url = braces(&Text::of(text(remote, "url").ok_or("has a remote without a URL")?));
    let mut headers = Vec::new();
    for header in items(remote, "headers") {
        let name = text(header, "name").ok_or("has a header without a name")?;
        let value = match text(header, "value") {
            Some(value) => Some(braces(&Text::of(value))),
            None => {
                let needed = ["isRequired", "isSecret"]
                    .iter()
                    .any(|member| get(header, member) == Some(&Value::Bool(true)));
                needed.then(|| Text::variable(name))
            }
        };
        headers.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(Reach::Http { url, older, headers })
}
