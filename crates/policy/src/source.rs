//! What an operator writes: roles with rules, and Cedar files. `bundle.rs` compiles them.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::{fmt, str::FromStr};

use portcullis_core::{Action, TargetKind};

use crate::{Labels, ServerFacts};

/// What a rule does when it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Refuse, whatever else permits.
    Forbid,
    /// Allow, unless something forbids.
    Permit,
}

/// A text with wildcards: `*` stands for any run of characters, `\*` for a star and `\\` for a backslash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Piece {
    Any,
    Text(String),
}

/// The text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A backslash is followed by something else than a star or a backslash.
    #[error("a backslash may stand only before `*` or another backslash")]
    Backslash,
    /// Nothing can match the empty text, since nothing has an empty name.
    #[error("a pattern may not be empty")]
    Empty,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(core::mem::take(&mut literal)));
                    }
                    if pieces.last() != Some(&Piece::Any) {
                        pieces.push(Piece::Any);
                    }
                }
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '\\')) => literal.push(escaped),
                    _ => return Err(PatternError::Backslash),
                },
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if pieces.is_empty() { Err(PatternError::Empty) } else { Ok(Self(pieces)) }
    }
}

impl Pattern {
    /// Whether it matches the whole of `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (mut rest, mut floating) = (text, false);
        for (index, piece) in self.0.iter().enumerate() {
            let last = index + 1 == self.0.len();
            match piece {
                Piece::Any => floating = true,
                // The last text has to end the whole; every other takes the first place where it fits.
                Piece::Text(text) if last && floating => return rest.ends_with(text.as_str()),
                Piece::Text(text) => {
                    let found = if floating {
                        rest.find(text.as_str())
                    } else {
                        rest.starts_with(text.as_str()).then_some(0)
                    };
                    let Some(after) = found.and_then(|at| rest.get(at + text.len()..)) else { return false };
                    (rest, floating) = (after, false);
                }
            }
        }
        floating || rest.is_empty()
    }

    /// The text itself when there is no wildcard in it.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// A text that it matches, for questions about what it names.
    pub(crate) fn example(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Any => "…".to_string(),
            Piece::Text(text) => text.clone(),
        };
        self.0.iter().map(piece).collect()
    }

    /// Whether it matches everything.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == [Piece::Any]
    }

    /// The pattern as the right-hand side of Cedar's `like`, quotes included.
    pub(crate) fn to_cedar(&self) -> String {
        let mut out = String::from("\"");
        for piece in &self.0 {
            match piece {
                Piece::Any => out.push('*'),
                Piece::Text(text) => out.push_str(&escaped(text).replace('*', "\\*")),
            }
        }
        out.push('"');
        out
    }
}

/// Prints the pattern as it can be read back.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Any => f.write_str("*")?,
                Piece::Text(text) => f.write_str(&text.replace('\\', "\\\\").replace('*', "\\*"))?,
            }
        }
        Ok(())
    }
}

/// The pattern that matches `text` and nothing else.
pub(crate) fn literal_pattern(text: &str) -> Pattern {
    Pattern(vec![Piece::Text(text.to_string())])
}

/// `text` escaped for the inside of a Cedar string literal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&alloc::format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// One sentence of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow or refuse.
    pub effect: Effect,
    /// Which actions; empty means all.
    pub actions: Vec<Action>,
    /// Which servers, by configured name; empty means all.
    pub servers: Vec<Pattern>,
    /// Which tools, prompts (names), resources and templates (URIs); empty means all. A `permit` of an action on
    /// the server as a whole (`connect`, `answer`) is not narrowed by this; a `forbid` with items leaves it alone.
    pub items: Vec<Pattern>,
    /// Which kinds of things; empty means all. Narrows as `items` does.
    pub kinds: Vec<TargetKind>,
    /// Labels of which a thing must have one; none means all things. Narrows as `items` does.
    pub labels: Labels,
    /// Environments of servers; empty means all.
    pub environments: Vec<String>,
    /// Detectors whose finds in answers are masked; only with `permit`.
    pub mask: Vec<String>,
    /// Detectors whose finds in answers refuse the answer; only with `permit`.
    pub refuse: Vec<String>,
}

impl Rule {
    /// Everything is allowed; narrow it from here.
    #[must_use]
    pub fn permit() -> Self {
        Self {
            effect: Effect::Permit,
            actions: Vec::new(),
            servers: Vec::new(),
            items: Vec::new(),
            kinds: Vec::new(),
            labels: Labels::NONE,
            environments: Vec::new(),
            mask: Vec::new(),
            refuse: Vec::new(),
        }
    }

    /// Everything is refused; narrow it from here.
    #[must_use]
    pub fn forbid() -> Self {
        Self { effect: Effect::Forbid, ..Self::permit() }
    }
}

/// A named set of rules that callers can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The name, as keys and tokens carry it.
    pub name: String,
    /// What it is for.
    pub doc: Option<String>,
    /// Roles that it contains: whoever has this one has them as well.
    pub inherits: Vec<String>,
    /// What it allows and refuses.
    pub rules: Vec<Rule>,
}

/// Everything that is compiled into one set of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySource {
    /// The roles, the built-in ones included where they are wanted.
    pub roles: Vec<Role>,
    /// Cedar files: name and text.
    pub cedar: Vec<(String, String)>,
    /// What is said about servers, by configured name.
    pub servers: BTreeMap<String, ServerFacts>,
    /// Let calls through that the flow rule would refuse.
    pub flow_off: bool,
}

/// The roles that exist unless configuration defines roles of the same names.
///
/// - `admin`: every action on every server.
/// - `operator`: connect, list, call every tool, read every resource, render every prompt, complete, follow tasks,
///   answer what a server asks; everything `admin` may do on the data plane today, but not what is added later.
/// - `reader`: connect, list, read resources, render prompts, complete; no tool runs.
#[must_use]
pub fn builtin_roles() -> Vec<Role> {
    let reading = vec![
        Action::Connect,
        Action::GetPrompt,
        Action::ReadResource,
        Action::SubscribeResource,
        Action::Complete,
    ];
    let mut operating = reading.clone();
    operating.extend([Action::CallTool, Action::Answer, Action::Task]);
    let role = |name: &str, doc: &str, actions| Role {
        name: name.to_string(),
        doc: Some(doc.to_string()),
        inherits: Vec::new(),
        rules: vec![Rule { actions, ..Rule::permit() }],
    };
    vec![
        role("admin", "everything on every server", Vec::new()),
        role("operator", "use every tool, prompt and resource of every server", operating),
        role("reader", "read resources and prompts of every server; run no tool", reading),
    ]
}
