//! The messages of the bench: what is asked, what is answered, and how long a right answer is.

use bytes::Bytes;

/// The tool that every call names.
pub(crate) const TOOL: &str = "echo";

/// The two sizes of text that the bench measures, in bytes before escaping.
pub(crate) const SIZES: [usize; 2] = [1_024, 65_536];

/// Which revision of the protocol the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Era {
    /// 2025-11-25: `initialize`, then calls within a session.
    Legacy,
    /// 2026-07-28: every call stands alone.
    Modern,
}

impl Era {
    /// The revision, as the header has it.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

/// Text of exactly `size` bytes that is itself JSON: records such as a ticket system would return. It holds
/// no address, card or credential, so a detector that is right finds nothing in it.
pub(crate) fn text(size: usize) -> String {
    const STATES: [&str; 4] = ["open", "closed", "waiting for parts", "in review"];
    let mut out = String::with_capacity(size + 256);
    out.push('[');
    for number in 0_usize.. {
        let state = STATES.get(number % STATES.len()).copied().unwrap_or("open");
        let record = format!(
            "{{\"id\":{},\"title\":\"Unit {} of the north line, weekly check\",\"state\":\"{state}\",\"updated\":\
             \"2026-{:02}-{:02}T09:26:{:02}Z\",\"amount\":{}.{:02},\"tags\":[\"line-{}\",\"plan/b\"]}},",
            1_000 + number,
            number % 37,
            1 + number % 12,
            1 + number % 28,
            number % 60,
            number * 7 % 1_000,
            number % 100,
            number % 9
        );
        // Two quotes and the bracket close the array, filled up to the exact size.
        if out.len() + record.len() + 3 > size {
            break;
        }
        out.push_str(&record);
    }
    out.push('"');
    while out.len() + 2 < size {
        out.push('x');
    }
    out.push_str("\"]");
    out
}

/// The two parts of an answer between which the id stands; the second is rendered once.
pub(crate) fn answer_parts(size: usize, era: Era) -> (&'static str, Bytes) {
    let quoted = serde_json::Value::String(text(size)).to_string();
    let complete = match era {
        Era::Legacy => "",
        Era::Modern => ",\"resultType\":\"complete\"",
    };
    let tail = format!(",\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":{quoted}}}]{complete}}}}}");
    ("{\"jsonrpc\":\"2.0\",\"id\":", Bytes::from(tail))
}

/// A `tools/call` of the given id. About 110 bytes in the older revision.
pub(crate) fn call(id: u64, tool: &str, size: usize, era: Era) -> Bytes {
    let meta = match era {
        Era::Legacy => String::new(),
        Era::Modern => format!(",\"_meta\":{}", meta()),
    };
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\
         \"arguments\":{{\"size\":{size}}}{meta}}}}}"
    ))
}

/// What every request of 2026-07-28 says about its sender.
fn meta() -> String {
    format!(
        "{{\"io.modelcontextprotocol/protocolVersion\":\"{}\",\"io.modelcontextprotocol/clientCapabilities\":{{}},\
         \"io.modelcontextprotocol/clientInfo\":{{\"name\":\"bench\",\"version\":\"1\"}}}}",
        Era::Modern.version()
    )
}

/// The first message of a session of 2025-11-25.
pub(crate) fn initialize() -> Bytes {
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{{\"protocolVersion\":\"{}\",\
         \"capabilities\":{{}},\"clientInfo\":{{\"name\":\"bench\",\"version\":\"1\"}}}}}}",
        Era::Legacy.version()
    ))
}

/// The second message of a session of 2025-11-25.
pub(crate) fn initialized() -> Bytes {
    Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}")
}

/// How a right answer begins and how long it is.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    head: &'static str,
    rest: usize,
}

impl Expected {
    /// What to expect of `text` of `size` bytes.
    pub(crate) fn new(size: usize, era: Era) -> Self {
        let (head, tail) = answer_parts(size, era);
        Self { head, rest: tail.len() }
    }

    /// Whether an answer of `length` bytes that starts with `start` answers the call `id`.
    pub(crate) fn fits(&self, id: u64, start: &[u8], length: usize) -> bool {
        let id = id.to_string();
        let after =
            start.strip_prefix(self.head.as_bytes()).and_then(|rest| rest.strip_prefix(id.as_bytes()));
        after.is_some_and(|rest| rest.first() == Some(&b','))
            && length == self.head.len() + id.len() + self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::{Era, Expected, SIZES, TOOL, answer_parts, call, initialize, text};

    #[test]
    fn the_text_has_exactly_the_size_asked_for_and_is_json() {
        for size in SIZES {
            let text = text(size);
            assert_eq!(text.len(), size);
            assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_array());
        }
    }

    #[test]
    fn messages_of_both_revisions_are_json() {
        for era in [Era::Legacy, Era::Modern] {
            for message in [call(7, TOOL, 1_024, era), initialize()] {
                assert!(serde_json::from_slice::<serde_json::Value>(&message).unwrap().is_object());
            }
        }
    }

    #[test]
    fn an_answer_with_another_id_or_length_is_not_right() {
        let (head, tail) = answer_parts(1_024, Era::Legacy);
        let answer = [head.as_bytes(), b"17", &tail].concat();
        let expected = Expected::new(1_024, Era::Legacy);
        assert!(expected.fits(17, &answer, answer.len()));
        assert!(!expected.fits(1, &answer, answer.len()));
        assert!(!expected.fits(18, &answer, answer.len()));
        assert!(!expected.fits(17, &answer, answer.len() - 1));
    }
}
