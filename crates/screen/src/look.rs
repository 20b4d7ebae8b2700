//! The look at every text of a message, and what becomes of it.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use portcullis_core::{
    Digest, Direction, Entropy, Finding, Label, Labels, Limits, Obligations, Severity, Treatment,
};
use portcullis_inspect::{Budget, Inspector, Match, Role, Subject, Verdict, Window, takes, verdict};
use portcullis_mcp::{
    answer::{self, Place},
    json::{Edits, JsonLimits, ValueKind, View, quote, removal, without},
    jsonrpc::Message,
    notice::{self, Notice, Shown},
};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::spread;

/// Bytes of a message from which on looking at it takes so long that nothing else may wait for it.
const LARGE: usize = 262_144;

/// Findings of one call that are recorded; each is treated, recorded or not.
pub const FINDINGS_MAX: usize = 256;
/// More of them, of those that somebody must see at once.
const ALARMS_MAX: usize = 16;

/// What inspection made of a message.
#[derive(Debug)]
pub struct Seen {
    /// What is done with it.
    pub verdict: Verdict,
    /// The message with matches masked, where the verdict says so.
    pub masked: Option<Bytes>,
    /// The labels of what still stands in it.
    pub labels: Labels,
    /// Whether it is refused for where it would go.
    pub abroad: bool,
    /// Whether it is refused because not all of it was read.
    pub unread: bool,
    /// Whether members were left out of it.
    pub dropped: bool,
    /// The detectors for whose finds people are to be asked.
    pub asks: BTreeSet<&'static str>,
}

/// What may become of a message of a server.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// What marks are numbered by. Without it nothing is marked: what would be, passes.
    pub entropy: Option<&'a dyn Entropy>,
    /// Whether members may be left out; they are masked otherwise.
    pub drops: bool,
    /// What becomes of finds that people are to be asked about.
    pub asks: Asks,
    /// Within what its tokens mean something.
    pub scope: Option<Digest>,
}

/// What becomes of finds that people are to be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// They are masked: it cannot wait for people.
    Masked,
    /// People are shown it: of somebody's data nothing, and what an attack would be, or they could not judge it.
    Shown,
    /// It waits.
    Waits,
}

impl Asks {
    /// Whether such a find is masked.
    fn masks(self, found: &Match) -> bool {
        let data: Labels = Label::DATA.iter().copied().collect();
        match self {
            Self::Masked => true,
            Self::Shown => !found.labels.both(data).is_empty(),
            Self::Waits => false,
        }
    }
}

impl Ways<'_> {
    /// Neither marks nor gaps, and no waiting.
    pub const PLAIN: Ways<'static> = Ways { entropy: None, drops: false, asks: Asks::Masked, scope: None };
}

/// Looks at every text of a message. What else runs on this thread goes on elsewhere while a large one is looked at: a
/// server that answers much must not hold up calls to others, their deadlines or the kill switch.
pub fn look(
    inspector: &Inspector,
    direction: Direction,
    message: &Message,
    ways: (&Obligations, Ways<'_>),
    window: Option<&mut Window>,
    findings: &mut Vec<Finding>,
) -> Seen {
    let threads = Handle::try_current().map(|handle| handle.runtime_flavor());
    let aside = message.bytes().len() >= LARGE && matches!(threads, Ok(RuntimeFlavor::MultiThread));
    let look = || search(inspector, direction, message, ways, window, findings);
    if aside { tokio::task::block_in_place(look) } else { look() }
}

fn search(
    inspector: &Inspector,
    direction: Direction,
    message: &Message,
    (obligations, ways): (&Obligations, Ways<'_>),
    window: Option<&mut Window>,
    findings: &mut Vec<Finding>,
) -> Seen {
    let clean = Seen {
        verdict: Verdict::Pass,
        masked: None,
        labels: Labels::NONE,
        abroad: false,
        unread: false,
        dropped: false,
        asks: BTreeSet::new(),
    };
    // Texts are read once more at their borders, which is bounded by itself.
    let mut beside = inspector.budget().within(ways.scope);
    let spread = spread::found(inspector, direction, message, &mut beside);
    let quick = window.is_none() && spread.is_empty() && !beside.is_spent();
    if quick && !inspector.quick(direction, message.bytes(), message.stats().unicode_escapes) {
        return clean;
    }
    let mut search = Search {
        inspector,
        direction,
        obligations,
        ways,
        message,
        window,
        edits: Edits::new(),
        dropped: Vec::new(),
        notice: None,
        warned: BTreeSet::new(),
        asks: BTreeSet::new(),
        before: false,
        worst: Verdict::Pass,
        edited: false,
        labels: Labels::NONE,
        abroad: false,
        budget: inspector.budget().within(ways.scope),
        spread,
        findings,
    };
    // Members that the protocol does not know as well: they are relayed like the others.
    answer::leaves_and_numbers(message.root(), "", |place, kind, leaf| search.leaf(place, kind, leaf));
    let Search {
        mut edits,
        dropped,
        notice,
        warned,
        asks,
        before,
        worst,
        mut edited,
        labels,
        abroad,
        budget,
        ..
    } = search;
    if let Some(notice) = notice {
        notice.mark(message, &warned.into_iter().collect::<Vec<_>>(), before, &mut edits);
        edited = true;
    }
    if !dropped.is_empty() {
        edits = edits.and_without(removal(message.root(), &dropped));
        edited = true;
    }
    let changes = edited && worst != Verdict::Refuse;
    let masked = if changes { edits.apply(message.bytes()).ok() } else { None };
    // What should have been changed and could not be is refused, never let through.
    let must = worst == Verdict::Mask || edited;
    let unread = budget.is_spent() || beside.is_spent();
    let verdict = if unread || (must && masked.is_none()) { Verdict::Refuse } else { worst };
    Seen { verdict, masked, labels, abroad, unread, dropped: !dropped.is_empty(), asks }
}

struct Search<'a> {
    inspector: &'a Inspector,
    direction: Direction,
    obligations: &'a Obligations,
    ways: Ways<'a>,
    message: &'a Message,
    window: Option<&'a mut Window>,
    edits: Edits,
    /// Where members are to be left out, in order.
    dropped: Vec<Range<usize>>,
    /// The mark of this message, once there is something to mark.
    notice: Option<Notice>,
    /// What is warned of.
    warned: BTreeSet<&'static str>,
    /// What people are asked about.
    asks: BTreeSet<&'static str>,
    /// Whether that is to be said before the content.
    before: bool,
    worst: Verdict,
    edited: bool,
    labels: Labels,
    abroad: bool,
    budget: Budget,
    /// What is seen only when several texts are read as one.
    spread: spread::Found,
    findings: &'a mut Vec<Finding>,
}

impl Search<'_> {
    /// What is the protocol's own is not judged, and still no way out for what must not get out.
    fn untouchable(&mut self, place: &str, leaf: View<'_>) {
        let Some(text) = leaf.as_str() else { return };
        let subject = Subject { role: Role::of(self.direction, place), place, text: &text };
        let mut matches = Vec::new();
        self.inspector.watched(&subject, |mut found| {
            found.finding.treatment = Treatment::Refuse;
            matches.push(found);
        });
        if !matches.is_empty() {
            self.worst = Verdict::Refuse;
            self.report(matches);
        }
    }

    /// Keeps what is recorded. No flood of others takes the place of what somebody must see at once.
    fn report(&mut self, matches: Vec<Match>) {
        for Match { finding, .. } in matches {
            let critical = finding.severity == Severity::Critical;
            let room = if critical { FINDINGS_MAX + ALARMS_MAX } else { FINDINGS_MAX };
            if self.findings.len() < room {
                self.findings.push(finding);
            }
        }
    }

    fn leaf(&mut self, place: &str, kind: Place, leaf: View<'_>) {
        // Byte-exact by the specification, opaque to everybody but the server itself.
        let opaque = kind == Place::Value && matches!(place, "/params/requestState" | "/result/requestState");
        if opaque || matches!(place, "/id" | "/jsonrpc" | "/method") {
            return self.untouchable(place, leaf);
        }
        let number = leaf.kind() == ValueKind::Number;
        let text = if number { Some(String::from_utf8_lossy(leaf.raw())) } else { leaf.as_str() };
        let Some(text) = text else { return };
        let mut matches: Vec<Match> = Vec::new();
        let subject = Subject { role: Role::of(self.direction, place), place, text: &text };
        match &mut self.window {
            Some(window) => {
                // The name of a member does not go on where its value ended in the event before.
                let window = if kind == Place::Name { window.names() } else { window };
                self.inspector.scan_event(&subject, window, &mut self.budget, &mut matches);
            }
            None => self.inspector.scan_within(&subject, &mut self.budget, &mut matches),
        }
        if kind == Place::Value {
            let mut more = self.spread.remove(place).unwrap_or_default();
            more.retain(|one| !matches.iter().any(|known| spread::is_same(known, one)));
            matches.append(&mut more);
        }
        if matches.is_empty() {
            return;
        }
        let _ = verdict(self.direction, &mut matches, self.obligations);
        let shown = self.shown(place, kind == Place::Value && !number, subject.role);
        adjust(&mut matches, shown, self.ways);
        let found = verdict(self.direction, &mut matches, &Obligations::default());
        self.worst = self.worst.max(found);
        self.labels = self.labels.with(Inspector::brought(&matches));
        self.abroad |= subject.role.direction() == Direction::Outward
            && matches.iter().any(|found| is_barred(found, self.obligations));
        let drops = matches.iter().any(|one| one.finding.treatment == Treatment::Drop);
        let (mut through, gone) = (None, drops && found != Verdict::Refuse && is_data(place));
        if gone {
            self.dropped.push(leaf.span());
        } else if takes(&matches) && found != Verdict::Refuse {
            // A tool that wants a number gets none where a text takes its place.
            let replaceable = !(number && self.direction == Direction::Inward) && maskable(place);
            let masked = self.masked(&subject, &mut matches);
            // What shows behind a mask, and nobody can be asked about.
            let unasked = asking(&matches).any(|one| self.ways.asks.masks(one));
            through = masked.filter(|_| kind == Place::Value && replaceable && !unasked);
            if through.is_none() {
                self.worst = Verdict::Refuse;
            }
        }
        if !gone {
            self.asks.extend(asking(&matches).map(|one| one.finding.kind));
        }
        self.warn(&matches, shown, &text, &mut through);
        if let Some(through) = through {
            let raw = if number && is_number(&through) { through } else { quote(&through) };
            self.edits.replace(leaf.span(), raw.into_bytes());
            self.edited = true;
        }
        self.report(matches);
    }

    /// What is left of a text. Of one that is JSON itself members are left out; of others the part that was found.
    fn masked(&mut self, subject: &Subject<'_>, matches: &mut Vec<Match>) -> Option<String> {
        let (inspector, obligations) = (self.inspector, self.obligations);
        let dropped = |one: &&Match| one.finding.treatment == Treatment::Drop;
        let mut places: Vec<_> = matches.iter().filter(dropped).map(|one| one.range.clone()).collect();
        if places.is_empty() {
            return inspector.masked(subject, matches, obligations, &mut self.budget);
        }
        places.sort_by_key(|place| (place.start, place.end));
        let limits = JsonLimits::answer(&Limits::default());
        let Some(text) = without(subject.text, &places, &limits) else {
            return inspector.masked(subject, matches, obligations, &mut self.budget);
        };
        let smaller = Subject { text: &text, ..*subject };
        let mut left = Vec::new();
        inspector.scan_within(&smaller, &mut self.budget, &mut left);
        let through = match verdict(self.direction, &mut left, obligations) {
            Verdict::Refuse => None,
            Verdict::Pass | Verdict::Warn | Verdict::Mask | Verdict::Ask if !takes(&left) => Some(text),
            Verdict::Pass | Verdict::Warn | Verdict::Mask | Verdict::Ask => {
                inspector.masked(&smaller, &mut left, obligations, &mut self.budget)
            }
        };
        matches.extend(left.into_iter().filter(|one| one.finding.treatment == Treatment::Ask));
        through
    }

    /// Where a warning about what stands there would be seen.
    fn shown(&self, place: &str, text: bool, role: Role) -> Shown {
        match role {
            // Who reviewed a definition has seen it; a list that differs each time would look changed each time.
            Role::Definition => Shown::Before,
            Role::Argument | Role::Answer => notice::shown(self.message, place, text),
        }
    }

    /// Marks what is warned of.
    fn warn(&mut self, matches: &[Match], shown: Shown, text: &str, through: &mut Option<String>) {
        let warned = matches.iter().filter(|one| one.finding.treatment == Treatment::Warn);
        let kinds: BTreeSet<&'static str> = warned.map(|one| one.finding.kind).collect();
        let Some(entropy) = self.ways.entropy.filter(|_| !kinds.is_empty()) else { return };
        let notice = self.notice.get_or_insert_with(|| {
            let mut random = [0; 16];
            entropy.fill(&mut random);
            Notice::new(u128::from_be_bytes(random))
        });
        match shown {
            Shown::Around => {
                let kinds: Vec<&str> = kinds.iter().copied().collect();
                *through = Some(notice.around(through.as_deref().unwrap_or(text), &kinds));
            }
            Shown::Before => self.before = true,
            Shown::Nowhere => {}
        }
        self.warned.extend(kinds);
    }
}

/// What people are to be asked about.
fn asking(matches: &[Match]) -> impl Iterator<Item = &Match> {
    matches.iter().filter(|one| one.finding.treatment == Treatment::Ask)
}

/// What cannot be done about a find becomes what can: of a warning that nobody would see, a gap where none may be, or a
/// question to people about what cannot wait for them, a mask.
fn adjust(matches: &mut [Match], shown: Shown, ways: Ways<'_>) {
    for one in matches {
        let masked = ways.asks.masks(one);
        let finding = &mut one.finding;
        let unseen = ways.entropy.is_some() && shown == Shown::Nowhere;
        match finding.treatment {
            Treatment::Warn if unseen => finding.treatment = Treatment::Mask,
            Treatment::Drop if !ways.drops => finding.treatment = Treatment::Mask,
            Treatment::Ask if masked => finding.treatment = Treatment::Mask,
            Treatment::Pass
            | Treatment::Warn
            | Treatment::Ask
            | Treatment::Mask
            | Treatment::Drop
            | Treatment::Refuse => {}
        }
    }
}

/// Whether what stands there is a server's own data, of which the protocol says nothing.
fn is_data(place: &str) -> bool {
    ["/result/structuredContent/", "/result/result/structuredContent/", "/params/data/"]
        .iter()
        .any(|data| place.starts_with(data))
}

/// Whether a text is a number as JSON writes it.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all(whole) && all(decimals) && (whole == "0" || !whole.starts_with('0'))
}

/// Whether it may not go where the caller is, not even masked.
fn is_barred(found: &Match, obligations: &Obligations) -> bool {
    obligations.abroad.iter().any(|(label, least)| *least == Treatment::Refuse && found.labels.has(*label))
}

/// Whether a text may be replaced: content, yes; what the protocol itself reads, no.
fn maskable(place: &str) -> bool {
    match place.split('/').nth(1) {
        Some("params") => {
            let protocol = ["/params/name", "/params/uri", "/params/cursor", "/params/_meta", "/params/ref"];
            !protocol.iter().any(|member| place.starts_with(member))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use portcullis_core::Limits;
    use portcullis_inspect::InspectSettings;
    use portcullis_mcp::json::JsonLimits;

    use super::*;

    /// What inspection makes of an answer with these members.
    fn answer(members: &str) -> (Seen, Vec<Finding>) {
        let inspector = Inspector::new(&InspectSettings::default()).unwrap();
        let text = format!("{{\"jsonrpc\":\"2.0\",{members}}}");
        let message = Message::parse(text.into(), &JsonLimits::answer(&Limits::default())).unwrap();
        let mut findings = Vec::new();
        let seen = look(
            &inspector,
            Direction::Outward,
            &message,
            (&Obligations::default(), Ways::PLAIN),
            None,
            &mut findings,
        );
        (seen, findings)
    }

    #[test]
    fn only_the_id_and_the_servers_own_request_state_go_unread_and_nothing_beside_them() {
        let key = ["AKIA", "IOSFODNN7EXAMPLQ"].concat();
        for (members, clean) in [
            (r#""id":1,"result":{"requestState":"KEY"}"#, true),
            (r#""id":1,"result":{"structuredContent":{"requestState":"KEY"}}"#, false),
            (r#""id":1,"result":{},"beside":["KEY"]"#, false),
            (r#""id":"KEY","result":{}"#, true),
            (r#""id":1,"error":{"code":1,"message":"","requestState":"KEY"}"#, false),
        ] {
            assert_eq!(answer(&members.replace("KEY", &key)).1.is_empty(), clean, "{members}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_runs_beside_a_large_message_goes_on_while_it_is_looked_at() {
        let (large, small) = ("key=a1b2 ".repeat(LARGE / 8), "key=a1b2 ".to_owned());
        for (text, goes_on) in [(large, true), (small, false)] {
            let told = tokio::spawn(async move {
                let beside = Arc::new(AtomicBool::new(false));
                let ran = Arc::clone(&beside);
                // On the one thread there is, which this task does not give up before it is done.
                let other = tokio::spawn(async move { ran.store(true, Ordering::SeqCst) });
                answer(&format!(r#""id":1,"result":{{"text":"{text}"}}"#));
                let went_on = beside.load(Ordering::SeqCst);
                other.await.unwrap();
                went_on
            });
            assert_eq!(told.await.unwrap(), goes_on);
        }
    }

    #[test]
    fn a_pattern_that_two_events_cut_in_two_is_seen_in_the_second() {
        let inspector = Inspector::new(&InspectSettings::default()).unwrap();
        let (key, mut window, mut findings) =
            (["AKIA", "IOSFODNN7EXAMPLQ"].concat(), Window::default(), Vec::new());
        let (first, second) = key.split_at(12);
        let mut said = |data: String| {
            let params = serde_json::json!({"level": "info", "data": {"text": data}});
            let text =
                serde_json::json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
            let message =
                Message::parse(text.to_string().into(), &JsonLimits::answer(&Limits::default())).unwrap();
            let obligations = Obligations::default();
            look(
                &inspector,
                Direction::Outward,
                &message,
                (&obligations, Ways::PLAIN),
                Some(&mut window),
                &mut findings,
            )
            .verdict
        };
        let verdicts = [said(format!("begins {first}")), said(format!("{second} ends"))];
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Mask]);
        assert_eq!(findings[0].place, "/params/data/text");
    }

    #[test]
    fn a_card_number_is_masked_in_an_answer_also_where_it_is_a_json_number() {
        let text = r#""id":1,"result":{"structuredContent":{"card":4111111111111111,"n":17}}"#;
        let (seen, findings) = answer(text);
        assert!(seen.masked.unwrap().ends_with(br#"{"card":"[masked:payment_card]","n":17}}}"#));
        assert_eq!(findings[0].place, "/result/structuredContent/card");
    }
}
