//! The one strict pass over a JSON text. No recursion: open containers live on an explicit, bounded stack.

use alloc::vec::Vec;
use core::ops::Range;

use super::{
    JsonError, JsonLimits, Stats,
    names::{Mark, Names},
    text,
};

/// Proves that `bytes` is one JSON text (RFC 8259) in UTF-8 within `limits`, without duplicate member names at any
/// depth and without lone surrogates.
///
/// # Errors
/// The first thing that is wrong, with its offset.
pub fn check(bytes: &[u8], limits: &JsonLimits) -> Result<Stats, JsonError> {
    let mut scan = Scan::new(bytes, limits, false)?;
    scan.run()?;
    Ok(scan.stats)
}

/// A member of the outermost object: spans of its name, quotes included, and of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Like [`check`], and notes the members of the outermost object, so that an envelope is found without a second
/// pass over what it carries.
pub(crate) fn check_members(bytes: &[u8], limits: &JsonLimits) -> Result<(Stats, Vec<Member>), JsonError> {
    let mut scan = Scan::new(bytes, limits, true)?;
    scan.run()?;
    Ok((scan.stats, scan.members))
}

/// An open container; objects remember where their names start.
#[derive(Clone, Copy)]
enum Frame {
    Array,
    Object(Mark),
}

struct Scan<'a> {
    doc: &'a [u8],
    at: usize,
    limits: &'a JsonLimits,
    stats: Stats,
    frames: Vec<Frame>,
    names: Names<'a>,
    wants_members: bool,
    members: Vec<Member>,
}

/// Whether a value is complete or a container was opened and wants its first element or member.
#[derive(PartialEq)]
enum Step {
    Complete,
    Opened,
}

impl<'a> Scan<'a> {
    fn new(doc: &'a [u8], limits: &'a JsonLimits, wants_members: bool) -> Result<Self, JsonError> {
        if doc.len() > limits.bytes_max {
            return Err(JsonError::Size { offset: limits.bytes_max, max: limits.bytes_max });
        }
        if doc.starts_with(b"\xef\xbb\xbf") {
            return Err(JsonError::ByteOrderMark { offset: 0 });
        }
        let non_ascii = !doc.is_ascii();
        if non_ascii && let Err(error) = core::str::from_utf8(doc) {
            return Err(JsonError::Utf8 { offset: error.valid_up_to() });
        }
        Ok(Self {
            doc,
            at: 0,
            limits,
            stats: Stats { non_ascii, ..Stats::default() },
            frames: Vec::with_capacity(16),
            names: Names::new(doc),
            wants_members,
            members: Vec::with_capacity(if wants_members { 6 } else { 0 }),
        })
    }

    fn run(&mut self) -> Result<(), JsonError> {
        loop {
            self.space();
            if self.value()? == Step::Opened {
                continue;
            }
            if self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Behind a complete value: closes containers until another value is due. True at the end of the text.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        loop {
            if self.wants_members && self.frames.len() == 1 {
                let end = self.at;
                if let Some(member) = self.members.last_mut() {
                    member.value.end = end;
                }
            }
            self.space();
            let Some(&frame) = self.frames.last() else {
                let done = self.at >= self.doc.len();
                return if done { Ok(true) } else { Err(JsonError::Trailing { offset: self.at }) };
            };
            match (frame, self.peek()) {
                (Frame::Array, Some(b',')) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Frame::Object(mark), Some(b',')) => {
                    self.at += 1;
                    self.space();
                    self.name(mark)?;
                    return Ok(false);
                }
                (Frame::Array, Some(b']')) => {
                    self.at += 1;
                    self.frames.pop();
                }
                (Frame::Object(mark), Some(b'}')) => {
                    self.at += 1;
                    self.frames.pop();
                    self.names.close(mark).map_err(|offset| JsonError::DuplicateName { offset })?;
                }
                (Frame::Array | Frame::Object(_), _) => return Err(self.malformed()),
            }
        }
    }

    fn value(&mut self) -> Result<Step, JsonError> {
        self.stats.nodes += 1;
        if self.stats.nodes > self.limits.nodes_max {
            return Err(JsonError::Nodes { offset: self.at, max: self.limits.nodes_max });
        }
        match self.peek() {
            Some(b'"') => self.string().map(|_| Step::Complete),
            Some(b'{') => self.open_object(),
            Some(b'[') => self.open_array(),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Step::Complete),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(_) | None => Err(self.malformed()),
        }
    }

    fn open_object(&mut self) -> Result<Step, JsonError> {
        let mark = self.names.open();
        self.open(Frame::Object(mark))?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.frames.pop();
            return Ok(Step::Complete);
        }
        self.name(mark)?;
        Ok(Step::Opened)
    }

    fn open_array(&mut self) -> Result<Step, JsonError> {
        self.open(Frame::Array)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.frames.pop();
            return Ok(Step::Complete);
        }
        Ok(Step::Opened)
    }

    fn open(&mut self, frame: Frame) -> Result<(), JsonError> {
        if self.frames.len() >= self.limits.depth_max {
            return Err(JsonError::Depth { offset: self.at, max: self.limits.depth_max });
        }
        self.frames.push(frame);
        self.stats.depth = self.stats.depth.max(self.frames.len());
        self.at += 1;
        self.space();
        Ok(())
    }

    /// A member name and its colon.
    fn name(&mut self, mark: Mark) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed());
        }
        let open = self.at;
        let escaped = self.string()?;
        let written = open + 1..self.at - 1;
        self.names.add(mark, written, escaped).map_err(|offset| JsonError::DuplicateName { offset })?;
        let name = open..self.at;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.malformed());
        }
        self.at += 1;
        if self.wants_members && self.frames.len() == 1 {
            self.space();
            self.members.push(Member { name, value: self.at..self.at });
        }
        Ok(())
    }

    /// A string, from its opening quote. True when it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, JsonError> {
        let open = self.at;
        let mut escaped = false;
        let mut at = open + 1;
        loop {
            at = text::find_special(self.doc, at);
            match self.doc.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += self.escape(at)?;
                }
                Some(_) | None => return Err(JsonError::Malformed { offset: at }),
            }
        }
        if at - open - 1 > self.limits.string_bytes_max {
            return Err(JsonError::String { offset: open, max: self.limits.string_bytes_max });
        }
        self.at = at + 1;
        Ok(escaped)
    }

    /// Length of the escape at `at`.
    #[inline]
    fn escape(&mut self, at: usize) -> Result<usize, JsonError> {
        match self.doc.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u') => {
                self.stats.unicode_escapes = true;
                let escape = self.doc.get(at..).unwrap_or_default();
                match (text::unicode_escape(escape), text::unit(escape)) {
                    (Some((_, length)), _) => Ok(length),
                    (None, Some(_)) => Err(JsonError::LoneSurrogate { offset: at }),
                    (None, None) => Err(JsonError::Malformed { offset: at }),
                }
            }
            Some(_) | None => Err(JsonError::Malformed { offset: at }),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let bad = JsonError::Number { offset: start };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.digits();
        let leading_zero = self.doc.get(self.at - whole) == Some(&b'0');
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(bad);
        }
        let mut plain = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(bad);
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            plain = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(bad);
            }
        }
        // Readers disagree on what lies beyond a double (infinity, an error, a big number), so it is refused.
        if plain && whole < 300 {
            return Ok(());
        }
        let written = self.doc.get(start..self.at).unwrap_or_default();
        let value = core::str::from_utf8(written).ok().and_then(|text| text.parse::<f64>().ok());
        if value.is_some_and(f64::is_finite) { Ok(()) } else { Err(bad) }
    }

    fn digits(&mut self) -> usize {
        let rest = self.doc.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn literal(&mut self, word: &[u8]) -> Result<Step, JsonError> {
        if !self.doc.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.malformed());
        }
        self.at += word.len();
        Ok(Step::Complete)
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.doc.get(self.at).copied()
    }

    const fn malformed(&self) -> JsonError {
        JsonError::Malformed { offset: self.at }
    }
}
