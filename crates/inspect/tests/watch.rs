//! Values that must not be in a message are seen whatever detectors are switched on, also in two events.

use std::sync::Arc;

use portcullis_core::{Digest, Direction, Obligations, Severity, Treatment};

use portcullis_inspect::{
    ARMED, CATALOG, DetectorSettings, InspectError, InspectSettings, Inspector, Role, Subject, Watch,
    Watched, Window, mask, verdict,
};

const SECRET: &str = "plain words of one value";

#[derive(Debug)]
struct One;

impl Watch for One {
    fn looks(&self, direction: Direction) -> bool {
        direction == Direction::Outward
    }

    fn may_hold(&self, raw: &[u8]) -> bool {
        raw.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    }

    fn find(&self, _direction: Direction, text: &str) -> Vec<Watched> {
        let one = |(at, _): (usize, &str)| Watched {
            kind: ARMED,
            id: Digest([7; 32]),
            treatment: Treatment::Mask,
            range: at..at + SECRET.len(),
        };
        text.match_indices(SECRET).map(one).collect()
    }

    fn name(&self, _id: Digest) -> Option<Arc<str>> {
        None
    }

    fn changes(&self) -> u64 {
        0
    }
}

/// The detectors that look, or none of them, beside the watch.
fn inspectors() -> Result<[Inspector; 2], InspectError> {
    let mut settings = InspectSettings::default();
    for kind in CATALOG {
        let off = DetectorSettings { enabled: false, ..(kind.build)(&())?.defaults() };
        settings.detectors.insert(String::from(kind.name), off);
    }
    let watching = |settings| {
        Ok::<_, portcullis_inspect::InspectError>(Inspector::new(settings)?.watching(Arc::new(One)))
    };
    Ok([watching(&InspectSettings::default())?, watching(&settings)?])
}

#[test]
fn what_is_watched_for_is_seen_whatever_detectors_are_switched_on_and_one_way_only() {
    for inspector in inspectors().unwrap() {
        let raw = format!(r#"{{"a":"x {SECRET} y"}}"#);
        assert!(inspector.quick(Direction::Outward, raw.as_bytes(), false));
        assert!(!inspector.quick(Direction::Inward, raw.as_bytes(), false));
        let mut seen = Vec::new();
        inspector.scan(Direction::Outward, "/result/a", &format!("x {SECRET} y"), &mut seen);
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].finding.kind, seen[0].finding.severity), (ARMED, Severity::Critical));
        assert_eq!(mask(&format!("x {SECRET} y"), &seen), "x [masked:secret.armed] y");
        seen.clear();
        inspector.scan(Direction::Inward, "/params/a", SECRET, &mut seen);
        assert!(seen.is_empty());
        assert_eq!(inspector.holds("/result/tools/0/description", SECRET), [ARMED]);
    }
}

#[test]
fn what_is_cut_in_two_by_the_end_of_an_event_is_seen_in_the_second() {
    for inspector in inspectors().unwrap() {
        let mut window = Window::default();
        for (text, masked) in [
            ("with plain words of one value.", "with [masked:secret.armed]."),
            ("begins plain words ", "begins plain words "),
            ("of one value ends", "[masked:secret.armed] ends"),
        ] {
            let mut seen = Vec::new();
            let subject = Subject { role: Role::Answer, place: "/params/data", text };
            inspector.scan_event(&subject, &mut window, &mut inspector.budget(), &mut seen);
            verdict(Direction::Outward, &mut seen, &Obligations::default());
            assert_eq!(mask(text, &seen), masked);
            assert_eq!(seen.is_empty(), masked == text);
        }
    }
}
