//! Reading values in place. A view is a place in a checked text: cheap to copy, and lazy about where it ends.

use alloc::borrow::Cow;
use core::ops::Range;

use super::text;

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// `[…]`
    Array,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
    /// A number.
    Number,
    /// `{…}`
    Object,
    /// `"…"`
    String,
}

/// A value inside a checked text. On a text that was not checked, reading gives less or nonsense, but neither
/// panics nor runs on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    doc: &'a [u8],
    start: usize,
    /// Just behind the value; zero while nobody asked.
    end: usize,
}

impl<'a> View<'a> {
    /// The outermost value of a text that passed [`check`](super::check).
    #[must_use]
    pub fn of(checked: &'a [u8]) -> Self {
        Self { doc: checked, start: space(checked, 0), end: 0 }
    }

    /// The value at a span that is already known.
    pub(crate) const fn at(doc: &'a [u8], span: &Range<usize>) -> Self {
        Self { doc, start: span.start, end: span.end }
    }

    /// What kind of value it is.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        match self.doc.get(self.start) {
            Some(b'{') => ValueKind::Object,
            Some(b'[') => ValueKind::Array,
            Some(b'"') => ValueKind::String,
            Some(b't' | b'f') => ValueKind::Bool,
            Some(b'-' | b'0'..=b'9') => ValueKind::Number,
            Some(_) | None => ValueKind::Null,
        }
    }

    /// Its bytes as written.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.doc.get(self.span()).unwrap_or_default()
    }

    /// The same view, with its end worked out, so that nobody has to look for it again.
    pub(crate) fn ended(mut self) -> Self {
        self.end = self.span().end;
        self
    }

    /// Where it stands in the whole text.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.start..if self.end == 0 { skip(self.doc, self.start) } else { self.end }
    }

    /// The member called `name`, if this is an object that has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Self> {
        let mut members = self.raw_members();
        while let Some((written, value)) = members.next_raw() {
            // As written, a name with escapes may look like another name.
            let escaped = memchr::memchr(b'\\', written).is_some();
            let same = if escaped { text::decode(written) == name } else { written == name.as_bytes() };
            if same {
                return Some(value);
            }
        }
        None
    }

    /// The value at the end of a path of member names.
    #[must_use]
    pub fn path(&self, names: &[&str]) -> Option<Self> {
        names.iter().try_fold(*self, |view, name| view.get(name))
    }

    /// The members of an object in their order; none of any other kind.
    #[must_use]
    pub fn members(&self) -> Members<'a> {
        self.raw_members()
    }

    fn raw_members(&self) -> Members<'a> {
        let open = self.doc.get(self.start) == Some(&b'{');
        Members(Cursor::new(self.doc, self.start, open))
    }

    /// The elements of an array in their order; none of any other kind.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        let open = self.doc.get(self.start) == Some(&b'[');
        Elements(Cursor::new(self.doc, self.start, open))
    }

    /// The decoded text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        self.written().map(text::decode)
    }

    /// What stands between the quotes of a string.
    fn written(&self) -> Option<&'a [u8]> {
        if self.kind() != ValueKind::String {
            return None;
        }
        self.raw().strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// Whether this is a string whose decoded text is `text`.
    #[must_use]
    pub fn is_str(&self, text: &str) -> bool {
        self.as_str().is_some_and(|own| own == text)
    }

    /// A whole number without fraction or exponent, if it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.number_text()?.parse().ok()
    }

    /// A whole number without fraction or exponent, if it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.number_text()?.parse().ok()
    }

    pub(super) fn number_text(&self) -> Option<&'a str> {
        if self.kind() != ValueKind::Number {
            return None;
        }
        core::str::from_utf8(self.raw()).ok()
    }

    /// `true` or `false`.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.doc.get(self.start) {
            Some(b't') => Some(true),
            Some(b'f') => Some(false),
            Some(_) | None => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.kind() == ValueKind::Null
    }
}

/// A place among the items of a container.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    doc: &'a [u8],
    at: usize,
    /// Start of the value given out last; skipped only when the next item is wanted.
    value: Option<usize>,
    first: bool,
    done: bool,
}

impl<'a> Cursor<'a> {
    const fn new(doc: &'a [u8], start: usize, open: bool) -> Self {
        Self { doc, at: start + 1, value: None, first: true, done: !open }
    }

    /// Start of the next item; at the end, the place is just behind the closing bracket.
    fn next_start(&mut self) -> Option<usize> {
        if self.done {
            return None;
        }
        if let Some(start) = self.value.take() {
            self.at = skip(self.doc, start);
        }
        self.at = space(self.doc, self.at);
        if !self.first && self.doc.get(self.at) == Some(&b',') {
            self.at = space(self.doc, self.at + 1);
        }
        self.first = false;
        match self.doc.get(self.at) {
            None | Some(b']' | b'}') => {
                self.done = true;
                self.at += 1;
                None
            }
            Some(_) => Some(self.at),
        }
    }

    const fn value_ends(&mut self, end: usize) {
        self.value = None;
        self.at = end;
    }
}

/// The members of an object.
#[derive(Clone, Debug)]
pub struct Members<'a>(Cursor<'a>);

impl<'a> Members<'a> {
    /// The next member with its name as written, without quotes.
    fn next_raw(&mut self) -> Option<(&'a [u8], View<'a>)> {
        let (name, value) = self.next_view()?;
        Some((name.written()?, value))
    }

    /// The next member, its name as a view too.
    pub(crate) fn next_view(&mut self) -> Option<(View<'a>, View<'a>)> {
        let doc = self.0.doc;
        let open = self.0.next_start()?;
        if doc.get(open) != Some(&b'"') {
            self.0.done = true;
            return None;
        }
        let end = text::skip_string(doc, open);
        let colon = space(doc, end);
        let start = space(doc, colon + 1);
        self.0.value = Some(start);
        Some((View { doc, start: open, end }, View { doc, start, end: 0 }))
    }

    /// Just behind the closing brace, once there was no next member.
    pub(crate) const fn end(&self) -> usize {
        self.0.at
    }

    /// Tells where the value given out last ends, so that it is not skipped again.
    pub(crate) const fn value_ends(&mut self, end: usize) {
        self.0.value_ends(end);
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, View<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_raw().map(|(written, value)| (text::decode(written), value))
    }
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a>(Cursor<'a>);

impl Elements<'_> {
    /// Just behind the closing bracket, once there was no next element.
    pub(crate) const fn end(&self) -> usize {
        self.0.at
    }

    /// Tells where the element given out last ends, so that it is not skipped again.
    pub(crate) const fn value_ends(&mut self, end: usize) {
        self.0.value_ends(end);
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        let start = self.0.next_start()?;
        self.0.value = Some(start);
        Some(View { doc: self.0.doc, start, end: 0 })
    }
}

/// Offset of the first byte at or after `at` that is not white space.
#[inline]
fn space(doc: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = doc.get(at) {
        at += 1;
    }
    at
}

/// Offset just behind the value that starts at `start`; always beyond `start` while there are bytes.
fn skip(doc: &[u8], start: usize) -> usize {
    match doc.get(start) {
        Some(b'"') => text::skip_string(doc, start),
        Some(b'{' | b'[') => skip_container(doc, start),
        Some(_) => {
            let rest = doc.get(start + 1..).unwrap_or_default();
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t' | b':');
            start + 1 + rest.iter().take_while(|byte| !ends(byte)).count()
        }
        None => doc.len(),
    }
}

fn skip_container(doc: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = doc.get(at) {
        match byte {
            b'"' => {
                at = text::skip_string(doc, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    doc.len()
}
