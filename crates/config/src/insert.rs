//! Adds servers to the text of a configuration file and leaves everything else in it as it was written, comments
//! included. The result is read again and compared, so a text that is laid out in a way this does not understand is
//! refused rather than damaged.

use std::path::Path;

use serde_json::Value as Json;

use super::{
    Config, Overrides,
    yaml::{self, Value},
};

/// The section of one server as YAML, indented by `indent` spaces.
fn section(name: &str, server: &Json, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut out = format!("{pad}{}:\n", key(name));
    for (member, value) in server.as_object().into_iter().flatten() {
        match value {
            Json::Object(pairs) if pairs.is_empty() => out.push_str(&format!("{pad}  {member}: {{}}\n")),
            Json::Object(pairs) => {
                out.push_str(&format!("{pad}  {member}:\n"));
                for (name, value) in pairs {
                    out.push_str(&format!("{pad}    {}: {}\n", quoted(name), scalar(value)));
                }
            }
            other => out.push_str(&format!("{pad}  {member}: {}\n", scalar(other))),
        }
    }
    out
}

/// A name of letters needs no quotes; one that YAML could read as a number or a boolean does.
fn key(name: &str) -> String {
    let plain = name.len() > 3 && name.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_'));
    if plain && !matches!(name.to_ascii_lowercase().as_str(), "true" | "false" | "null") {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) => quoted(text),
        Json::Array(items) => format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A text in double quotes, on one line, with everything escaped that YAML does not print.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The servers alone, as a file of their own.
pub fn fragment(servers: &[(String, Json)]) -> String {
    let sections = servers.iter().map(|(name, server)| section(name, server, 2));
    format!("servers:\n{}", sections.collect::<String>())
}

/// `text`, the contents of `path`, with these servers added.
///
/// # Errors
/// When the file is mistaken, or written in a form that nothing can be added to; says what to do.
pub fn with_servers(text: &str, path: &Path, servers: &[(String, Json)]) -> Result<String, String> {
    let root = yaml::parse(text).map_err(|found| listed(&found))?;
    let added = match root.get("servers") {
        None => {
            let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            format!("{text}{gap}{}", fragment(servers))
        }
        Some((key, node)) => {
            let (line, indent) = match &node.value {
                Value::Map(pairs) => match pairs.first() {
                    Some((first, _)) if first.at.line > key.at.line => {
                        (first.at.line - 1, first.at.column - 1)
                    }
                    Some(_) | None => (key.at.line, 2),
                },
                Value::Null | Value::List(_) | Value::Scalar { .. } => (key.at.line, 2),
            };
            let sections: String =
                servers.iter().map(|(name, server)| section(name, server, indent)).collect();
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            let place = line.min(lines.len());
            let gap = if place == lines.len() && !text.ends_with('\n') { "\n" } else { "" };
            let sections = format!("{gap}{sections}");
            lines.insert(place, &sections);
            lines.concat()
        }
    };
    unharmed(text, &added, path, servers).map(|()| added)
}

/// Whether the new text says what the old one said, and the new servers.
fn unharmed(old: &str, new: &str, path: &Path, servers: &[(String, Json)]) -> Result<(), String> {
    let read = |text: &str| Config::parse(text, Some(path), &Overrides::default());
    let before = read(old).map_err(|found| listed(&found))?;
    let cannot = || {
        let hint = "write `servers:` in block form, one server per indented key, or use --output";
        format!("`{}` is laid out in a way that nothing can be added to; {hint}", path.display())
    };
    let mut after = read(new).map_err(|_| cannot())?.settings;
    let own = read(&fragment(servers)).map_err(|found| listed(&found))?.settings.servers;
    let all_new = own.iter().all(|(name, server)| {
        !before.settings.servers.contains_key(name) && after.servers.remove(name).as_ref() == Some(server)
    });
    if all_new && after == before.settings { Ok(()) } else { Err(cannot()) }
}

fn listed(found: &[super::ConfigMistake]) -> String {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{quoted, with_servers};

    fn add(text: &str) -> Result<String, String> {
        let server = json!({"command": ["x", "\u{e9}: #", "\u{2028}\\\""], "env": {"A": "file:f"}, "sandbox": {}, "trust": "review"});
        with_servers(text, Path::new("portcullis.yaml"), &[("new".to_owned(), server)])
    }

    #[test]
    fn servers_are_added_to_every_block_form_and_what_was_written_stays() {
        for text in [
            "",
            "# nothing",
            "log:\n  level: info\n",
            "servers:\n",
            "servers: # mine\n  # one\n  a:\n    url: https://a.example/mcp\nlog:\n  level: info",
            "servers:\n      a: {url: \"https://a.example/mcp\"}\n      b:\n        command: [x]\n",
        ] {
            let added = add(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            for line in text.lines() {
                assert!(added.lines().any(|own| own == line), "{line} is lost in\n{added}");
            }
            assert!(added.contains("\"\\u2028\\\\\\\"\""), "{added}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_added_to_is_refused_and_so_is_one_with_mistakes() {
        for text in [
            "servers: {}\n",
            "servers: {a: {url: \"https://a.example/mcp\"}}\n",
            "{log: {level: info}}\n",
            "servers:\n  new:\n    url: https://a.example/mcp\n",
            "nonsense: 1\n",
            "servers: [1]\n",
        ] {
            assert!(add(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_text_is_one_line_in_quotes() {
        assert_eq!(quoted("a\"\\\n\u{7f}"), "\"a\\\"\\\\\\n\\u007F\"");
    }
}
