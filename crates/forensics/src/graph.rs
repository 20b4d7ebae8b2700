//! Who touched what: callers, the tools and resources that they used, and for whom agents acted.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use crate::{Hit, timeline::target};

/// What stands at the ends of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// Who calls.
    Caller,
    /// For whom an agent acts.
    Owner,
    /// A tool, prompt, resource or server.
    Target,
}

/// One who did something, or something that it was done to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Node {
    /// What it is.
    pub kind: Thing,
    /// Its name.
    pub name: String,
}

/// What one had to do with another.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Touch {
    /// Calls that were forwarded.
    pub allowed: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls with findings.
    pub findings: u64,
    /// When first.
    pub first: String,
    /// When last.
    pub last: String,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Edge {
    /// From whom.
    pub from: Node,
    /// To what.
    pub to: Node,
    /// How often, and when.
    #[serde(flatten)]
    pub touch: Touch,
}

/// Who touched what.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Graph {
    /// In the order of names.
    pub edges: Vec<Edge>,
}

impl Graph {
    /// Of these entries.
    #[must_use]
    pub fn of(hits: &[Hit]) -> Self {
        let mut edges: BTreeMap<(Node, Node), Touch> = BTreeMap::new();
        for hit in hits {
            let text = |pointer: &str| hit.entry.pointer(pointer).and_then(Value::as_str);
            let event = text("/event").unwrap_or_default();
            // An outcome is about a call that is there already, unless its answer was refused.
            let refused = event == "call.refused" && hit.entry.get("intent").is_none();
            let (Some(who), true) = (text("/actor/id"), event == "call.intent" || refused) else { continue };
            let caller = Node { kind: Thing::Caller, name: who.to_owned() };
            let mut touched = vec![(caller.clone(), Node { kind: Thing::Target, name: target(&hit.entry) })];
            touched.extend(
                text("/data/owner")
                    .map(|owner| (caller, Node { kind: Thing::Owner, name: owner.to_owned() })),
            );
            let at = text("/at").unwrap_or_default();
            for ends in touched.into_iter().filter(|(_, to)| !to.name.is_empty()) {
                let touch = edges.entry(ends).or_default();
                touch.allowed += u64::from(!refused);
                touch.refused += u64::from(refused);
                touch.findings += u64::from(hit.entry.get("findings").is_some());
                if touch.first.is_empty() || at < touch.first.as_str() {
                    touch.first = at.to_owned();
                }
                if at > touch.last.as_str() {
                    touch.last = at.to_owned();
                }
            }
        }
        Self { edges: edges.into_iter().map(|((from, to), touch)| Edge { from, to, touch }).collect() }
    }

    /// The graph for Graphviz.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph touched {\n  rankdir=LR;\n");
        let mut ids: BTreeMap<&Node, usize> = BTreeMap::new();
        for node in self.edges.iter().flat_map(|edge| [&edge.from, &edge.to]) {
            let next = ids.len();
            if let std::collections::btree_map::Entry::Vacant(free) = ids.entry(node) {
                free.insert(next);
                let shape = match node.kind {
                    Thing::Caller => "ellipse",
                    Thing::Owner => "house",
                    Thing::Target => "box",
                };
                let _ = writeln!(out, "  n{next} [label={}, shape={shape}];", quoted(&node.name));
            }
        }
        for Edge { from, to, touch } in &self.edges {
            let (Some(from), Some(to)) = (ids.get(from), ids.get(to)) else { continue };
            let label = match touch.refused {
                0 => format!("{}", touch.allowed),
                refused => format!("{} and {refused} refused", touch.allowed),
            };
            let colour = if touch.refused > 0 || touch.findings > 0 { ", color=red" } else { "" };
            let _ = writeln!(out, "  n{from} -> n{to} [label={}{colour}];", quoted(&label));
        }
        out.push_str("}\n");
        out
    }
}

/// A name as a string of DOT. Names are of callers and servers: none must end its string or become markup.
fn quoted(name: &str) -> String {
    let mut out = String::from("\"");
    for c in name.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_touched_what_is_counted_and_no_name_breaks_out_of_its_place() {
        let entry = |event: &str, who: &str, tool: &str| json!({"event": event, "at": "2026", "actor": {"id": who}, "target": {"server": "s", "name": tool}});
        let hostile = "x\"]; n9 [URL=\"javascript:1\\";
        let hits: Vec<Hit> = [
            entry("call.intent", "a", "t"),
            entry("call.outcome", "a", "t"),
            entry("call.intent", "a", "t"),
            entry("call.refused", "b", hostile),
            entry("definition.pinned", "b", "t"),
        ]
        .into_iter()
        .zip(0..)
        .map(|(entry, index)| Hit { index, entry })
        .collect();
        let graph = Graph::of(&hits);
        let counts: Vec<(u64, u64)> =
            graph.edges.iter().map(|edge| (edge.touch.allowed, edge.touch.refused)).collect();
        assert_eq!(counts, [(2, 0), (0, 1)]);
        let dot = graph.to_dot();
        assert!(dot.contains(r#"label="s/x\"]; n9 [URL=\"javascript:1\\", shape=box"#), "{dot}");
    }
}
