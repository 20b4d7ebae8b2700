//! `portcullis import`: servers from the configurations of MCP clients into `portcullis.yaml`. Nothing is written and
//! nothing is started before a person has seen each command and says `--write`; and what is written waits for review.

pub(super) mod confine;
mod plan;
pub(super) mod secrets;

use std::path::{Path, PathBuf};

use portcullis_config::{Config, DEFAULT_FILE, Overrides, fragment, read_bounded, with_servers};
use portcullis_hosts::{self as hosts, Format, Found, Places, mcpb, replace};
use serde::Serialize;

use self::{
    confine::Surroundings,
    plan::{Planned, Planner, State},
};
use super::{
    Common, Failure, client,
    output::{Output, printable},
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis import                               show what the clients on this machine use
  portcullis import --from cursor --write         take over what Cursor uses
  portcullis import .vscode/mcp.json server.json  read these files
  portcullis import weather.mcpb --write          unpack a bundle and take it over

Clients: claude-code, claude-desktop, copilot, cursor, inspector, vscode, and server-json (MCP Registry).
Secrets become files in the data directory; every server is written with `trust: review`.";

/// What `import` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Import {
    /// Files to read: of a client, `server.json`, `.mcpb` [default: the files of every client found here]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read as the file of this client, or look only for its files (repeat for several)
    #[arg(long, value_name = "CLIENT", value_parser = format_named)]
    from: Vec<&'static Format>,
    /// Only servers of this name (repeat for several)
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<String>,
    /// Write into the configuration; without it, only show what would be written
    #[arg(long)]
    write: bool,
    /// Write the servers into this file of their own instead
    #[arg(long, value_name = "FILE", requires = "write")]
    output: Option<PathBuf>,
}

/// For the command line.
fn format_named(name: &str) -> Result<&'static Format, String> {
    let names: Vec<&str> = hosts::FORMATS.iter().map(|format| format.name).collect();
    hosts::named(name).ok_or_else(|| format!("known: {}", names.join(", ")))
}

/// What was read and what follows.
#[derive(Serialize)]
struct Report {
    files: Vec<FileRead>,
    servers: Vec<Planned>,
    written: Option<String>,
}

#[derive(Serialize)]
struct FileRead {
    client: &'static str,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn import(common: &Common, options: &Import, output: &Output) -> Result<(), Failure> {
    let places = client::places().map_err(Failure::refused)?;
    let config = configuration(common)?;
    let path = places.project.join(config.path.clone().unwrap_or_else(|| target(common)));
    let data = places.project.join(client::data_dir(common));
    let bundles = mcpb::bundles(&data);
    let found = found(options, &places, &bundles);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let hidden = vec![real(&data), real(&path)];
    let around = Surroundings { home: places.home.clone(), bundles, hidden };
    let mut planner = Planner::new(&config, &path, data.join("secrets"), around).map_err(Failure::refused)?;
    for file in &found {
        for entry in file.entries.iter().flatten() {
            if options.servers.is_empty() || options.servers.contains(&entry.name) {
                planner.add(file, entry);
            }
        }
    }
    let files: Vec<FileRead> = found
        .iter()
        .map(|found| FileRead {
            client: found.format,
            file: found.file.display().to_string(),
            error: found.entries.as_ref().err().cloned(),
        })
        .collect();
    let refused = files.iter().filter(|file| file.error.is_some()).count();
    let mut report = Report { files, servers: planner.planned, written: None };
    // Nobody should have half an import because one of the files is not what it seems.
    if options.write && refused == 0 && report.servers.iter().any(|server| server.state == State::New) {
        let target = options.output.clone().unwrap_or_else(|| path.clone());
        write(&report.servers, &found, &data, &path, options.output.as_deref()).map_err(Failure::refused)?;
        report.written = Some(target.display().to_string());
    }
    output.show(&report, |report| text(report, &found, options.write));
    match refused {
        0 => Ok(()),
        1 => Err(Failure::refused("one file is refused; nothing was written")),
        many => Err(Failure::refused(format!("{many} files are refused; nothing was written"))),
    }
}

/// The file that is written where there is none yet.
fn target(common: &Common) -> PathBuf {
    common.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

/// The configuration that is added to; everything at its default where there is none.
fn configuration(common: &Common) -> Result<Config, Failure> {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    let path = target(common);
    let loaded = if path.exists() {
        Config::load(Some(&path), &overrides)
    } else {
        Config::parse("", None, &overrides)
    };
    loaded.map_err(|mistakes| Failure::mistakes(&path.display().to_string(), &mistakes))
}

fn found(options: &Import, places: &Places, bundles: &Path) -> Vec<Found> {
    if options.files.is_empty() {
        let wanted = |format: &Format| {
            options.from.is_empty() || options.from.iter().any(|from| from.name == format.name)
        };
        return hosts::discover(places, bundles, wanted);
    }
    let given = options.from.first().copied();
    options.files.iter().map(|file| hosts::read(file, given, places, bundles)).collect()
}

/// Bundles and secrets first: a configuration never names what is not there.
fn write(
    planned: &[Planned],
    found: &[Found],
    data: &Path,
    path: &Path,
    output: Option<&Path>,
) -> Result<(), String> {
    let new: Vec<&Planned> = planned.iter().filter(|server| server.state == State::New).collect();
    let servers: Vec<(String, serde_json::Value)> =
        new.iter().map(|server| (server.name.clone(), server.section.clone())).collect();
    let contents = match output {
        Some(_) => fragment(&servers),
        None if path.exists() => {
            let bytes = read_bounded(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
            let text = String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8", path.display()))?;
            with_servers(&text, path, &servers)?
        }
        None => with_servers("", path, &servers)?,
    };
    for bundle in found.iter().filter(|found| found.format == mcpb::NAME) {
        if new.iter().any(|server| server.file == bundle.file.display().to_string()) {
            mcpb::unpack(&bundle.file, &mcpb::bundles(data))
                .map_err(|reason| format!("`{}` {reason}", bundle.file.display()))?;
        }
    }
    for server in &new {
        for moved in &server.moved {
            secrets::keep(moved)?;
        }
    }
    let target = output.unwrap_or(path);
    replace::replace(target, contents.as_bytes(), 0o600)
        .map_err(|error| format!("`{}` cannot be written: {error}", target.display()))
}

fn text(report: &Report, found: &[Found], write: bool) -> String {
    let mut out = String::new();
    if report.files.is_empty() {
        out.push_str("no configuration of a client was found; name a file\n");
    }
    for file in found {
        let name = file.file.display().to_string();
        out.push_str(&format!("{}  {name}\n", file.title));
        match &file.entries {
            Err(reason) => out.push_str(&format!("  refused: the file {reason}\n")),
            Ok(entries) if entries.is_empty() => out.push_str("  no servers\n"),
            Ok(_) => {
                for server in report.servers.iter().filter(|server| server.file == name) {
                    out.push_str(&one(server));
                }
            }
        }
    }
    let new: Vec<&str> =
        report.servers.iter().filter(|s| s.state == State::New).map(|s| s.name.as_str()).collect();
    out.push('\n');
    match (&report.written, new.is_empty()) {
        (Some(file), _) => out.push_str(&format!(
            "written to {file}: {}\nNothing of them can be called yet. Look at what each offers with `portcullis tool list NAME`, then approve it with `portcullis tool approve NAME/TOOL`.\n",
            new.join(", ")
        )),
        (None, false) if !write => out.push_str(&format!(
            "nothing was written. `--write` adds {} to the configuration; the gateway then starts the commands above to ask what they offer.\n",
            new.join(", ")
        )),
        (None, _) => out.push_str("nothing to add\n"),
    }
    printable(&out)
}

/// A server, with its command in full.
fn one(server: &Planned) -> String {
    let mut out = format!("  {} ({})\n", server.name, server.state.word());
    if server.name != server.declared {
        out.push_str(&format!("    is called  {}\n", server.declared));
    }
    for (member, value) in server.section.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Array(words) => {
                let words: Vec<String> =
                    words.iter().filter_map(serde_json::Value::as_str).map(shell_word).collect();
                out.push_str(&format!("    {member:<9}  {}\n", words.join(" ")));
            }
            serde_json::Value::Object(pairs) => {
                if pairs.is_empty() {
                    out.push_str(&format!("    {member:<9}  on\n"));
                }
                for (name, value) in pairs {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    out.push_str(&format!("    {member:<9}  {name} = {text}\n"));
                }
            }
            other => {
                let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                out.push_str(&format!("    {member:<9}  {text}\n"));
            }
        }
    }
    for moved in &server.moved {
        out.push_str(&format!("    moved      {} to {} ({})\n", moved.place, moved.reference, moved.why));
    }
    for note in &server.notes {
        out.push_str(&format!("    note       {note}\n"));
    }
    if let Some(reason) = &server.reason {
        out.push_str(&format!("    not taken  {reason}\n"));
    }
    out
}

/// A word as a shell would read it: what is printed can be compared with what was meant, to the letter.
fn shell_word(word: &str) -> String {
    let plain =
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=+./:,@%".contains(&b));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn words_are_printed_so_that_a_shell_would_read_the_same() {
        for (word, printed) in [
            ("npx", "npx"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(rm)", "'$(rm)'"),
            ("@scope/pkg@1.0", "@scope/pkg@1.0"),
        ] {
            assert_eq!(shell_word(word), printed);
        }
    }
}
