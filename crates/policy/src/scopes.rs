//! Which OAuth scopes a call needs. Scopes are no permission: policy decides as well, and alone where a caller has no
//! token. Whoever lacks one is told all that the call needs, so that one more consent is enough.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use portcullis_core::{Action, TargetKind};

use crate::Pattern;

/// Scopes that some calls need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// The actions it is about; empty: all.
    pub actions: Vec<Action>,
    /// The things it is about, each by kind and name; empty: all, and calls that name nothing.
    pub items: Vec<(TargetKind, Pattern)>,
    /// The scopes.
    pub scopes: Vec<String>,
}

impl StepUp {
    fn covers(&self, action: Action, item: Option<(TargetKind, &str)>) -> bool {
        let named = |(kind, pattern): &(TargetKind, Pattern)| {
            item.is_some_and(|(of, name)| same(*kind, of) && pattern.matches(name))
        };
        (self.actions.is_empty() || self.actions.contains(&action))
            && (self.items.is_empty() || self.items.iter().any(named))
    }
}

/// A template is a resource that is named by a pattern.
fn same(kind: TargetKind, of: TargetKind) -> bool {
    let plain = |kind| if kind == TargetKind::Template { TargetKind::Resource } else { kind };
    plain(kind) == plain(of)
}

/// The scopes of one server or route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeRules {
    /// What every call needs.
    pub every: Vec<String>,
    /// What some calls need beside.
    pub step_up: Vec<StepUp>,
}

impl ScopeRules {
    /// Adds what a call needs to `needed`. `item` is what it names, whether that exists or not.
    pub fn collect<'r>(
        &'r self,
        action: Action,
        item: Option<(TargetKind, &str)>,
        needed: &mut BTreeSet<&'r str>,
    ) {
        needed.extend(self.every.iter().map(String::as_str));
        let more = self.step_up.iter().filter(|rule| rule.covers(action, item));
        needed.extend(more.flat_map(|rule| rule.scopes.iter().map(String::as_str)));
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString as _, vec};

    use super::*;

    #[test]
    fn a_call_needs_the_scopes_of_every_call_and_of_each_rule_that_is_about_it() {
        let pattern = |text: &str| text.parse::<Pattern>().unwrap();
        let step = |actions: &[Action], items: Vec<(TargetKind, Pattern)>, scope: &str| StepUp {
            actions: actions.into(),
            items,
            scopes: vec![scope.to_string()],
        };
        let rules = ScopeRules {
            every: vec!["mcp".to_string()],
            step_up: vec![
                step(&[], vec![(TargetKind::Tool, pattern("pay*"))], "pay"),
                step(&[Action::CallTool], vec![], "tools"),
                step(&[], vec![(TargetKind::Resource, pattern("file:///secret/*"))], "secret"),
            ],
        };
        for (action, item, expected) in [
            (Action::Connect, None, "mcp"),
            (Action::CallTool, Some((TargetKind::Tool, "echo")), "mcp tools"),
            (Action::CallTool, Some((TargetKind::Tool, "pay-all")), "mcp pay tools"),
            (Action::GetPrompt, Some((TargetKind::Prompt, "pay-all")), "mcp"),
            (Action::ReadResource, Some((TargetKind::Resource, "file:///secret/a")), "mcp secret"),
            (Action::ReadResource, Some((TargetKind::Template, "file:///secret/{a}")), "mcp secret"),
            (Action::ReadResource, Some((TargetKind::Resource, "file:///open/a")), "mcp"),
        ] {
            let mut needed = BTreeSet::new();
            rules.collect(action, item, &mut needed);
            let needed: Vec<_> = needed.into_iter().collect();
            assert_eq!(needed.join(" "), expected, "{action:?} {item:?}");
        }
    }
}
