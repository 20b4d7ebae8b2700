//! What the operator says about data and use: labels, environments, quotas, the flow rule, a candidate policy.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_core::Approval;
use portcullis_policy::{Label, Pattern, ServerFacts};
use url::Url;

use super::{
    decode::{Setting, Shape, Walk, choice, one_of, section},
    primitives::Bounded,
    values::{PatternText, Reference, RoleName},
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

/// The role that is asked about what detectors find where nothing is said.
const REVIEWER: &str = "admin";

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
    /// As it counts for what detectors find: where nobody is named, whoever may do everything is asked.
    pub(super) fn of_finds(&self) -> Approval {
        let named = self.compiled();
        let roles = if named.by_caller { BTreeSet::new() } else { Self::reviewers().roles };
        if named.roles.is_empty() { Approval { roles, ..named } } else { named }
    }

    /// Who is asked about what detectors find where nothing is said.
    pub(super) fn reviewers() -> Approval {
        let roles = BTreeSet::from([BTreeSet::from([String::from(REVIEWER)])]);
        Approval { people: 1, roles, expires_s: Approval::EXPIRES_S, by_caller: false }
    }

    /// As policy takes it.
    pub fn compiled(&self) -> Approval {
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
pub struct Facts {
    pub environment: Option<String>,
    pub region: Option<String>,
    pub labels: BTreeMap<String, Vec<Label>>,
    pub costs: BTreeMap<String, Bounded<0, 1_000_000>>,
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
    pub fn compiled(&self) -> ServerFacts {
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
