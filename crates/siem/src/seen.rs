//! One ledger entry, read for others: how grave it is, and what it says in one line.

use std::{fmt, sync::Arc};

use portcullis_core::Timestamp;
use serde_json::{Map, Value};

/// How grave an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Business as usual.
    #[default]
    Info,
    /// Worth a look.
    Low,
    /// Likely unwanted.
    Medium,
    /// Likely an attack or a leak.
    High,
    /// Somebody should look now.
    Critical,
}

impl Grade {
    /// Every grade, mildest first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// As findings name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// One of five numbers, such as each format has its own.
    #[must_use]
    pub const fn of(self, [info, low, medium, high, critical]: [u8; 5]) -> u8 {
        match self {
            Self::Info => info,
            Self::Low => low,
            Self::Medium => medium,
            Self::High => high,
            Self::Critical => critical,
        }
    }

    fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grade| grade.name() == text)
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Events that are graver than business as usual whatever they carry.
const GRADES: &[(&str, Grade)] = &[
    ("admin.refused", Grade::Medium),
    ("canary.seen", Grade::Critical),
    ("config.refused", Grade::Low),
    ("connection.failed", Grade::Low),
    ("definition.changed", Grade::High),
    ("definition.held", Grade::High),
    ("definition.observed", Grade::Low),
    ("definition.vanished", Grade::Low),
    ("definitions.changed", Grade::High),
    ("grant.break_glass", Grade::High),
    ("kill.set", Grade::High),
    ("ledger.recovered", Grade::Medium),
    ("sandbox.denied", Grade::High),
    ("seal.shredded", Grade::High),
    ("secret.leaked", Grade::High),
    ("sink.failing", Grade::Medium),
    ("sink.skipped", Grade::Medium),
];

/// Refusals by the first word of their code; all others are low.
const REFUSALS: &[(&str, Grade)] = &[
    ("answer", Grade::High),
    ("arguments", Grade::Medium),
    ("auth", Grade::Medium),
    ("definition", Grade::High),
    ("internal", Grade::High),
    ("killed", Grade::Medium),
    ("ledger", Grade::High),
    ("policy", Grade::Medium),
    ("residency", Grade::Medium),
    ("sandbox", Grade::High),
    ("secret", Grade::Medium),
];

/// One entry.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its index in the log.
    pub index: u64,
    /// Which log: the name of the gateway.
    pub log: Arc<str>,
    /// Its members.
    pub entry: Map<String, Value>,
    /// How grave it is.
    pub grade: Grade,
}

impl Seen {
    /// Reads an entry. Whatever is no object of JSON is passed on as text: a sink never stops at what it does not know.
    #[must_use]
    pub fn read(index: u64, log: &Arc<str>, bytes: &[u8]) -> Self {
        let entry = match serde_json::from_slice(bytes) {
            Ok(Value::Object(entry)) => entry,
            _ => Map::from_iter([("raw".to_owned(), Value::String(String::from_utf8_lossy(bytes).into()))]),
        };
        let mut seen = Self { index, log: Arc::clone(log), entry, grade: Grade::Info };
        seen.grade = seen.graded();
        seen
    }

    /// A text at `pointer` (RFC 6901); empty where there is none.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// A value at `pointer`.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let mut parts = pointer.trim_start_matches('/').split('/');
        let first = self.entry.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// Its class, such as `call.refused`.
    #[must_use]
    pub fn event(&self) -> &str {
        self.text("/event")
    }

    /// Names it among all entries of all gateways.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.log, self.index)
    }

    /// What detectors saw.
    pub fn findings(&self) -> impl Iterator<Item = &Value> {
        self.at("/findings").and_then(Value::as_array).into_iter().flatten()
    }

    /// Which detectors saw something.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        self.findings().filter_map(|found| found.get("kind")?.as_str()).collect()
    }

    /// When it happened, in milliseconds since 1970; 0 where the entry does not say.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        Timestamp::parse(self.text("/at")).map_or(0, |at| at.0)
    }

    /// What it says, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.event().to_owned();
        let server = self.text("/target/server");
        let parts = [
            ("caller", self.text("/actor/id")),
            ("method", self.text("/method")),
            ("server", server),
            ("name", self.text("/target/name")),
            ("code", self.text("/code")),
            ("detail", self.text("/detail")),
        ];
        for (name, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
            line.push_str(&format!(" {name}={text}"));
        }
        let kinds = self.kinds();
        if !kinds.is_empty() {
            line.push_str(&format!(" found={}", kinds.join(",")));
        }
        line.replace(['\n', '\r'], " ")
    }

    fn graded(&self) -> Grade {
        let event = self.event();
        let by_event = GRADES.iter().find(|(name, _)| *name == event).map(|(_, grade)| *grade);
        let by_code = (event == "call.refused").then(|| {
            let word = self.text("/code").split('.').next().unwrap_or_default();
            REFUSALS.iter().find(|(name, _)| *name == word).map_or(Grade::Low, |(_, grade)| *grade)
        });
        let by_findings = self.findings().filter_map(|found| Grade::named(found.get("severity")?.as_str()?));
        by_event.into_iter().chain(by_code).chain(by_findings).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_makes_an_entry_as_grave_as_itself() {
        let log = Arc::from("gateway");
        let entry = br#"{"event":"call.outcome","findings":[{"kind":"email","severity":"low"},{"kind":"injection","severity":"high"}]}"#;
        assert_eq!(Seen::read(1, &log, entry).grade, Grade::High);
        assert_eq!(Seen::read(2, &log, br#"{"event":"call.intent"}"#).grade, Grade::Info);
        assert_eq!(
            Seen::read(3, &log, br#"{"event":"call.refused","code":"policy.denied"}"#).grade,
            Grade::Medium
        );
        assert_eq!(Seen::read(4, &log, br#"{"event":"canary.seen"}"#).grade, Grade::Critical);
        assert_eq!(Seen::read(5, &log, b"no json").text("/raw"), "no json");
    }
}
