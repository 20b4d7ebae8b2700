//! Tokens with which callers came, held as long as they may be exchanged: in memory, in bounds, and shown to nobody but the
//! authorization server that the operator declared for that.

use std::{collections::HashMap, sync::Arc};

use portcullis_core::{Caller, Digest, Proof, Secret, Timestamp};
use portcullis_upstream::Behalf;

/// Callers whose tokens are held. Whoever was not seen for longest makes room.
const CALLERS_MAX: usize = 10_000;
/// Tokens of one caller; the one that was not seen for longest makes room.
const TOKENS_MAX: usize = 8;
/// How long a token is held after it was seen last.
const HELD_MS: u64 = 3_600_000;

/// A token with which a caller came, and which was judged valid.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Who issued it.
    pub(crate) issuer: String,
    /// SHA-256 of it.
    pub(crate) digest: Digest,
    pub(crate) token: Secret<String>,
    pub(crate) expires: Option<Timestamp>,
    /// What it allows, and who acts with it.
    authority: Digest,
    seen: Timestamp,
}

/// Why there is no token to exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The caller came without one, or it is over.
    None,
    /// It came with several that do not allow the same, and nothing says which of them is meant.
    Several,
}

/// Tokens with which callers came.
#[derive(Debug, Default)]
pub(crate) struct Presented(HashMap<Arc<str>, Vec<Held>>);

/// Everything of a caller that tells one token's worth from another's.
fn authority(caller: &Caller, issuer: &str) -> Digest {
    let said =
        format!("{issuer:?}{:?}{:?}{:?}{:?}", caller.scopes, caller.actors, caller.roles, caller.claims);
    Digest::of(said.as_bytes())
}

impl Presented {
    /// Notes that a caller came with that token, which was judged valid.
    pub(crate) fn note(&mut self, caller: &Caller, token: &str, now: Timestamp) {
        let (Proof::Jwt { issuer, token: digest } | Proof::Introspected { issuer, token: digest }) =
            &caller.proof
        else {
            return;
        };
        if !self.0.contains_key(&caller.id) && self.0.len() >= CALLERS_MAX {
            self.make_room(now);
        }
        let own = self.0.entry(Arc::clone(&caller.id)).or_default();
        if let Some(held) = own.iter_mut().find(|held| held.digest == *digest) {
            held.seen = now;
            return;
        }
        own.retain(|held| is_live(held, now));
        let oldest = own.iter().enumerate().min_by_key(|(_, held)| held.seen).map(|(at, _)| at);
        if let Some(oldest) = oldest.filter(|_| own.len() >= TOKENS_MAX) {
            own.swap_remove(oldest);
        }
        own.push(Held {
            issuer: issuer.clone(),
            digest: *digest,
            token: Secret::new(token.to_owned()),
            expires: caller.expires,
            authority: authority(caller, issuer),
            seen: now,
        });
    }

    /// The token of whoever a request is made for. Where the request does not say which, it is the one that was seen last,
    /// if all of them allow the same.
    pub(crate) fn find(&self, behalf: &Behalf, now: Timestamp) -> Result<Held, Missing> {
        let own = self.0.get(&*behalf.caller).ok_or(Missing::None)?;
        let mut live = own.iter().filter(|held| is_live(held, now));
        if let Some(digest) = behalf.token {
            return live.find(|held| held.digest == digest).cloned().ok_or(Missing::None);
        }
        let newest = live.clone().max_by_key(|held| held.seen).ok_or(Missing::None)?;
        if live.all(|held| held.authority == newest.authority) {
            Ok(newest.clone())
        } else {
            Err(Missing::Several)
        }
    }

    fn make_room(&mut self, now: Timestamp) {
        self.0.retain(|_, own| {
            own.retain(|held| is_live(held, now));
            !own.is_empty()
        });
        let seen = |own: &Vec<Held>| own.iter().map(|held| held.seen).max();
        let oldest = self.0.iter().min_by_key(|(_, own)| seen(own)).map(|(caller, _)| Arc::clone(caller));
        if let Some(oldest) = oldest.filter(|_| self.0.len() >= CALLERS_MAX) {
            self.0.remove(&oldest);
        }
    }
}

fn is_live(held: &Held, now: Timestamp) -> bool {
    now < held.seen.plus_ms(HELD_MS) && held.expires.is_none_or(|expires| now < expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(id: &str, token: &str, scopes: &[&str], expires: Option<u64>) -> Caller {
        Caller {
            id: id.into(),
            proof: Proof::Jwt { issuer: "https://i.example".into(), token: Digest::of(token.as_bytes()) },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            expires: expires.map(Timestamp),
            ..Caller::anonymous(Arc::from([]))
        }
    }

    fn found(presented: &Presented, id: &str, token: Option<&str>, now: u64) -> Result<String, Missing> {
        let token = token.map(|token| Digest::of(token.as_bytes()));
        let held = presented.find(&Behalf { caller: id.into(), token }, Timestamp(now))?;
        Ok(held.token.expose().clone())
    }

    #[test]
    fn a_token_is_found_for_its_caller_alone_and_for_as_long_as_it_counts() {
        let mut presented = Presented::default();
        presented.note(&caller("alice", "a", &["x"], Some(100)), "a", Timestamp(1));
        presented.note(&caller("bob", "b", &["x"], None), "b", Timestamp(1));
        assert_eq!(found(&presented, "alice", Some("a"), 99), Ok("a".into()));
        assert_eq!(found(&presented, "alice", None, 99), Ok("a".into()));
        assert_eq!(found(&presented, "alice", Some("b"), 99), Err(Missing::None));
        assert_eq!(found(&presented, "alice", Some("a"), 100), Err(Missing::None));
        assert_eq!(found(&presented, "bob", None, HELD_MS), Ok("b".into()));
        assert_eq!(found(&presented, "bob", None, HELD_MS + 1), Err(Missing::None));
        assert_eq!(found(&presented, "carol", None, 2), Err(Missing::None));
        presented.note(&Caller::anonymous(Arc::from([])), "c", Timestamp(1));
        assert_eq!(found(&presented, "anonymous", None, 2), Err(Missing::None));
        assert!(!format!("{presented:?}").contains("\"a\""), "{presented:?}");
    }

    #[test]
    fn of_tokens_that_allow_different_things_none_is_taken_for_another() {
        let mut presented = Presented::default();
        presented.note(&caller("alice", "old", &["x"], None), "old", Timestamp(1));
        presented.note(&caller("alice", "new", &["x"], None), "new", Timestamp(2));
        assert_eq!(found(&presented, "alice", None, 3), Ok("new".into()), "renewed by its client");
        presented.note(&caller("alice", "narrow", &[], None), "narrow", Timestamp(3));
        assert_eq!(found(&presented, "alice", None, 4), Err(Missing::Several));
        assert_eq!(found(&presented, "alice", Some("narrow"), 4), Ok("narrow".into()));
    }

    #[test]
    fn neither_many_callers_nor_many_tokens_of_one_take_all_memory() {
        let mut presented = Presented::default();
        for at in 0..CALLERS_MAX as u64 + 10 {
            let (id, token) = (format!("c{at}"), format!("t{at}"));
            presented.note(&caller(&id, &token, &[], None), &token, Timestamp(at));
            presented.note(&caller("one", &token, &[], None), &token, Timestamp(at));
        }
        assert_eq!(presented.0.len(), CALLERS_MAX);
        assert_eq!(presented.0["one"].len(), TOKENS_MAX);
        assert_eq!(found(&presented, "c0", None, 1), Err(Missing::None), "who was seen last stays");
        let last = format!("t{}", CALLERS_MAX + 9);
        assert_eq!(found(&presented, "one", Some(&last), 1), Ok(last.clone()));
    }
}
