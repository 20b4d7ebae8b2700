//! What an operator writes: roles with rules, and Cedar files. `bundle.rs` compiles them.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use portcullis_core::{Action, Approval, TargetKind};

use crate::{Labels, Pattern, Residency, ServerFacts};

/// What a rule does when it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Refuse, whatever else permits.
    Forbid,
    /// Allow, unless something forbids.
    Permit,
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
    /// Labels all of which the session must have seen; none means any session. Narrows as `items` does.
    pub seen: Labels,
    /// Environments of servers; empty means all.
    pub environments: Vec<String>,
    /// Detectors whose finds in answers are marked for the model; only with `permit`.
    pub warn: Vec<String>,
    /// Detectors whose finds in answers make the answer wait for people; only with `permit`.
    pub ask: Vec<String>,
    /// Detectors whose finds in answers are masked; only with `permit`.
    pub mask: Vec<String>,
    /// Detectors whose finds take the member with them that holds them in answers; only with `permit`.
    pub drop: Vec<String>,
    /// Detectors whose finds in answers refuse the answer; only with `permit`.
    pub refuse: Vec<String>,
    /// Detectors whose tokens in arguments are restored; only with `permit`.
    pub restore: Vec<String>,
    /// Whether nothing of an answer passes before all of it was judged; only with `permit`.
    pub buffer: bool,
    /// Whom to ask before the call is made; only with `permit`, and only where `actions` names none but `call_tool`,
    /// `get_prompt` and `read_resource`.
    pub approval: Option<Approval>,
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
            seen: Labels::NONE,
            environments: Vec::new(),
            warn: Vec::new(),
            ask: Vec::new(),
            mask: Vec::new(),
            drop: Vec::new(),
            refuse: Vec::new(),
            restore: Vec::new(),
            buffer: false,
            approval: None,
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

/// A program that somebody answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Who answers for it.
    pub owner: String,
    /// The most it may do for others.
    pub roles: Vec<String>,
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
    /// Programs that may act for others, by id.
    pub agents: BTreeMap<String, Agent>,
    /// Where data may go, and where callers are.
    pub residency: Residency,
    /// Let calls through that the flow rule would refuse.
    pub flow_off: bool,
    /// Whom to ask about calls that the flow rule would refuse; nobody: they are refused.
    pub flow_approval: Option<Approval>,
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
