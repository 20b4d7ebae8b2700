//! Several servers behind one route: `/mcp` and the virtual servers. What is exposed, under which names, in which
//! order, and where a name leads. Who may see or call it is decided per caller and per real server, by the stages.

mod face;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use portcullis_catalog::Catalog;
use portcullis_connect::cursor::Cursors;
use portcullis_core::TargetKind;
pub use portcullis_mcp::alias::ROOT;
use portcullis_mcp::alias::{Prefix, split, split_uri};
use portcullis_policy::Pattern;

pub use self::face::{Exposed, Face};

/// What of a server is exposed: names, or URIs and URI templates, that fit any of the patterns of their kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Tools.
    pub tools: Vec<Pattern>,
    /// Prompts.
    pub prompts: Vec<Pattern>,
    /// Resources and templates.
    pub resources: Vec<Pattern>,
}

impl Selection {
    /// Whether the thing of that kind and name is exposed.
    #[must_use]
    pub fn holds(&self, kind: TargetKind, name: &str) -> bool {
        self.patterns(kind).iter().any(|pattern| pattern.matches(name))
    }

    /// Whether anything of that kind can be exposed.
    #[must_use]
    pub fn any(&self, kind: TargetKind) -> bool {
        !self.patterns(kind).is_empty()
    }

    fn patterns(&self, kind: TargetKind) -> &[Pattern] {
        match kind {
            TargetKind::Prompt => &self.prompts,
            TargetKind::Resource | TargetKind::Template => &self.resources,
            TargetKind::Tool => &self.tools,
        }
    }
}

/// One server of a group.
#[derive(Debug)]
pub struct Member {
    /// The server's configured name.
    pub server: Arc<str>,
    /// What its things are exposed under.
    pub prefix: Prefix,
    /// Which of them.
    pub selection: Selection,
    face: ArcSwapOption<Face>,
    /// Held by the one task that asks the server again.
    pub asking: Arc<tokio::sync::Mutex<()>>,
    down: AtomicBool,
}

impl Member {
    /// A server under a prefix.
    #[must_use]
    pub fn new(server: Arc<str>, prefix: Prefix, selection: Selection) -> Self {
        Self {
            server,
            prefix,
            selection,
            face: ArcSwapOption::empty(),
            asking: Arc::default(),
            down: AtomicBool::new(false),
        }
    }

    /// What it exposes now. Made once per state of its catalogue and shared by all callers; nothing in it depends on
    /// who asks.
    #[must_use]
    pub fn face(&self, catalog: &Catalog, name_bytes_max: usize) -> Arc<Face> {
        let state = catalog.state();
        if let Some(face) = self.face.load_full().filter(|face| face.shows(&state)) {
            return face;
        }
        let face = Arc::new(Face::new(self, state, name_bytes_max));
        self.face.store(Some(Arc::clone(&face)));
        face
    }

    /// Whether the server could not be asked the last time.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Notes whether the server could be asked; true when that is news.
    pub fn reports(&self, down: bool) -> bool {
        self.down.swap(down, Ordering::AcqRel) != down
    }
}

/// How much a group shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries on one page of a list.
    pub page_size: usize,
    /// Bytes of an exposed name.
    pub name_bytes_max: usize,
    /// How long a list waits for a server that has to be asked again.
    pub member_timeout_ms: u64,
}

/// Several servers behind one route.
#[derive(Debug)]
pub struct Group {
    /// What the route offers, for clients.
    pub description: Option<String>,
    /// How much it shows.
    pub bounds: Bounds,
    /// Seals positions in its lists.
    pub cursors: Cursors,
    members: Vec<Member>,
}

impl Group {
    /// A group of `members`, which it sorts by the names of their servers: lists have one order, whoever asks.
    #[must_use]
    pub fn new(
        description: Option<String>,
        bounds: Bounds,
        cursors: Cursors,
        mut members: Vec<Member>,
    ) -> Self {
        members.sort_by(|one, other| one.server.cmp(&other.server));
        Self { description, bounds, cursors, members }
    }

    /// Its servers, in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with that prefix.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.prefix.as_str() == prefix)
    }

    /// The member that an exposed name or URI leads to, and what is left of it: a URI of its own, or the exposed name
    /// that [`Face::own_name`] knows.
    #[must_use]
    pub fn leads_to(&self, kind: TargetKind, exposed: &str) -> Option<(&Member, String)> {
        match kind {
            TargetKind::Prompt | TargetKind::Tool => {
                let (prefix, _) = split(exposed)?;
                Some((self.with_prefix(prefix)?, exposed.to_owned()))
            }
            TargetKind::Resource | TargetKind::Template => {
                let (prefix, own) = split_uri(exposed)?;
                Some((self.with_prefix(prefix)?, own))
            }
        }
    }
}
