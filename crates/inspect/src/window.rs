//! The end of what a stream said before, so that a pattern cut across two events is still seen.

use alloc::{
    borrow::Cow,
    boxed::Box,
    collections::VecDeque,
    string::{String, ToString as _},
};

use portcullis_core::Digest;

/// The last bytes of the texts of one stream, by place. Bounded in bytes and in places.
#[derive(Clone, Debug)]
pub struct Window {
    tails: VecDeque<(String, String)>,
    bytes_max: usize,
    /// What names of members said.
    names: Option<Box<Self>>,
}

impl Window {
    /// Bytes kept of each text unless told otherwise.
    pub const BYTES: usize = 256;
    /// Places remembered at once; the longest idle is forgotten first.
    pub const PLACES: usize = 16;
    /// Bytes of a place that is remembered as it is.
    const PLACE_BYTES_MAX: usize = 256;

    /// An empty window that keeps at most `bytes_max` bytes of each text.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { tails: VecDeque::new(), bytes_max, names: None }
    }

    /// The window over the names of members, which stand at the places of their values.
    pub fn names(&mut self) -> &mut Self {
        let bytes_max = self.bytes_max;
        self.names.get_or_insert_with(|| Box::new(Self::new(bytes_max)))
    }

    /// The end of the text before at `place`.
    pub(crate) fn tail(&self, place: &str) -> &str {
        let place = name_of(place);
        self.tails.iter().find(|(known, _)| *known == place).map_or("", |(_, tail)| tail)
    }

    /// As much of the beginning of `text` as a pattern may need that began before it.
    pub(crate) fn start_of<'a>(&self, text: &'a str) -> &'a str {
        let to = text.len().min(self.bytes_max);
        (0..=to).rev().find_map(|end| text.get(..end)).unwrap_or_default()
    }

    /// Remembers the end of the tail at `place` followed by `text`.
    pub(crate) fn push(&mut self, place: &str, text: &str) {
        let place = name_of(place);
        let known = self.tails.iter().position(|(known, _)| *known == place);
        let (place, mut tail) = match known.and_then(|index| self.tails.remove(index)) {
            Some(entry) => entry,
            None => {
                if self.tails.len() >= Self::PLACES {
                    self.tails.pop_front();
                }
                (place.into_owned(), String::new())
            }
        };
        tail.push_str(end_of(text, self.bytes_max));
        let kept = end_of(&tail, self.bytes_max).into();
        self.tails.push_back((place, kept));
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new(Self::BYTES)
    }
}

/// What a place is remembered by: it may be as long as a message, and is remembered as long as its stream.
fn name_of(place: &str) -> Cow<'_, str> {
    if place.len() <= Window::PLACE_BYTES_MAX {
        return Cow::Borrowed(place);
    }
    Cow::Owned(Digest::of(place.as_bytes()).to_string())
}

/// The longest end of `text` of at most `bytes_max` bytes that begins at a character.
fn end_of(text: &str, bytes_max: usize) -> &str {
    let from = text.len().saturating_sub(bytes_max);
    (from..=text.len()).find_map(|start| text.get(start..)).unwrap_or_default()
}
