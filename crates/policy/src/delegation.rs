//! Those who act for others: what they may do is what the other may do and they may do as well.

use alloc::{collections::BTreeSet, format, string::String, sync::Arc, vec::Vec};

use portcullis_core::{Caller, CallerKind, Code};

use crate::{Decision, Policies, Verdict, permit::refused};

impl Policies {
    /// Who answers for the program that is asking: the nearest actor, or the caller itself.
    #[must_use]
    pub fn owner(&self, caller: &Caller) -> Option<&str> {
        let id = caller.actors.first().map_or(&*caller.id, String::as_str);
        self.agents.get(id).map(|agent| agent.owner.as_str())
    }

    /// Each actor as a caller of its own; or the first that nobody declared.
    pub(crate) fn actors(&self, caller: &Caller) -> Result<Vec<Caller>, String> {
        let one = |id: &String| {
            let agent = self.agents.get(id).ok_or_else(|| id.clone())?;
            let roles: BTreeSet<String> = agent.roles.iter().cloned().collect();
            Ok(Caller {
                id: id.as_str().into(),
                kind: CallerKind::Service,
                roles: roles.into_iter().collect::<Vec<_>>().into(),
                ..caller.clone()
            })
        };
        caller.actors.iter().map(one).collect()
    }

    /// `decision` about the caller, narrowed by what `ask` says about each actor. It never becomes a yes.
    pub(crate) fn narrowed(
        &self,
        caller: &Caller,
        decision: Arc<Decision>,
        ask: impl Fn(&Caller) -> Arc<Decision>,
    ) -> Arc<Decision> {
        if caller.actors.is_empty() || !decision.is_allowed() {
            return decision;
        }
        let actors = match self.actors(caller) {
            Ok(actors) => actors,
            Err(id) => {
                let reason = format!("`{id}` acts for `{}` and is not among `agents`", caller.id);
                return Arc::new(refused(Code::PolicyDenied, Vec::new(), reason));
            }
        };
        let mut out = Decision::clone(&decision);
        for actor in &actors {
            let other = ask(actor);
            if let Some(code) = other.code {
                let reason =
                    format!("`{}`, who acts for `{}`, may not: {}", actor.id, caller.id, other.reason);
                return Arc::new(refused(code, other.policies.to_vec(), reason));
            }
            let policies: BTreeSet<&String> = out.policies.iter().chain(&*other.policies).collect();
            let policies: Vec<String> = policies.into_iter().cloned().collect();
            Arc::make_mut(&mut out.obligations).narrow(&other.obligations);
            out.policies = policies.into();
        }
        Arc::new(out)
    }

    /// As [`Self::narrowed`], where not all is known.
    pub(crate) fn narrowed_verdict(
        &self,
        caller: &Caller,
        verdict: Verdict,
        ask: impl Fn(&Caller) -> Verdict,
    ) -> Verdict {
        if caller.actors.is_empty() {
            return verdict;
        }
        let Ok(actors) = self.actors(caller) else { return Verdict::Deny };
        actors.iter().fold(verdict, |verdict, actor| match (verdict, ask(actor)) {
            (Verdict::Deny, _) | (_, Verdict::Deny) => Verdict::Deny,
            (Verdict::Allow, other) | (other, Verdict::Allow) => other,
            (Verdict::Approval, other) | (other, Verdict::Approval) => other,
            (Verdict::Depends(mut one), Verdict::Depends(other)) => {
                one.extend(other);
                one.sort();
                one.dedup();
                Verdict::Depends(one)
            }
        })
    }
}
