//! What exactly is approved, as a digest: whatever of it changes makes it another call.

use std::borrow::Cow;

use portcullis_core::{Approval, Caller, Digest, Target};

/// Members of a call's parameters that are no part of what is approved: progress tokens and trace ids are new each time.
const APART: &str = "_meta";
/// Members that a client adds when the server asked it something (2026-07-28, multi round-trip requests).
const LATER: [&str; 2] = ["inputResponses", "requestState"];

/// What is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Everything: caller, target with its definition, policy, what it asks for, message.
    pub call: Digest,
    /// The same without what later rounds of a call add.
    pub first: Digest,
    /// What this round was asked for with, where it is a later one.
    pub round: Option<Digest>,
}

impl Binding {
    /// Of a call by `caller` of `target` under `policy`, which makes this `demand`, with these parameters as they are sent;
    /// `state` is their `requestState`, decoded.
    #[must_use]
    pub fn of(
        caller: &Caller,
        target: &Target,
        (policy, demand): (Digest, &Approval),
        params: &[(Cow<'_, str>, &[u8])],
        state: Option<&str>,
    ) -> Self {
        let mut params: Vec<_> = params.iter().filter(|(name, _)| name != APART).collect();
        params.sort();
        let later = |name: &str| LATER.contains(&name);
        let definition = target.digest.map(|digest| digest.0.to_vec()).unwrap_or_default();
        let mut head = head("portcullis approval 1", caller, target);
        head.extend([definition, policy.0.to_vec()].into_iter().chain(demanded(demand)));
        let of = |all: bool| {
            let members = params.iter().filter(|(name, _)| all || !later(name));
            let members = members.flat_map(|(name, raw)| [name.as_bytes().to_vec(), raw.to_vec()]);
            digest(head.iter().cloned().chain(members))
        };
        let asked = params.iter().any(|(name, _)| later(name));
        Self { call: of(true), first: of(false), round: asked.then(|| round(state)) }
    }
}

impl Binding {
    /// Of the answer to a call. It waits for whoever made that call, whatever changed of the rules since: made again, the call
    /// is judged by those of then, and must not be made a second time for having waited.
    pub fn of_answer(caller: &Caller, target: &Target, params: &[(Cow<'_, str>, &[u8])]) -> Self {
        let mut params: Vec<_> = params.iter().filter(|(name, _)| name != APART).collect();
        params.sort();
        let members = params.iter().flat_map(|(name, raw)| [name.as_bytes().to_vec(), raw.to_vec()]);
        let call = digest(head("portcullis answer 1", caller, target).into_iter().chain(members));
        Self { call, first: call, round: None }
    }
}

fn head(as_what: &str, caller: &Caller, target: &Target) -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    let (kind, name) = target.item.as_ref().map_or(("", ""), |(kind, name)| (kind.name(), name));
    let actors = caller.actors.iter().map(|actor| text(actor));
    [text(as_what), text(&caller.id), (caller.actors.len() as u64).to_be_bytes().to_vec()]
        .into_iter()
        .chain(actors)
        .chain([text(&target.server), text(kind), text(name)])
        .collect()
}

/// The same policy may ask for more at another time, as of a session that has seen more: what fewer said yes to is not
/// what more were to be asked.
fn demanded(Approval { people, roles, expires_s, by_caller }: &Approval) -> Vec<Vec<u8>> {
    let mut out = vec![vec![*people, u8::from(*by_caller)], expires_s.to_be_bytes().to_vec()];
    for any in roles {
        out.push((any.len() as u64).to_be_bytes().to_vec());
        out.extend(any.iter().map(|role| role.as_bytes().to_vec()));
    }
    out
}

/// Each part with its length before it, so that none can run into the next.
fn digest(parts: impl Iterator<Item = Vec<u8>>) -> Digest {
    let parts: Vec<Vec<u8>> =
        parts.flat_map(|part| [(part.len() as u64).to_be_bytes().to_vec(), part]).collect();
    Digest::of_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// What a round is known by: the state that the server wants back, or that it wants none.
#[must_use]
pub fn round(state: Option<&str>) -> Digest {
    state.map_or_else(|| Digest::of(b"none"), |state| Digest::of_parts(&[b"state\0", state.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use portcullis_core::TargetKind;

    use super::*;

    type Params<'a> = Vec<(Cow<'a, str>, &'a [u8])>;

    fn demand() -> Approval {
        let roles = BTreeSet::from([BTreeSet::from(["lead".to_owned()])]);
        Approval { people: 1, roles, expires_s: 60, by_caller: false }
    }

    fn world() -> (Caller, Target, Digest, Params<'static>) {
        let caller = Caller::local("a", 1, Arc::from([]));
        let item = Some((TargetKind::Tool, Arc::from("send")));
        let target = Target { server: "s".into(), item, digest: Some(Digest::of(b"definition")) };
        let params: Params<'static> =
            vec![("name".into(), br#""send""#), ("arguments".into(), br#"{"to":"x"}"#)];
        (caller, target, Digest::of(b"policy"), params)
    }

    #[test]
    fn whatever_of_a_call_changes_makes_it_another_call_and_what_is_new_each_time_does_not() {
        let (caller, target, policy, params) = world();
        let same = Binding::of(&caller, &target, (policy, &demand()), &params, None);
        let mut turned = params.clone();
        turned.reverse();
        turned.push(("_meta".into(), br#"{"progressToken":7}"#));
        assert_eq!(Binding::of(&caller, &target, (policy, &demand()), &turned, None), same);

        let other_caller = Caller { id: "local:b".into(), ..caller.clone() };
        let for_another = Caller { actors: Arc::from(["client:x".to_owned()]), ..caller.clone() };
        let other_server = Target { server: "t".into(), ..target.clone() };
        let other_tool = Target { item: Some((TargetKind::Tool, "wipe".into())), ..target.clone() };
        let other_kind = Target { item: Some((TargetKind::Prompt, "send".into())), ..target.clone() };
        let other_definition = Target { digest: Some(Digest::of(b"another")), ..target.clone() };
        let (mut arguments, mut more) = (params.clone(), params.clone());
        arguments[1].1 = br#"{"to":"y"}"#;
        more.push(("task".into(), b"{}"));
        let more_people = Approval { people: 2, ..demand() };
        let others_too =
            Approval { roles: BTreeSet::from([BTreeSet::from(["boss".to_owned()])]), ..demand() };
        let both = demand().and(&others_too);
        let others = [
            Binding::of(&caller, &target, (policy, &more_people), &params, None),
            Binding::of(&caller, &target, (policy, &others_too), &params, None),
            Binding::of(&caller, &target, (policy, &both), &params, None),
            Binding::of(&other_caller, &target, (policy, &demand()), &params, None),
            Binding::of(&for_another, &target, (policy, &demand()), &params, None),
            Binding::of(&caller, &other_server, (policy, &demand()), &params, None),
            Binding::of(&caller, &other_tool, (policy, &demand()), &params, None),
            Binding::of(&caller, &other_kind, (policy, &demand()), &params, None),
            Binding::of(&caller, &other_definition, (policy, &demand()), &params, None),
            Binding::of(&caller, &target, (Digest::of(b"p"), &demand()), &params, None),
            Binding::of(&caller, &target, (policy, &demand()), &arguments, None),
            Binding::of(&caller, &target, (policy, &demand()), &more, None),
        ];
        for (index, other) in others.iter().enumerate() {
            assert!(other.call != same.call && other.first != same.first, "{index}");
            assert!(others.iter().filter(|one| one.call == other.call).count() == 1, "{index}");
        }
    }

    #[test]
    fn an_answer_waits_for_its_caller_target_and_parameters_whatever_the_rules_are() {
        let (caller, target, policy, params) = world();
        let same = Binding::of_answer(&caller, &target, &params);
        assert_ne!(same.call, Binding::of(&caller, &target, (policy, &demand()), &params, None).call);
        let redefined = Target { digest: Some(Digest::of(b"another")), ..target.clone() };
        assert_eq!(Binding::of_answer(&caller, &redefined, &params), same);
        let other_caller = Caller { id: "local:b".into(), ..caller.clone() };
        let other_tool = Target { item: Some((TargetKind::Tool, "wipe".into())), ..target.clone() };
        let mut arguments = params.clone();
        arguments[1].1 = br#"{"to":"y"}"#;
        for other in [
            Binding::of_answer(&other_caller, &target, &params),
            Binding::of_answer(&caller, &other_tool, &params),
            Binding::of_answer(&caller, &target, &arguments),
        ] {
            assert_ne!(other.call, same.call);
        }
    }

    #[test]
    fn a_later_round_is_another_call_that_knows_its_first_round() {
        let (caller, target, policy, mut params) = world();
        let first = Binding::of(&caller, &target, (policy, &demand()), &params, None);
        assert_eq!((first.round, first.call), (None, first.first));
        params.push(("requestState".into(), br#""\u0061""#));
        let later = Binding::of(&caller, &target, (policy, &demand()), &params, Some("a"));
        assert!(later.call != first.call && later.first == first.first);
        assert_eq!(later.round, Some(round(Some("a"))));
        assert_ne!(round(Some("")), round(None));
    }
}
