//! Runs every detector that is switched on.

mod bounds;
mod masking;
mod tokens;
mod watched;

use alloc::{boxed::Box, collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};
use core::ops::Range;

use portcullis_core::{Digest, Direction, Finding, Label, Labels, Severity, Treatment};

use bounds::{bound, start_of};

use crate::{
    Budget, Detector, DetectorSettings, InspectError, InspectSettings, Role, Subject, Window,
    anchors::{Anchors, Places, Seen},
    attacks::Argument,
    decode,
    detectors::Sighting,
    form::{Form, Keys, TokenKeys},
    identifiers::Identifiers,
    plain::Plain,
    raw::Raw,
    recogniser::Allowed,
    watch::{self, Watch},
};

/// One sighting in a text: what, where, and what to put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What was seen; its treatment is the configured one until [`crate::verdict`] raises it.
    pub finding: Finding,
    /// Bytes of the scanned text.
    pub range: Range<usize>,
    /// What masking puts in their place ([`Form`]), or nothing for what nobody sees.
    pub replacement: String,
    /// What kind of data it is.
    pub labels: Labels,
}

#[derive(Debug)]
struct Active {
    name: &'static str,
    settings: DetectorSettings,
    form: Form,
    labels: Labels,
    /// It has words of which one has to occur.
    anchored: bool,
    /// What is no find of it.
    allowed: Allowed,
    detector: Box<dyn Detector>,
}

/// The detectors that are switched on, with their treatments. Immutable; shared by all calls.
#[derive(Debug)]
pub struct Inspector {
    active: Vec<Active>,
    anchors: Anchors,
    keys: Keys,
    identifiers: Identifiers,
    /// Schemes that are looked for whether a label of theirs occurs or not: none but in tests.
    called: u128,
    /// Of one message, with what is hidden in it.
    bytes_max: usize,
    /// For each direction the detectors that look, and those of them of which an anchor alone says enough.
    looking: [[u128; 2]; 2],
    watch: Option<Arc<dyn Watch>>,
}

impl Inspector {
    /// Sightings of one detector in one text that are told apart; what comes after is one more, to the last.
    pub const MATCHES_MAX: usize = 256;
    /// How often a text is masked before it is refused instead.
    pub const MASKED_MAX: usize = 8;
    /// Bytes of one message that are read unless told otherwise: its texts, what is hidden in them, and what is read again
    /// once something was masked.
    pub const BYTES_MAX: usize = 64 << 20;
    /// Bytes of a place that a finding keeps.
    pub const PLACE_BYTES_MAX: usize = 1_024;

    /// Builds the detectors.
    ///
    /// # Errors
    /// Settings that name an unknown detector, or a recogniser that cannot be built.
    pub fn new(settings: &InspectSettings) -> Result<Self, InspectError> {
        let names = settings.names();
        if let Some(name) = settings.detectors.keys().find(|name| !names.contains(&name.as_str())) {
            return Err(InspectError::Unknown { name: name.clone() });
        }
        let mut active = Vec::new();
        for (name, detector) in settings.build()? {
            let form = settings.forms.get(name).copied().unwrap_or_default();
            let labels = settings.labels_of(name);
            let allowed = Allowed::new(settings.allowed.get(name).map_or(&[], Vec::as_slice));
            let settings = settings.detectors.get(name).copied().unwrap_or_else(|| detector.defaults());
            if settings.enabled {
                let anchored = !detector.anchors().is_empty();
                active.push(Active { name, settings, form, labels, anchored, allowed, detector });
            }
        }
        let identifiers = Identifiers::new(active.iter().map(|one: &Active| one.detector.schemes()))?;
        let bits = |fits: &dyn Fn(&Active) -> bool| {
            let fits = active.iter().enumerate().filter(|(_, one)| fits(one));
            fits.fold(0, |all: u128, (index, _)| all | 1 << index)
        };
        let anchors = Anchors::new(
            active.iter().map(|one| [one.detector.anchors(), one.detector.weak_anchors()]),
            identifiers.labels(),
            bits(&|one| one.detector.wants_places()),
        )?;
        let nothing = Raw::new(&[], false);
        let looking = [Direction::Inward, Direction::Outward].map(|direction| {
            let sure = |one: &Active| one.anchored && one.detector.may_match(&nothing);
            [bits(&|one| one.looks(direction)), bits(&sure)]
        });
        let bytes_max = Self::BYTES_MAX;
        Ok(Self {
            active,
            anchors,
            keys: Keys::new(&[], names),
            identifiers,
            called: 0,
            bytes_max,
            looking,
            watch: None,
        })
    }

    /// With another bound than [`Self::BYTES_MAX`] for what is read of one message.
    #[must_use]
    pub fn bounded(self, bytes_max: u64) -> Self {
        Self { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), ..self }
    }

    /// What is read of one message at most.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        Budget::new(self.bytes_max)
    }

    /// Every detector looks at every text, whatever occurs in it: what the gated look is compared with.
    #[cfg(test)]
    pub(crate) fn ungated(mut self) -> Self {
        self.active.iter_mut().for_each(|one| one.anchored = false);
        Self { called: u128::MAX, ..self }
    }

    /// With a secret of the gateway, so that nobody else can tell whose pseudonym one is by trying values, or open a token.
    #[must_use]
    pub fn keyed(self, secret: &[u8]) -> Self {
        Self { keys: self.keys.keyed(secret), ..self }
    }

    /// With a key for each person whose data becomes a token.
    #[must_use]
    pub fn with_people(self, people: Arc<dyn TokenKeys>) -> Self {
        Self { keys: self.keys.of_people(people), ..self }
    }

    /// With the year that it is, by which a year of birth tells an age.
    #[must_use]
    pub fn in_year(self, year: u16) -> Self {
        Self { keys: self.keys.in_year(year), ..self }
    }

    /// The labels of what a detector of that name finds: what kind of data it is.
    #[must_use]
    pub fn labels(&self, detector: &str) -> Labels {
        self.active.iter().find(|one| one.name == detector).map_or(Labels::NONE, |one| one.labels)
    }

    /// The labels of what still stands in a text once its finds were treated. What a stranger wrote stays his words when a
    /// part of them is masked.
    #[must_use]
    pub fn brought(matches: &[Match]) -> Labels {
        matches.iter().fold(Labels::NONE, |all, found| {
            let whole = found.finding.treatment < Treatment::Mask;
            all.with(if whole { found.labels } else { words_only(found.labels) })
        })
    }

    /// Whether the JSON text `raw` may hold something to find. False is certain: no string in it (member names and
    /// numbers included), decoded, would make [`Self::scan`] report anything. `raw` is well-formed JSON in UTF-8;
    /// `unicode_escapes` says whether it contains `\u` (true when unknown).
    ///
    /// It says nothing about patterns cut across two messages: for streams, scan what a [`Window`] must remember.
    #[must_use]
    pub fn quick(&self, direction: Direction, raw: &[u8], unicode_escapes: bool) -> bool {
        let raw = Raw::new(raw, unicode_escapes);
        let [looking, sure] = self.looking(direction);
        // What is most often true is asked first, and what costs most last.
        let free = || {
            self.awake(Seen::default())
                .any(|(at, one)| looking >> at & 1 == 1 && one.detector.may_match(&raw))
        };
        let watch = self.watch.as_ref().filter(|watch| watch.looks(direction));
        if looking == 0 && watch.is_none() {
            return false;
        }
        if free() || raw.is_veiled() || raw.is_disguised() || decode::may_hide(raw.bytes(), raw.has_escapes())
        {
            return true;
        }
        if watch.is_some_and(|watch| watch.may_hold(raw.bytes())) {
            return true;
        }
        let seen = self.anchors.seen_raw(raw.bytes(), looking & sure);
        self.awake(seen)
            .any(|(at, one)| looking >> at & 1 == 1 && one.anchored && one.detector.may_match(&raw))
    }

    /// The detectors that look at what travels that way, by bits, and those of which an anchor alone says enough.
    fn looking(&self, direction: Direction) -> [u128; 2] {
        self.looking.get(usize::from(direction == Direction::Outward)).copied().unwrap_or_default()
    }

    /// The detectors whose anchors were seen, and those that have none.
    fn awake(&self, seen: Seen) -> impl Iterator<Item = (usize, &Active)> {
        let active = self.active.iter().enumerate();
        active.filter(move |(index, one)| seen.detectors >> index & 1 == 1 || !one.anchored)
    }

    /// Appends what the detectors see in `text`, a decoded string at `place` (a JSON pointer), detector by detector,
    /// each in order of position.
    pub fn scan(&self, direction: Direction, place: &str, text: &str, out: &mut Vec<Match>) {
        self.scan_subject(&Subject { role: Role::of(direction, place), place, text }, out);
    }

    /// As [`Self::scan`], where the caller knows what the text is for.
    pub fn scan_subject(&self, subject: &Subject<'_>, out: &mut Vec<Match>) {
        self.scan_within(subject, &mut self.budget(), out);
    }

    /// As [`Self::scan_subject`], of a message of which so much may still be read.
    pub fn scan_within(&self, subject: &Subject<'_>, budget: &mut Budget, out: &mut Vec<Match>) {
        if !budget.take(subject.text.len()) {
            return;
        }
        let before = out.len();
        let scope = budget.scope();
        self.look(subject, scope, |found| out.push(found));
        let most = decode::bytes_max(subject.text);
        let hidden = budget.lend(most, |bytes| decode::unwrap_within(subject.text, bytes));
        for (index, layer) in hidden.iter().enumerate() {
            let inside = Subject { text: &layer.text, ..*subject };
            self.look(&inside, scope, |mut found| {
                found.range = decode::origin(&hidden, index, found.range);
                // What nobody would see can be seen as long as it is written like this.
                let visible = !found.replacement.is_empty();
                let known = out.iter().skip(before).any(|other| is_same(other, &found));
                if visible && !known {
                    out.push(found);
                }
            });
        }
    }

    fn look(&self, subject: &Subject<'_>, scope: Option<Digest>, mut tell: impl FnMut(Match)) {
        let mut found = Vec::new();
        self.sight(subject, |one, threshold, sightings| {
            found.clear();
            let marked = |one: &Sighting| self.keys.is_mark(scope, subject.text, &one.range);
            let allowed =
                |seen: &Sighting| one.allowed.has(subject.text.get(seen.range.clone()).unwrap_or_default());
            let counts = |one: &&Sighting| one.confidence >= threshold && !marked(one) && !allowed(one);
            found.extend(sightings.iter().filter(counts).cloned());
            bound(&mut found);
            found.iter().for_each(|sighting| tell(one.report(subject, scope, sighting, &self.keys)));
        });
        self.watched(subject, tell);
    }

    /// The greatest confidence of each detector that saw anything, reported or not: what evaluations order texts by.
    #[must_use]
    pub fn scores(&self, subject: &Subject<'_>) -> Vec<(&'static str, u16)> {
        let mut scores = BTreeMap::new();
        let hidden = decode::unwrap(subject.text);
        for text in core::iter::once(subject.text).chain(hidden.iter().map(|layer| layer.text.as_str())) {
            self.sight(&Subject { text, ..*subject }, |one, _, sightings| {
                let score: &mut u16 = scores.entry(one.name).or_default();
                *score = sightings.iter().map(|one| one.confidence).fold(*score, u16::max);
            });
        }
        scores.into_iter().collect()
    }

    /// The detectors that saw something in a text of a definition that a person should look at before anybody uses it.
    #[must_use]
    pub fn holds(&self, place: &str, text: &str) -> Vec<&'static str> {
        let mut matches = Vec::new();
        // Looked at once; how long it may be, and how much may be hidden in it, has bounds of its own.
        let mut all = Budget::new(usize::MAX);
        self.scan_within(&Subject { role: Role::Definition, place, text }, &mut all, &mut matches);
        let holding = self.active.iter().filter(|one| one.detector.holds());
        let seen = |name: &str| matches.iter().any(|found| found.finding.kind == name);
        let watched = [watch::ARMED, watch::CANARY].into_iter();
        holding.map(|one| one.name).chain(watched).filter(|name| seen(name)).collect()
    }

    fn sight(&self, subject: &Subject<'_>, mut tell: impl FnMut(&Active, u16, &[Sighting])) {
        let mut sightings = Vec::new();
        // Under a name that says what it is, a text needs no word of it.
        let key = self.anchors.seen(subject.role, subject.key().as_bytes(), &mut Places::default());
        let (mut places, mut plain_places) = (Places::default(), Places::default());
        let seen = self.anchors.seen(subject.role, subject.text.as_bytes(), &mut places).and(key);
        // What it says without its disguises; nearly always it has none.
        let plain = Plain::of(subject.text);
        let said = plain
            .as_ref()
            .map_or(seen, |plain| self.anchors.seen(subject.role, plain.text.as_bytes(), &mut plain_places));
        let identified = self.identifiers.find(subject, seen.schemes | self.called);
        let argument = Argument::of(subject);
        let bare = plain.as_ref().and_then(|plain| {
            let argument = Argument::of(&Subject { text: &plain.text, ..*subject })?;
            Some((argument, plain.range(&(0..plain.text.len()))))
        });
        for (index, one) in self.awake(seen.and(said)) {
            let Some(threshold) = one.detector.threshold(subject.role) else { continue };
            sightings.clear();
            if let Some(attack) = one.detector.attack() {
                let bare = bare.as_ref().map(|(argument, range)| (argument, range.clone()));
                sightings.extend(attack.sight(argument.as_ref(), bare));
            }
            if plain.is_none() || !one.detector.reads_plain() {
                one.find(index, subject, &places, &mut sightings);
            }
            if let Some(plain) = &plain {
                one.undisguised(index, subject, plain, &plain_places, &mut sightings);
            }
            let own = identified.iter().filter(|found| found.owner == index);
            sightings.extend(own.map(|found| Sighting {
                confidence: found.confidence,
                ..Sighting::visible(found.range.clone(), Severity::Medium)
            }));
            if !sightings.is_empty() {
                tell(one, threshold, &sightings);
            }
        }
    }

    /// As [`Self::scan_within`], for one event of a stream: what began at the end of the text before at the same place, or is
    /// known by what stands there, is seen too, with the range of the part that lies in `text`.
    pub fn scan_event(
        &self,
        subject: &Subject<'_>,
        window: &mut Window,
        budget: &mut Budget,
        out: &mut Vec<Match>,
    ) {
        let before = out.len();
        let Subject { place, text, .. } = *subject;
        self.scan_within(subject, budget, out);
        let tail = window.tail(place);
        // What is shown event by event may be read with a line break between two words.
        let broken = tail.ends_with(char::is_alphanumeric) && text.starts_with(char::is_alphanumeric);
        let ways = if tail.is_empty() { 0 } else { 1 + usize::from(broken) };
        for between in ["", "\n"].into_iter().take(ways) {
            let (cut, start) = (tail.len() + between.len(), window.start_of(text));
            let joined = format!("{tail}{between}{start}");
            let mut both = Vec::new();
            self.scan_within(&Subject { text: &joined, ..*subject }, budget, &mut both);
            for mut found in both.into_iter().filter(|found| found.range.end > cut) {
                // What begins in this text was seen already, unless only what stands before it says what it is. What
                // ends where the look ends may be the half of something.
                let half = found.range.end == joined.len() && start.len() < text.len();
                let inside = found.range.start >= cut;
                found.range = found.range.start.saturating_sub(cut)..found.range.end - cut;
                let known = || out.iter().skip(before).any(|one| is_same(one, &found));
                if !inside || !(half || known()) {
                    out.push(found);
                }
            }
        }
        window.push(place, text);
    }
}

impl Active {
    /// What it sees, as the detector of that number.
    fn find(&self, number: usize, subject: &Subject<'_>, places: &Places, sightings: &mut Vec<Sighting>) {
        if self.detector.wants_places() {
            self.detector.find_at(subject, &places.of(number), sightings);
        } else {
            self.detector.find(subject, sightings);
        }
    }

    /// Adds what only shows without the disguises of a text, at the place where it is hidden.
    fn undisguised(
        &self,
        number: usize,
        subject: &Subject<'_>,
        plain: &Plain,
        places: &Places,
        sightings: &mut Vec<Sighting>,
    ) {
        let mut more = Vec::new();
        self.find(number, &Subject { text: &plain.text, ..*subject }, places, &mut more);
        let before = sightings.len();
        for mut sighting in more {
            sighting.range = plain.range(&sighting.range);
            let known = sightings.iter_mut().find(|known| {
                known.range.start < sighting.range.end && sighting.range.start < known.range.end
            });
            match known {
                Some(known) => known.confidence = known.confidence.max(sighting.confidence),
                None if sighting.range.is_empty() => {}
                None => sightings.push(sighting),
            }
        }
        if sightings.len() > before {
            sightings.sort_by_key(|sighting| sighting.range.start);
        }
    }

    fn looks(&self, direction: Direction) -> bool {
        [Role::Argument, Role::Answer, Role::Definition]
            .into_iter()
            .any(|role| role.direction() == direction && self.detector.threshold(role).is_some())
    }

    fn report(
        &self,
        subject: &Subject<'_>,
        scope: Option<Digest>,
        sighting: &Sighting,
        keys: &Keys,
    ) -> Match {
        let seen = subject.text.get(sighting.range.clone()).unwrap_or_default();
        Match {
            finding: Finding {
                kind: self.name,
                severity: sighting.severity,
                confidence: sighting.confidence,
                place: start_of(subject.place).into(),
                evidence: Digest::of(seen.as_bytes()),
                treatment: self.settings.treatment(subject.role.direction()),
            },
            range: sighting.range.clone(),
            // What describes a tool is nobody's data.
            labels: if subject.role == Role::Definition { words_only(self.labels) } else { self.labels },
            replacement: if sighting.vanishes {
                String::new()
            } else {
                self.form.of(scope, self.name, seen, keys)
            },
        }
    }
}

/// Those that say who wrote it, not what it is about.
fn words_only(labels: Labels) -> Labels {
    labels.both([Label::SeesUntrusted].into_iter().collect())
}

/// Whether two sightings of the same detector overlap.
fn is_same(one: &Match, other: &Match) -> bool {
    one.finding.kind == other.finding.kind
        && one.range.start < other.range.end
        && other.range.start < one.range.end
}
