//! Server-sent events (WHATWG HTML, section 9.2), bounded, for relaying: comments and empty events are kept.

use alloc::{string::String, vec::Vec};
use core::mem;

use bytes::Bytes;

/// One event, or one comment on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `id`; an empty one resets the client's last event id.
    pub id: Option<String>,
    /// `event`, the type; none means `message`.
    pub event: Option<String>,
    /// `retry`, in milliseconds.
    pub retry: Option<u64>,
    /// `data`, its lines joined by a line feed. None where there was no such field at all.
    pub data: Option<Bytes>,
    /// The text of a comment. Comments come alone, as soon as they are read.
    pub comment: Option<String>,
}

impl Event {
    /// An event that carries one message.
    #[must_use]
    pub fn message(data: Bytes) -> Self {
        Self { data: Some(data), ..Self::default() }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The stream cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event has more bytes than allowed.
    #[error("event longer than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// Reads events from chunks, however these are cut.
#[derive(Debug)]
pub struct Parser {
    event_bytes_max: usize,
    /// The start of a line whose end has not arrived.
    line: Vec<u8>,
    event: Event,
    data: Option<Vec<u8>>,
    /// Bytes of the event so far.
    size: usize,
    /// The last chunk ended in CR: a following LF belongs to it.
    after_cr: bool,
    /// No line was read yet: a byte order mark may stand in front.
    at_start: bool,
}

impl Parser {
    /// A parser that refuses events of more than `event_bytes_max` bytes.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            line: Vec::new(),
            event: Event::default(),
            data: None,
            size: 0,
            after_cr: false,
            at_start: true,
        }
    }

    /// Reads a chunk and gives each event that is complete to `out`.
    ///
    /// # Errors
    /// An event that is too large; the stream cannot be read further.
    pub fn push(&mut self, chunk: &[u8], mut out: impl FnMut(Event)) -> Result<(), SseError> {
        // An empty chunk tells nothing about what follows a CR.
        if chunk.is_empty() {
            return Ok(());
        }
        let mut rest = chunk;
        if mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
            let Some((line, behind)) = rest.split_at_checked(end) else { break };
            self.grow(line.len())?;
            if self.line.is_empty() {
                self.take_line(line, &mut out);
            } else {
                let mut whole = mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take_line(&whole, &mut out);
            }
            rest = match behind.split_first() {
                Some((b'\r', [])) => {
                    self.after_cr = true;
                    &[]
                }
                Some((b'\r', following)) => following.strip_prefix(b"\n").unwrap_or(following),
                Some((_, following)) => following,
                None => &[],
            };
        }
        self.grow(rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// Whether the stream stands in the middle of an event. At the end of the stream, what was read of it is lost.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.line.is_empty() || self.data.is_some() || !self.event.is_empty()
    }

    fn grow(&mut self, by: usize) -> Result<(), SseError> {
        self.size = self.size.saturating_add(by);
        if self.size > self.event_bytes_max {
            return Err(SseError::TooLarge { max: self.event_bytes_max });
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], out: &mut impl FnMut(Event)) {
        let mut line = line;
        if mem::take(&mut self.at_start) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.size = 0;
            self.event.data = self.data.take().map(Bytes::from);
            let event = mem::take(&mut self.event);
            if !event.is_empty() {
                out(event);
            }
            return;
        }
        let (field, value) = match memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
            Some((field, value)) => (field, value.get(1..).unwrap_or_default()),
            None => (line, &[] as &[u8]),
        };
        let text = || String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value)).into_owned();
        match field {
            b"" => {
                // A comment at once: it keeps a connection open, so it must not wait for an event to end.
                self.size = self.size.saturating_sub(line.len());
                out(Event { comment: Some(text()), ..Event::default() });
            }
            b"data" => {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                match &mut self.data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => self.data = Some(value.to_vec()),
                }
            }
            b"event" => self.event.event = Some(text()),
            b"id" if !value.contains(&0) => self.event.id = Some(text()),
            b"retry" => {
                let digits = text();
                if digits.bytes().all(|byte| byte.is_ascii_digit())
                    && let Ok(ms) = digits.parse()
                {
                    self.event.retry = Some(ms);
                }
            }
            _ => {}
        }
    }
}

/// The event as bytes, with the blank line that ends it. Line breaks inside a field cannot break out of it.
#[must_use]
pub fn encode(event: &Event) -> Bytes {
    let room = event.data.as_ref().map_or(0, Bytes::len);
    let mut out = Vec::with_capacity(room + 64);
    if let Some(comment) = &event.comment {
        field(&mut out, b":", comment.as_bytes());
    }
    if let Some(kind) = &event.event {
        field(&mut out, b"event:", one_line(kind).as_bytes());
    }
    if let Some(id) = &event.id {
        field(&mut out, b"id:", one_line(id).as_bytes());
    }
    if let Some(retry) = event.retry {
        out.extend_from_slice(alloc::format!("retry: {retry}\n").as_bytes());
    }
    if let Some(data) = &event.data {
        field(&mut out, b"data:", data);
    }
    out.push(b'\n');
    Bytes::from(out)
}

/// The text without line breaks and NUL, which these fields cannot carry.
fn one_line(text: &str) -> String {
    text.chars().filter(|character| !matches!(character, '\r' | '\n' | '\0')).collect()
}

/// One line of the field for each line of the value.
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut rest = value;
    loop {
        let end = memchr::memchr2(b'\r', b'\n', rest);
        let (line, behind) = end.and_then(|end| rest.split_at_checked(end)).unwrap_or((rest, &[]));
        out.extend_from_slice(name);
        out.push(b' ');
        out.extend_from_slice(line);
        out.push(b'\n');
        let Some((first, following)) = behind.split_first() else { return };
        rest = if *first == b'\r' { following.strip_prefix(b"\n").unwrap_or(following) } else { following };
    }
}
