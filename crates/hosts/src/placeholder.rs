//! What `${…}` means in the files of clients. What a client would ask the user or read from its environment becomes a
//! variable; what is known here (the home, the project) becomes text.

use std::{collections::BTreeMap, path::PathBuf};

/// What is known about the place of a file.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// `${userHome}`, `${HOME}`.
    pub home: PathBuf,
    /// `${workspaceFolder}`.
    pub project: Option<PathBuf>,
    /// `${__dirname}` of a bundle.
    pub package: Option<PathBuf>,
    /// Whether `${NAME}` and `${NAME:-default}` are variables of the environment.
    pub plain: bool,
    /// What `${user_config.x}` stands for where the bundle says it.
    pub answers: BTreeMap<String, String>,
}

/// A text with variables in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Vec<Piece>);

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Literal(String),
    /// A variable of the environment.
    Variable(String),
}

impl Text {
    /// Without variables.
    pub fn of(text: impl Into<String>) -> Self {
        Self(vec![Piece::Literal(text.into())])
    }

    /// A variable alone.
    pub fn variable(name: &str) -> Self {
        Self(vec![Piece::Variable(identifier(name))])
    }

    /// The whole text, where no variable is in it.
    pub fn literal(&self) -> Option<String> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => Some(text.as_str()),
                Piece::Variable(_) => None,
            })
            .collect()
    }

    fn push(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Literal(last)) => last.push_str(text),
            Some(Piece::Variable(_)) | None if text.is_empty() => {}
            Some(Piece::Variable(_)) | None => self.0.push(Piece::Literal(text.to_owned())),
        }
    }
}

/// A name that can be one of a variable: upper case, everything else an underscore.
pub fn identifier(name: &str) -> String {
    let upper: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let trimmed = upper.trim_matches('_');
    match trimmed.chars().next() {
        None => String::from("VALUE"),
        Some(first) if first.is_ascii_digit() => format!("_{trimmed}"),
        Some(_) => trimmed.to_owned(),
    }
}

/// Reads the placeholders of `text`.
pub fn expand(text: &str, known: &Expansion) -> Result<Text, String> {
    let mut out = Text::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push(before);
        let Some((name, next)) = after.split_once('}') else {
            out.push("${");
            out.push(after);
            return Ok(out);
        };
        match meaning(name, known)? {
            Some(Piece::Literal(text)) => out.push(&text),
            Some(variable) => out.0.push(variable),
            None => out.push(&format!("${{{name}}}")),
        }
        rest = next;
    }
    out.push(rest);
    if out.0.is_empty() {
        out.0.push(Piece::Literal(String::new()));
    }
    Ok(out)
}

/// What a placeholder stands for; `None` where the client leaves it as it is.
fn meaning(name: &str, known: &Expansion) -> Result<Option<Piece>, String> {
    let path = |path: &Option<PathBuf>| match path {
        Some(path) => Ok(Some(Piece::Literal(path.display().to_string()))),
        None => Err(format!("names `${{{name}}}`, which this file does not have")),
    };
    if let Some(variable) = name.strip_prefix("env:") {
        return Ok(Some(Piece::Variable(variable.to_owned())));
    }
    if let Some(input) = name.strip_prefix("input:") {
        return Ok(Some(Piece::Variable(identifier(input))));
    }
    if let Some(answer) = name.strip_prefix("user_config.") {
        let given = known.answers.get(answer).cloned().map(Piece::Literal);
        return Ok(Some(given.unwrap_or_else(|| Piece::Variable(identifier(answer)))));
    }
    match name {
        "userHome" | "HOME" => path(&Some(known.home.clone())),
        "workspaceFolder" | "workspaceRoot" => path(&known.project),
        "__dirname" => path(&known.package),
        "/" | "pathSeparator" => Ok(Some(Piece::Literal(String::from("/")))),
        _ if known.plain => {
            let (variable, default) = name.split_once(":-").map_or((name, None), |(v, d)| (v, Some(d)));
            let good =
                !variable.is_empty() && variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            match (good, default) {
                (true, None) => Ok(Some(Piece::Variable(variable.to_owned()))),
                (true, Some(_)) => Err(format!(
                    "gives `${{{variable}}}` a default, which `portcullis.yaml` cannot; write the value out"
                )),
                (false, _) => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::{Expansion, Piece, Text, expand, identifier};

    fn known(plain: bool) -> Expansion {
        Expansion {
            home: "/home/u".into(),
            project: Some("/p".into()),
            package: None,
            plain,
            answers: [(String::from("dir"), String::from("/srv"))].into(),
        }
    }

    #[test]
    fn placeholders_become_text_where_their_value_is_known_and_variables_where_it_is_not() {
        let variable = |name: &str| Piece::Variable(name.to_owned());
        let literal = |text: &str| Piece::Literal(text.to_owned());
        for (text, plain, expected) in [
            ("", true, vec![literal("")]),
            ("a ${userHome}/x${/}y", false, vec![literal("a /home/u/x/y")]),
            ("${workspaceFolder}", false, vec![literal("/p")]),
            ("Bearer ${env:TOKEN}", false, vec![literal("Bearer "), variable("TOKEN")]),
            ("${input:api-key}", false, vec![variable("API_KEY")]),
            ("${user_config.dir}/${user_config.key}", false, vec![literal("/srv/"), variable("KEY")]),
            ("${TOKEN}!", true, vec![variable("TOKEN"), literal("!")]),
            ("${TOKEN}!", false, vec![literal("${TOKEN}!")]),
            ("${not a name} ${open", true, vec![literal("${not a name} ${open")]),
        ] {
            assert_eq!(expand(text, &known(plain)), Ok(Text(expected)), "{text}");
        }
        assert!(expand("${__dirname}/x", &known(false)).is_err());
        assert!(expand("${A:-b}", &known(true)).is_err());
    }

    #[test]
    fn any_name_makes_a_name_of_a_variable() {
        for (name, expected) in
            [("api-key", "API_KEY"), ("--token", "TOKEN"), ("2nd", "_2ND"), ("é", "VALUE"), ("", "VALUE")]
        {
            assert_eq!(identifier(name), expected);
        }
    }
}
