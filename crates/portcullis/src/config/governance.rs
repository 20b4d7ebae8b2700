//! What the operator says about data and use: labels, environments, quotas, the flow rule, a candidate policy.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_core::Approval;
use portcullis_policy::{Agent, Label, Pattern, ServerFacts};
use portcullis_usage::{Amount, Quota, Share};
use url::Url;

use super::{
    decode::{Setting, Shape, Walk, choice, one_of, section},
    identities::is_local,
    mistake::ConfigMistake,
    primitives::Bounded,
    safety,
    sections::{Form, Settings},
    values::{NAME_HINT, PatternText, Reference, RoleName, is_name},
    yaml::Node,
};

impl Setting for Label {
    fn shape() -> Shape {
        Shape::Choice(Self::ALL.iter().map(|label| (label.name(), label.doc())).collect())
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let words: Vec<&str> = Self::ALL.iter().map(|label| label.name()).collect();
        one_of(node, walk, &words, Self::ALL)
    }
}

choice! {
    /// The flow rule.
    Flow {
        /// Ask people, as `flow_approval` says.
        Approve = "approve",
        /// Let such calls through.
        Off = "off",
        /// Refuse them with `policy.flow`.
        Refuse = "refuse",
    }
}

choice! {
    /// Who shares one count of a quota.
    QuotaShare {
        /// Everybody together.
        All = "all",
        /// Each caller has its own, across sessions and servers.
        Caller = "caller",
        /// Each caller has its own for each tool.
        CallerAndTool = "caller_and_tool",
        /// Everybody with the same role, for each of `roles`.
        Role = "role",
        /// Everybody together for each tool.
        Tool = "tool",
    }
}

section! {
    /// How much those who share a count may use within a window: at least one of `calls`, `bytes` and `cost`. A key of
    /// the selection that is left out does not restrict. Counts outlive restarts; beyond: `quota.exceeded`.
    QuotaSection {
        /// Ids of callers, like `key:*`.
        callers: Vec<PatternText>;
        /// Roles of which a caller has one.
        roles: Vec<RoleName>;
        /// Server names.
        servers: Vec<PatternText>;
        /// Names of tools and prompts, URIs of resources.
        tools: Vec<PatternText>;
        /// Who shares one count.
        per: QuotaShare = QuotaShare::Caller;
        /// Length of a window in seconds. Windows start at multiples of it since 1970, UTC: 86400 is a day.
        window_s: Bounded<1, 31_536_000>;
        /// Calls of tools, prompts and resources, and completions.
        calls: Option<Bounded<0, 1_000_000_000_000>>;
        /// Bytes of their messages, both ways. Those of an answer count from the next call on.
        bytes: Option<Bounded<0, 1_000_000_000_000_000>>;
        /// Units, by `costs` of the servers.
        cost: Option<Bounded<0, 1_000_000_000_000>>;
    }
}

section! {
    /// People who must say yes to exactly this call, once. It is refused with `approval.required` meanwhile.
    ApprovalSection {
        /// How many. Each answers with an API key of its own, and none of them is who asks.
        people: Bounded<1, 10> = Bounded(1);
        /// Roles of which whoever answers has one.
        roles: Vec<RoleName>;
        /// So long after it was asked the question, and a yes to it, are good.
        expires_s: Bounded<1, 604_800> = Bounded(3_600);
        /// The person behind the caller may confirm the call in the client itself; only with `people: 1`. Clients that
        /// cannot be asked are refused as ever.
        by_caller: bool = false;
    }
}

impl ApprovalSection {
    /// As policy takes it.
    pub(crate) fn compiled(&self) -> Approval {
        let any: BTreeSet<String> = self.roles.iter().map(|role| role.0.clone()).collect();
        Approval {
            people: u8::try_from(self.people.0).unwrap_or(Approval::PEOPLE_MAX),
            roles: if any.is_empty() { BTreeSet::new() } else { BTreeSet::from([any]) },
            expires_s: u32::try_from(self.expires_s.0).unwrap_or(Approval::EXPIRES_S_MAX),
            by_caller: self.by_caller,
        }
    }
}

section! {
    /// A chat system in which people are asked. Messages both ways are signed as Standard Webhooks has them.
    ApprovalHook {
        /// Where questions are posted.
        url: Url;
        /// What both sides sign with, 32 bytes or more: `env:NAME` or `file:PATH`.
        secret: Reference;
        /// Ids of the API keys of people, by user of the chat. Who answers there needs no text of a key.
        people: BTreeMap<String, String>;
        /// Its name may resolve to private addresses.
        allow_private: bool = false;
    }
}

section! {
    /// A program that somebody answers for.
    AgentSection {
        /// Who answers for it: a person or team; in the ledger entry of each of its calls.
        owner: String;
        /// The most it may do for others: what they may do, and these roles as well. Its own roles, when it acts for
        /// itself, are those of its credential.
        roles: Vec<RoleName>;
    }
}

/// What the operator says about one server and the things on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) environment: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) labels: BTreeMap<String, Vec<Label>>,
    pub(crate) costs: BTreeMap<String, Bounded<0, 1_000_000>>,
}

impl Facts {
    /// Reports keys that are no patterns.
    pub(super) fn check(&self, node: &Node, walk: &mut Walk) {
        let labels = self.labels.keys().map(|key| ("labels", key));
        for (section, key) in labels.chain(self.costs.keys().map(|key| ("costs", key))) {
            let at = node.get(section).and_then(|(_, map)| map.get(key)).map_or(node, |(_, value)| value);
            if let Err(error) = key.parse::<Pattern>() {
                let hint = "write a name; `*` stands for any text, `\\*` for a star";
                walk.key(section, |walk| walk.key(key, |walk| walk.report(at, error.to_string(), hint)));
            }
        }
    }

    /// As policy takes it. Patterns were checked when they were read, so none is lost here.
    pub(crate) fn compiled(&self) -> ServerFacts {
        let Self { environment, region, labels, costs } = self;
        let labels = labels.iter().filter_map(|(key, labels)| {
            Some((key.parse::<Pattern>().ok()?, labels.iter().copied().collect()))
        });
        let costs = costs.iter().filter_map(|(key, units)| Some((key.parse::<Pattern>().ok()?, units.0)));
        ServerFacts {
            environment: environment.clone(),
            region: region.clone(),
            labels: labels.collect(),
            costs: costs.collect(),
        }
    }
}

impl Settings {
    /// The programs that may act for others, as policy takes them.
    pub(super) fn compiled_agents(&self) -> BTreeMap<String, Agent> {
        let one = |(id, section): (&String, &AgentSection)| {
            let roles = section.roles.iter().map(|role| role.0.clone()).collect();
            (id.clone(), Agent { owner: section.owner.clone(), roles })
        };
        self.agents.iter().map(one).collect()
    }

    /// The quotas, as the data plane takes them.
    pub(crate) fn compiled_quotas(&self) -> Vec<Quota> {
        let patterns = |texts: &[PatternText]| texts.iter().filter_map(|text| text.0.parse().ok()).collect();
        let one = |(name, section): (&String, &QuotaSection)| Quota {
            name: name.clone(),
            callers: patterns(&section.callers),
            roles: section.roles.iter().map(|role| role.0.clone()).collect(),
            servers: patterns(&section.servers),
            items: patterns(&section.tools),
            share: match section.per {
                QuotaShare::All => Share::All,
                QuotaShare::Caller => Share::Caller,
                QuotaShare::CallerAndTool => Share::CallerAndTool,
                QuotaShare::Role => Share::Role,
                QuotaShare::Tool => Share::Tool,
            },
            window_s: section.window_s.0,
            most: Amount {
                calls: section.calls.map_or(u64::MAX, |most| most.0),
                bytes: section.bytes.map_or(u64::MAX, |most| most.0),
                cost: section.cost.map_or(u64::MAX, |most| most.0),
            },
        };
        self.quotas.iter().map(one).collect()
    }
}

/// Settings of security that cannot take effect.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: &str, hint: &str| {
        out.push(ConfigMistake::new(safety::place(root, key), key, message, hint));
    };
    let labelled = |label: Label| {
        settings.servers.values().any(|server| server.facts.labels.values().any(|all| all.contains(&label)))
    };
    let kinds = [Label::ReadsPrivate, Label::SeesUntrusted, Label::WritesExternal];
    if root.get("flow").is_some() && settings.flow != Flow::Off && !kinds.into_iter().all(labelled) {
        let message = "cannot take effect: the rule needs things labelled `reads_private`, `sees_untrusted` and `writes_external`";
        refuse("flow", message, "label tools under `servers.NAME.labels`, or remove `flow`");
    }
    if (settings.flow == Flow::Approve) != settings.flow_approval.is_some() {
        let message = "`flow: approve` and `flow_approval` go together";
        refuse("flow_approval", message, "say whom to ask, or set `flow: refuse`");
    }
    hooks(settings, &mut refuse);
    for (id, agent) in &settings.agents {
        if agent.owner.trim().is_empty() {
            refuse(&format!("agents.{id}.owner"), "names nobody", "say who answers for the program");
        }
        if !id.contains(':') {
            refuse(
                &format!("agents.{id}"),
                "is the id of no caller",
                "write key:ID, jwt:ISSUER#SUBJECT, client:ISSUER#CLIENT or cert:NAME",
            );
        }
    }
    for (name, quota) in &settings.quotas {
        let key = format!("quotas.{name}");
        if quota.calls.is_none() && quota.bytes.is_none() && quota.cost.is_none() {
            refuse(&key, "bounds nothing", "set `calls`, `bytes` or `cost`");
        }
        if quota.per == QuotaShare::Role && quota.roles.is_empty() {
            refuse(&key, "cannot take effect: `per: role` counts for each of `roles`", "name the roles");
        }
    }
    for (name, role) in &settings.roles {
        for (index, rule) in role.allow.iter().enumerate() {
            let tokens = |detector| {
                settings.inspect.get(detector).is_some_and(|section| section.form == Some(Form::Token))
            };
            for detector in rule.restore.iter().filter(|detector| !tokens(detector)) {
                let message = format!("cannot take effect: `{}` makes no tokens", detector.0);
                let hint = format!("set `inspect.{}.form: token`, or remove it here", detector.0);
                refuse(&format!("roles.{name}.allow[{index}]"), &message, &hint);
            }
            for detector in rule.mask.iter().chain(&rule.refuse) {
                let off = settings.inspect.get(detector).is_some_and(|section| !section.enabled);
                if off {
                    let message =
                        format!("cannot take effect: the detector `{}` is switched off", detector.0);
                    let hint = "enable it under `inspect`, or remove it here";
                    refuse(&format!("roles.{name}.allow[{index}]"), &message, hint);
                }
            }
        }
    }
    out
}

/// Chat systems that would show questions or secrets to the wrong side.
fn hooks(settings: &Settings, refuse: &mut impl FnMut(&str, &str, &str)) {
    for (name, hook) in &settings.approval_hooks {
        let key = format!("approval_hooks.{name}");
        if !is_name(name) {
            refuse(&key, "is no name", NAME_HINT);
        }
        if hook.url.scheme() != "https" && !(hook.url.scheme() == "http" && is_local(&hook.url)) {
            let message = "questions would be sent over plain HTTP";
            refuse(&format!("{key}.url"), message, "use `https://`");
        }
        if matches!(hook.secret, Reference::Literal(_)) {
            let message = "this is the place of a secret, and a configuration file is not";
            refuse(&format!("{key}.secret"), message, "write `env:NAME` or `file:PATH`");
        }
        if hook.people.is_empty() || hook.people.values().any(|id| id.contains(':')) {
            let message = "each user of the chat needs the id of an API key";
            refuse(&format!("{key}.people"), message, "write it as `portcullis key list` shows it");
        }
    }
}
