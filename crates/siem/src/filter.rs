//! Which entries a sink wants.

use crate::{Grade, Seen};

/// Which entries go to a sink. What is empty does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Event classes; `*` at the end stands for any rest.
    pub events: Vec<String>,
    /// Event classes that do not go there, whatever else says so.
    pub except: Vec<String>,
    /// Servers, by name.
    pub servers: Vec<String>,
    /// The mildest grade.
    pub grade: Grade,
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

impl Filter {
    /// Whether it wants this one.
    #[must_use]
    pub fn wants(&self, seen: &Seen) -> bool {
        let (event, server) = (seen.event(), seen.text("/target/server"));
        seen.grade >= self.grade
            && (self.events.is_empty() || self.events.iter().any(|pattern| fits(pattern, event)))
            && !self.except.iter().any(|pattern| fits(pattern, event))
            && (self.servers.is_empty() || self.servers.iter().any(|pattern| fits(pattern, server)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_sink_gets_what_its_filter_names_and_nothing_else() {
        let log: Arc<str> = Arc::from("gateway");
        let read = |text: &str| Seen::read(0, &log, text.as_bytes());
        let refused = read(r#"{"event":"call.refused","code":"policy.denied","target":{"server":"files"}}"#);
        let intent = read(r#"{"event":"call.intent","target":{"server":"files"}}"#);
        let key = read(r#"{"event":"key.created"}"#);
        let cases: [(Filter, [bool; 3]); 5] = [
            (Filter::default(), [true, true, true]),
            (Filter { events: vec!["call.*".into()], ..Filter::default() }, [true, true, false]),
            (Filter { except: vec!["call.intent".into()], ..Filter::default() }, [true, false, true]),
            (Filter { grade: Grade::Medium, ..Filter::default() }, [true, false, false]),
            (Filter { servers: vec!["other".into()], ..Filter::default() }, [false, false, false]),
        ];
        for (filter, expected) in cases {
            assert_eq!([&refused, &intent, &key].map(|seen| filter.wants(seen)), expected, "{filter:?}");
        }
    }
}
