//! What the servers beside one another call their tools: a definition that speaks of another server's tool, or whose name
//! looks like it, is for a person to judge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Characters of a name below which it is a word like others.
const NAME_MIN: usize = 6;

/// The tools of all servers of one gateway.
#[derive(Debug, Default)]
pub struct Neighbours {
    next: AtomicU64,
    /// Rises whenever a tool is pinned that was not before.
    version: AtomicU64,
    named: Mutex<BTreeMap<u64, Named>>,
}

#[derive(Debug)]
struct Named {
    server: Arc<str>,
    tools: Vec<Arc<str>>,
    /// Those of them that are pinned.
    pinned: BTreeSet<Arc<str>>,
}

/// The place of one catalogue among its neighbours; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    id: u64,
    all: Arc<Neighbours>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

impl Neighbours {
    /// A place for the tools of a server.
    pub(crate) fn seat(self: &Arc<Self>, server: &Arc<str>) -> Seat {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock()
            .insert(id, Named { server: Arc::clone(server), tools: Vec::new(), pinned: BTreeSet::new() });
        Seat { id, all: Arc::clone(self) }
    }

    /// Changes when there is more to judge definitions by.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// What the server calls its tools now, and which of them are pinned.
    pub(crate) fn set(&self, tools: Vec<(Arc<str>, bool)>) {
        if let Some(named) = self.all.lock().get_mut(&self.id) {
            let pinned = tools.iter().filter(|(_, pinned)| *pinned).map(|(name, _)| Arc::clone(name));
            let pinned: BTreeSet<Arc<str>> = pinned.collect();
            // A server that lists other names each time brings nobody else to be judged each time.
            if !pinned.is_subset(&named.pinned) {
                self.all.version.fetch_add(1, Ordering::Release);
            }
            named.pinned.extend(pinned);
            named.tools = tools.into_iter().map(|(name, _)| name).collect();
        }
    }

    /// What other servers call their tools, and this one does not; `own` are its names.
    pub(crate) fn others(&self, own: &BTreeSet<&str>) -> Others {
        self.named_by_others(own, |other| other.tools.iter().collect())
    }

    /// The same of tools that are pinned: what nobody has approved says nothing against what is in use.
    pub(crate) fn pinned_by_others(&self, own: &BTreeSet<&str>) -> Others {
        self.named_by_others(own, |other| other.pinned.iter().collect())
    }

    fn named_by_others(&self, own: &BTreeSet<&str>, of: fn(&Named) -> Vec<&Arc<str>>) -> Others {
        let named = self.all.lock();
        let server = named.get(&self.id).map(|own| Arc::clone(&own.server));
        let tools = named.values().filter(|other| Some(&other.server) != server.as_ref());
        let tools = tools.flat_map(of).filter(|name| !own.contains(&***name));
        let mut others = Others::default();
        for name in tools {
            others.shapes.insert(shape(name));
            if is_telling(name) {
                others.names.insert(Arc::clone(name));
            }
        }
        others
    }
}

/// Names of tools of other servers.
#[derive(Debug, Default)]
pub(crate) struct Others {
    names: BTreeSet<Arc<str>>,
    shapes: BTreeSet<String>,
}

impl Others {
    /// Whether a text speaks of a tool of another server.
    pub(crate) fn are_named_in(&self, text: &str) -> bool {
        let words = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')));
        !self.names.is_empty()
            && words.map(|word| word.trim_matches('.')).any(|word| self.names.contains(word))
    }

    /// Whether a name of its own reads like that of another server's tool and is none: `send_emai1`.
    pub(crate) fn are_imitated_by(&self, name: &str) -> bool {
        is_odd(name) && self.shapes.contains(&shape(name))
    }
}

/// Whether a name is nobody's word: of several words, or longer than one that a sentence would have by chance.
fn is_telling(name: &str) -> bool {
    let parted = name.contains(['_', '-', '.', '/']) || name.chars().skip(1).any(char::is_uppercase);
    parted && name.chars().count() >= NAME_MIN
}

/// Whether there is a digit within a word of it, which stands for a letter.
fn is_odd(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.windows(2).any(|pair| {
        let letter = |byte: u8| byte.is_ascii_alphabetic();
        matches!(pair, [one, other] if (letter(*one) && matches!(other, b'0' | b'1' | b'3' | b'5'))
            || (matches!(one, b'0' | b'1' | b'3' | b'5') && letter(*other)))
    }) || name.contains("rn")
        || name.contains("vv")
}

/// What a name reads like at a glance.
fn shape(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
    let alike = letters.map(|c| match c {
        '0' => 'o',
        '1' | 'i' => 'l',
        '3' => 'e',
        '5' => 's',
        other => other,
    });
    alike.collect::<String>().replace("rn", "m").replace("vv", "w")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_of_others_are_known_as_long_as_they_are_there_and_own_names_are_nobody_elses() {
        let all = Arc::new(Neighbours::default());
        let (mail, notes) = (all.seat(&Arc::from("mail")), all.seat(&Arc::from("notes")));
        mail.set(["send_email", "read", "list_files"].map(|name| (Arc::from(name), false)).into());
        let own: BTreeSet<&str> = ["list_files", "send_emai1", "add"].into();
        let others = notes.others(&own);
        for (text, named) in [
            ("Adds. When send_email is used, set the recipient.", true),
            ("Call `send_email`.", true),
            ("Call list_files first, then read.", false),
            ("resend_email is another", false),
            ("", false),
        ] {
            assert_eq!(others.are_named_in(text), named, "{text}");
        }
        assert!(others.are_imitated_by("send_emai1") && !others.are_imitated_by("list_files"));
        assert!(!mail.others(&["send_email"].into()).are_named_in("send_email"));
        drop(mail);
        assert!(!notes.others(&own).are_named_in("send_email"));
    }

    #[test]
    fn a_name_with_a_sign_for_a_letter_imitates_and_another_way_of_writing_does_not() {
        let all = Arc::new(Neighbours::default());
        let (one, other) = (all.seat(&Arc::from("one")), all.seat(&Arc::from("other")));
        one.set(["send_email", "read_file", "summarize"].map(|name| (Arc::from(name), true)).into());
        for (name, imitates) in [
            ("send_emai1", true),
            ("s3nd_email", true),
            ("read_fi1e", true),
            ("surnmarize", true),
            ("sendEmail", false),
            ("read-file", false),
            ("read_file2", false),
            ("send_sms", false),
        ] {
            assert_eq!(other.others(&[name].into()).are_imitated_by(name), imitates, "{name}");
        }
    }
}
