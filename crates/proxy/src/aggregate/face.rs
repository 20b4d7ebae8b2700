//! What one server of a group exposes: its pinned definitions under exposed names, rewritten once per state of its
//! catalogue.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use portcullis_catalog::{Item, State};
use portcullis_core::TargetKind;
use portcullis_mcp::alias::split;

use super::Member;

/// One definition as clients see it.
#[derive(Debug)]
pub struct Exposed {
    /// The server's own name for it, about which policy decides.
    pub name: Arc<str>,
    /// Its place in the server's list.
    pub place: usize,
    /// The definition under its exposed name.
    pub bytes: Bytes,
}

/// What a server exposes at one state of its catalogue.
#[derive(Debug)]
pub struct Face {
    state: Arc<State>,
    lists: [Vec<Exposed>; TargetKind::ALL.len()],
    /// The server's own names behind exposed ones that had to lose something.
    shortened: HashMap<(TargetKind, String), Arc<str>>,
}

impl Face {
    pub(super) fn new(member: &Member, state: Arc<State>, name_bytes_max: usize) -> Self {
        let mut face =
            Self { state: Arc::clone(&state), lists: Default::default(), shortened: HashMap::new() };
        for kind in TargetKind::ALL {
            let exposed = |name: &str| match kind {
                TargetKind::Prompt | TargetKind::Tool => member.prefix.expose_name(name, name_bytes_max),
                TargetKind::Resource | TargetKind::Template => member.prefix.expose_uri(name),
            };
            let of_member = || {
                let all = state.list(*kind).enumerate();
                all.filter(|(_, item)| member.selection.holds(*kind, &item.name))
            };
            // A tool that is really called so comes before one whose shortened name looks like it.
            let mut taken: HashSet<String> = of_member()
                .map(|(_, item)| (exposed(&item.name), item))
                .filter(|(exposed, item)| !is_shortened(*kind, exposed, &item.name))
                .map(|(exposed, _)| exposed)
                .collect();
            for (place, item) in of_member() {
                let exposed = exposed(&item.name);
                if is_shortened(*kind, &exposed, &item.name) {
                    if !taken.insert(exposed.clone()) {
                        tracing::warn!(server = %member.server, name = &*item.name, exposed, "not exposed: another one has the name");
                        continue;
                    }
                    face.shortened.insert((*kind, exposed.clone()), Arc::clone(&item.name));
                }
                face.show(member, place, item, &exposed);
            }
        }
        face
    }

    fn show(&mut self, member: &Member, place: usize, item: &Item, exposed: &str) {
        let bytes = member.prefix.definition(item.kind, &item.raw, exposed).filter(|_| item.listed());
        let (Some(bytes), Some(list)) = (bytes, self.lists.get_mut(item.kind as usize)) else { return };
        list.push(Exposed { name: Arc::clone(&item.name), place, bytes });
    }

    /// The state that it was made of.
    #[must_use]
    pub const fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Whether it was made of that state.
    #[must_use]
    pub(super) fn shows(&self, state: &Arc<State>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }

    /// What lists of a kind may show, in the server's order.
    #[must_use]
    pub fn list(&self, kind: TargetKind) -> &[Exposed] {
        self.lists.get(kind as usize).map_or(&[], Vec::as_slice)
    }

    /// The server's own name of an exposed tool or prompt. A name that is not known is handed on without its prefix:
    /// the server may have it since.
    #[must_use]
    pub fn own_name(&self, kind: TargetKind, exposed: &str) -> String {
        let rest = split(exposed).map_or(exposed, |(_, rest)| rest);
        // A tool that is really called so comes before one whose shortened name looks like it.
        if self.state.find(kind, rest).is_some() {
            return rest.to_owned();
        }
        let known = self.shortened.get(&(kind, exposed.to_owned()));
        known.map_or_else(|| rest.to_owned(), |own| own.to_string())
    }
}

/// Whether the exposed name is not just the own one behind the prefix.
fn is_shortened(kind: TargetKind, exposed: &str, own: &str) -> bool {
    matches!(kind, TargetKind::Prompt | TargetKind::Tool)
        && split(exposed).is_none_or(|(_, rest)| rest != own)
}
