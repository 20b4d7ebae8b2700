//! What a model reads one after the other is looked at as one text as well: a pattern may be cut at the border of two pieces
//! of content.

use std::{collections::BTreeMap, ops::Range};

use portcullis_core::Direction;
use portcullis_inspect::{Budget, Inspector, Match, Role, Subject, Window};
use portcullis_mcp::{
    answer::{self, Place},
    json::{View, quote},
    jsonrpc::Message,
};

/// What was found, by the place of the piece.
pub(crate) type Found = BTreeMap<String, Vec<Match>>;

/// Bytes of a piece before and behind a border that are read with it.
const REACH: usize = Window::BYTES;

/// A part of a piece of content.
struct Part<'a> {
    place: &'a str,
    text: &'a str,
    /// Where it begins in the piece.
    start: usize,
}

/// Parts of pieces that follow one another, as one text.
struct Run<'a> {
    text: String,
    parts: Vec<(&'a Part<'a>, Range<usize>)>,
    /// Whether more stands before it and behind it, in the same piece.
    cut: [bool; 2],
}

impl<'a> Run<'a> {
    /// With nothing between two parts, or with a line break where two words would become one.
    fn of(parts: &'a [Part<'a>], cut: [bool; 2], broken: bool) -> Self {
        let mut run = Self { text: String::new(), parts: Vec::with_capacity(parts.len()), cut };
        for part in parts {
            if broken && binds(&run.text, part.text) {
                run.text.push('\n');
            }
            let start = run.text.len();
            run.text.push_str(part.text);
            run.parts.push((part, start..run.text.len()));
        }
        run
    }

    /// What is seen in it, to each piece that it lies in. The first one bears what takes the place of the whole.
    fn look(&self, inspector: &Inspector, budget: &mut Budget, found: &mut Found) {
        let raw = quote(&self.text);
        if !inspector.quick(Direction::Outward, raw.as_bytes(), raw.contains("\\u")) {
            return;
        }
        let subject = Subject { role: Role::Answer, place: "", text: &self.text };
        let mut matches = Vec::new();
        inspector.scan_within(&subject, budget, &mut matches);
        let [before, behind] = self.cut;
        // What touches an end where the text goes on may be the half of something.
        let half =
            |one: &Match| (before && one.range.start == 0) || (behind && one.range.end == self.text.len());
        matches.retain(|one| !half(one));
        for one in matches {
            let over = |range: &Range<usize>| range.start < one.range.end && one.range.start < range.end;
            let mut first = true;
            for (part, range) in self.parts.iter().filter(|(_, range)| over(range)) {
                let mut own = one.clone();
                let within = |at: usize| at.clamp(range.start, range.end) - range.start + part.start;
                own.range = within(one.range.start)..within(one.range.end);
                part.place.clone_into(&mut own.finding.place);
                if !std::mem::take(&mut first) {
                    own.replacement.clear();
                }
                let known = found.entry(part.place.to_owned()).or_default();
                if !known.iter().any(|known| is_same(known, &own)) {
                    known.push(own);
                }
            }
        }
    }
}

/// What is seen in the pieces of content of a message of a server when they are read as one text. A model may read two
/// pieces with nothing between them or on two lines.
pub(crate) fn found(
    inspector: &Inspector,
    direction: Direction,
    message: &Message,
    budget: &mut Budget,
) -> Found {
    let mut found = Found::new();
    if direction == Direction::Inward {
        return found;
    }
    for (place, list) in lists(message) {
        let mut pieces = Vec::new();
        answer::leaves(list, place, |place, kind, leaf| {
            let text = leaf.as_str().filter(|_| kind == Place::Value && place.ends_with("/text"));
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                pieces.push((place.to_owned(), text.into_owned()));
            }
        });
        for (parts, cut) in runs(&pieces).iter().filter(|(parts, _)| parts.len() > 1) {
            Run::of(parts, *cut, false).look(inspector, budget, &mut found);
            if parts.windows(2).any(|pair| matches!(pair, [one, other] if binds(one.text, other.text))) {
                Run::of(parts, *cut, true).look(inspector, budget, &mut found);
            }
        }
    }
    found
}

/// Lists of several things that a model reads, each with its place.
fn lists(message: &Message) -> Vec<(&'static str, View<'_>)> {
    let mut lists = Vec::new();
    for (name, value) in message.root().members() {
        if name == "params" {
            lists.extend(value.get("messages").map(|list| ("/params/messages", list)));
        }
        for (name, value) in value.members().filter(|_| name == "result") {
            match &*name {
                "content" => lists.push(("/result/content", value)),
                "contents" => lists.push(("/result/contents", value)),
                "messages" => lists.push(("/result/messages", value)),
                "result" => lists.extend(value.get("content").map(|list| ("/result/result/content", list))),
                _ => {}
            }
        }
    }
    lists.retain(|(_, list)| list.elements().nth(1).is_some());
    lists
}

/// Pieces that are short as they are; of long ones the end, with what follows, and the beginning, with what stands before.
fn runs(pieces: &[(String, String)]) -> Vec<(Vec<Part<'_>>, [bool; 2])> {
    let mut runs = Vec::from([(Vec::new(), [false, false])]);
    for (place, text) in pieces {
        let short = text.len() <= 2 * REACH;
        let head = text.floor_char_boundary(if short { text.len() } else { REACH });
        if let Some((parts, [_, behind])) = runs.last_mut() {
            parts.push(Part { place, text: text.get(..head).unwrap_or_default(), start: 0 });
            *behind = !short;
        }
        if !short {
            let start = text.ceil_char_boundary(text.len() - REACH);
            let tail = Part { place, text: text.get(start..).unwrap_or_default(), start };
            runs.push((Vec::from([tail]), [true, false]));
        }
    }
    runs
}

/// Whether two texts would make one word.
fn binds(one: &str, other: &str) -> bool {
    let ends = one.chars().next_back().is_some_and(char::is_alphanumeric);
    ends && other.chars().next().is_some_and(char::is_alphanumeric)
}

/// Whether two sightings of the same detector overlap.
pub(crate) fn is_same(one: &Match, other: &Match) -> bool {
    one.finding.kind == other.finding.kind
        && one.range.start < other.range.end
        && other.range.start < one.range.end
}
