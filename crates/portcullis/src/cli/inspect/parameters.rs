//! `portcullis inspect arguments` and `inspect propose`: what parameters mean, tried out and proposed.

use std::{collections::BTreeMap, path::Path};

use portcullis_admin::api::{Definition, DefinitionList, DefinitionQuery};
use portcullis_config::{Config, Overrides, Server, Upstream};
use portcullis_core::Limits;
use portcullis_mcp::json::{self, JsonLimits, View};
use portcullis_meaning::{Suggestion, propose};
use serde_json::{Value, json};

use super::super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable, table},
};

/// What stands where only the operator knows better.
const PLACEHOLDER: &str = "CHANGE-ME";

/// Says whether the arguments of a call would pass, without making it.
pub(super) fn arguments(
    common: &Common,
    (server, tool): (String, String),
    file: &Path,
    output: &Output,
) -> Result<(), Failure> {
    let config = super::super::check::load(common.config.as_deref(), &Overrides::default())?;
    let declared = config.settings.servers.get(&server);
    let declared = declared.ok_or_else(|| Failure::refused(format!("the file has no server `{server}`")))?;
    let text = super::read(file)?;
    json::check(text.as_bytes(), &JsonLimits::request(&Limits::default()))
        .map_err(|error| Failure::refused(format!("{}: {error}", file.display())))?;
    let breaches = declared.meanings().check(&tool, Some(View::of(text.as_bytes())));
    let rows: Vec<Value> = breaches
        .iter()
        .map(|breach| json!({ "meaning": breach.kind, "place": breach.place, "why": breach.why }))
        .collect();
    output.show(&json!({ "passes": breaches.is_empty(), "refused": rows }), |_| {
        let rows: Vec<Vec<String>> = breaches
            .iter()
            .map(|breach| vec![breach.kind.to_owned(), printable(&breach.place), breach.why.to_owned()])
            .collect();
        if rows.is_empty() { "they pass".to_owned() } else { table(&["MEANING", "PLACE", "WHY"], &rows) }
    });
    if breaches.is_empty() {
        Ok(())
    } else {
        Err(Failure::refused("they would be refused with arguments.meaning"))
    }
}

/// Proposes meanings for the tools that are there, as a piece of configuration.
pub(super) fn suggest(common: &Common, server: Option<String>, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    let query = DefinitionQuery { kind: Some("tool".into()), server, name: None, state: None };
    let list: DefinitionList = client.ask("list_definitions", "", Some(&query), NONE)?;
    let mut found: BTreeMap<String, BTreeMap<String, Vec<Value>>> = BTreeMap::new();
    for row in list.definitions {
        let which = DefinitionQuery {
            kind: Some("tool".into()),
            server: Some(row.server.clone()),
            name: Some(row.name.clone()),
            state: None,
        };
        let definition: Definition = client.ask("show_definition", "", Some(&which), NONE)?;
        let Some(said) = definition.observed.or(definition.pinned) else { continue };
        let schema = said.get("inputSchema").map(Value::to_string).unwrap_or_default();
        if json::check(schema.as_bytes(), &JsonLimits::answer(&Limits::default())).is_err() {
            continue;
        }
        let proposals: Vec<Value> = propose(View::of(schema.as_bytes()))
            .into_iter()
            .map(|one| {
                let meaning = written(one.suggestion, &said);
                json!({ "parameter": one.parameter, "meaning": meaning, "why": one.why })
            })
            .collect();
        if !proposals.is_empty() {
            found.entry(row.server).or_default().insert(row.name, proposals);
        }
    }
    let roots: BTreeMap<String, Vec<String>> = folders(common).unwrap_or_default();
    fill(&mut found, &roots);
    output.show(&json!({ "servers": found }), |_| snippet(&found));
    Ok(())
}

/// A meaning as the file has it. What only the operator knows is left to be filled in, and refuses everything until then.
fn written(suggestion: Suggestion, said: &Value) -> Value {
    match suggestion {
        Suggestion::Command => json!({ "command": { "programs": [] } }),
        Suggestion::Email => json!({ "email": { "to": [format!("{PLACEHOLDER}.example")] } }),
        Suggestion::Host => json!({ "host": { "to": ["*"] } }),
        Suggestion::Identifier => json!({ "identifier": {} }),
        Suggestion::Path => json!({ "path": { "within": [format!("/{PLACEHOLDER}")] } }),
        Suggestion::Sql => json!({ "sql": { "dialect": dialect(said) } }),
        Suggestion::Url => json!({ "url": { "to": ["*"] } }),
    }
}

/// The dialect that the definition speaks of.
fn dialect(said: &Value) -> &'static str {
    let said = said.to_string().to_ascii_lowercase();
    [
        ("sqlite", "sqlite"),
        ("postgres", "postgresql"),
        ("mysql", "mysql"),
        ("mariadb", "mysql"),
        ("sql server", "mssql"),
    ]
    .into_iter()
    .find(|(word, _)| said.contains(word))
    .map_or("generic", |(_, dialect)| dialect)
}

/// Folders that servers were started for: absolute paths among their arguments.
fn folders(common: &Common) -> Option<BTreeMap<String, Vec<String>>> {
    let config = Config::load(common.config.as_deref(), &Overrides::default()).ok()?;
    let of = |server: &Server| match &server.upstream {
        Upstream::Stdio { args, .. } => args
            .iter()
            .filter(|arg| arg.len() > 1 && arg.starts_with('/') && Path::new(arg).is_dir())
            .cloned()
            .collect(),
        Upstream::Http { .. } => Vec::new(),
    };
    Some(config.settings.servers.iter().map(|(name, server)| (name.clone(), of(server))).collect())
}

fn fill(found: &mut BTreeMap<String, BTreeMap<String, Vec<Value>>>, folders: &BTreeMap<String, Vec<String>>) {
    for (server, tools) in found {
        let Some(known) = folders.get(server).filter(|known| !known.is_empty()) else { continue };
        for proposal in tools.values_mut().flatten() {
            if let Some(within) = proposal.pointer_mut("/meaning/path/within") {
                *within = json!(known);
            }
        }
    }
}

/// YAML that can be pasted: JSON in flow style is YAML.
fn snippet(found: &BTreeMap<String, BTreeMap<String, Vec<Value>>>) -> String {
    if found.is_empty() {
        return "# no parameter whose meaning could be guessed".to_owned();
    }
    let mut out = format!(
        "# Proposed by names and schemas; nothing of it is in force. Replace {PLACEHOLDER} and narrow `*`.\nservers:\n"
    );
    for (server, tools) in found {
        out.push_str(&format!("  {}:\n    parameters:\n", Value::from(server.as_str())));
        for (tool, proposals) in tools {
            out.push_str(&format!("      {}:\n", Value::from(tool.as_str())));
            for proposal in proposals {
                let why = proposal.get("why").and_then(Value::as_str).unwrap_or_default();
                let part = |key: &str| proposal.get(key).map(Value::to_string).unwrap_or_default();
                out.push_str(&format!("        {}: {}  # by {why}\n", part("parameter"), part("meaning")));
            }
        }
    }
    printable(out.trim_end())
}
