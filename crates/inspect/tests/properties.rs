//! What holds for every text: the quick look is sound, masking is idempotent, a cut hides nothing.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{collections::BTreeMap, sync::LazyLock};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD as STANDARD, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD},
};
use portcullis_core::{Direction, Labels, Obligations, Severity, Treatment};
use portcullis_inspect::{
    Budget, CATALOG, DetectorSettings, Form, InspectError, InspectSettings, Inspector, Match, Recogniser,
    Role, Subject, Verdict, Window, learned, mask, verdict,
};
use proptest::prelude::*;

fn inspector() -> &'static Inspector {
    static DEFAULT: LazyLock<Inspector> =
        LazyLock::new(|| Inspector::new(&with_recognisers(InspectSettings::default())).unwrap());
    &DEFAULT
}

/// What an operator may look for as well, in what texts here are made of.
fn with_recognisers(mut settings: InspectSettings) -> InspectSettings {
    let list = |words: &[&str]| words.iter().copied().map(String::from).collect();
    let one = |name, patterns: &[&str], words: &[&str], context: &[&str]| Recogniser {
        name,
        patterns: list(patterns),
        words: list(words),
        context: list(context),
        check: None,
        case: false,
        severity: Severity::Medium,
        labels: Labels::NONE,
    };
    settings.add(vec![
        one("own_number", &[r"\b[0-9]{4,9}\b", r"[a-d]{2,5}-\w{1,8}"], &[], &["order", "call"]),
        one("own_word", &[], &["version", "name,phone", "née"], &[]),
    ]);
    settings
}

fn scan(inspector: &Inspector, text: &str) -> Vec<Match> {
    let mut out = Vec::new();
    inspector.scan(Direction::Outward, "/a", text, &mut out);
    out
}

/// One event of a stream.
fn event(inspector: &Inspector, place: &str, text: &str, window: &mut Window, out: &mut Vec<Match>) {
    let subject = Subject { role: Role::Answer, place, text };
    inspector.scan_event(&subject, window, &mut inspector.budget(), out);
}

/// Everything is masked, whatever the defaults.
fn masking(form: Form) -> &'static Inspector {
    static MASKING: LazyLock<[Inspector; 5]> = LazyLock::new(|| FORMS.map(masks));
    MASKING.get(FORMS.iter().position(|one| *one == form).unwrap()).unwrap()
}

const FORMS: [Form; 5] = [Form::Placeholder, Form::Stars, Form::Pseudonym, Form::Token, Form::Generalise];

fn masks(form: Form) -> Inspector {
    let forms = CATALOG.iter().map(|kind| (kind.name.to_owned(), form)).collect();
    let mask = DetectorSettings { enabled: true, arguments: Treatment::Mask, answers: Treatment::Mask };
    let detectors = CATALOG.iter().map(|kind| (kind.name.to_owned(), mask)).collect();
    let settings = InspectSettings { detectors, forms, ..InspectSettings::default() };
    Inspector::new(&with_recognisers(settings)).unwrap()
}

const TOKEN: &str = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";

/// What identifiers are called, and what parts them from it.
const NAMES: &[&str] = &[
    "ssn ",
    "dob: ",
    "born on ",
    "\"phone\": \"",
    "call ",
    "NHS No: ",
    "NPI ",
    "DEA ",
    "MRN ",
    "member id ",
    "passport no. ",
    "driver license ",
    "iban ",
    "ip=",
    "order ",
    "version ",
    "name,phone\n1,",
    "\n",
    "; ",
    "] ",
    " (mobile)",
    "aadhaar ",
    "lat: ",
    "diagnosis ",
    "plate ",
    "imei ",
];

/// What attacks in arguments are made of.
const ATTACKS: &[&str] = &[
    "../",
    "..\\",
    "%2e%2e%2f",
    "%c0%ae",
    "/etc/passwd",
    "' or 1=1--",
    " union select 1",
    "; id",
    "$(id)",
    "`id`",
    "\n/bin/id",
    "{{7*7}}",
    "${",
    "http://127.1/",
    "file:///",
    "gopher://",
    "{\"$ne\":",
    ")(uid=*",
    "--exec=",
    "=cmd|'x'!A0",
    "<!ENTITY x SYSTEM",
    "rO0AB",
    "O:8:\"x\":1:{",
    "%0d%0aHost:",
    "order by 3",
    "waitfor delay",
    "&lt;",
    "\\x2e",
    "-o",
];

/// Identifiers of every detector that lists them, with check digits that hold.
const IDENTIFIERS: &[&str] = &[
    "536-22-8412",
    "536228412",
    "1933-04-04",
    "04 April 1933",
    "April 4, 1933",
    "+1-877-577-1503x710",
    "(0151) 4960347",
    "+44(0)117 4960407",
    "740.691.4752",
    "08081570480",
    "943 476 5919",
    "1234567893",
    "AM1866447",
    "003984932180",
    "M-2945782",
    "XYZ265346140",
    "C47036419",
    "H386917650639",
    "GB82 WEST 1234 5698 7654 32",
    "DE89370400440532013000",
    "147.191.73.85",
    "2001:db8:85a3::8a2e:370:7334",
    "3c:22:fb:9a:01:7e",
    "AB 12 34 56 C",
    "6FJ6NN5VX81",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "529.982.247-25",
    "2341 2341 2346",
    "12345678Z",
    "RSSMRA85T10A562S",
    "131052-308T",
    "ABCPE1234F",
    "11.222.333/0001-81",
    "1HGCM82633A004352",
    "B-MW 1234",
    "490154203237518",
    "E11.9",
    "52.5200, -13.4050",
];

/// Pieces that detectors look for, halves of them, and what may stand between.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9 .,@_\\-]{0,6}",
        2 => "[0-9]{1,8}",
        2 => "[0-9 \\-]{1,6}",
        1 => any::<char>().prop_map(String::from),
        1 => prop_oneof![Just('\u{200b}'), Just('\u{202e}'), Just('\u{e0041}'), Just('\u{1b}'), Just('\u{8}'),
            Just('\u{c}'), Just('\u{7f}'), Just('\u{9b}'), Just('\\'), Just('"'), Just('/'), Just('\n'), Just('u')]
            .prop_map(String::from),
        1 => Just("4111 1111 1111 1111".to_owned()),
        1 => Just("4111111111111111".to_owned()),
        1 => Just("3782-822463-10005".to_owned()),
        1 => Just("me@example.com".to_owned()),
        1 => Just(format!("ghp_{TOKEN}")),
        1 => Just("password: ".to_owned()),
        1 => Just("api_key=\"".to_owned()),
        1 => Just("Xk29-vQp1mZ07hWq\"".to_owned()),
        1 => Just("https://app:p4ssK9xz@".to_owned()),
        1 => Just(format!("https://hooks.slack.com/services/{TOKEN}")),
        1 => Just("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg".to_owned()),
        1 => proptest::sample::select(ATTACKS).prop_map(str::to_owned),
        2 => proptest::sample::select(NAMES).prop_map(str::to_owned),
        2 => proptest::sample::select(IDENTIFIERS).prop_map(str::to_owned),
        1 => Just("-----BEGIN RSA PRIVATE KEY-----\n".to_owned()),
        1 => Just("\n-----END RSA PRIVATE KEY-----".to_owned()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![8 => piece(), 1 => wrapped(piece())], 0..8)
        .prop_map(|pieces| pieces.concat())
}

/// A text in one of the encodings that are unwrapped.
fn wrapped(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, 0..6_u8).prop_map(|(text, form)| wrap(&text, form))
}

fn wrap(text: &str, form: u8) -> String {
    let bytes = |each: &dyn Fn(u8) -> String| text.bytes().map(each).collect::<String>();
    let chars = |each: &dyn Fn(u32) -> String| text.chars().map(|c| each(u32::from(c))).collect::<String>();
    match form {
        0 => STANDARD.encode(text),
        1 => URL_SAFE_NO_PAD.encode(text),
        2 => bytes(&|byte| format!("{byte:02x}")),
        3 => bytes(&|byte| format!("%{byte:02X}")),
        4 => chars(&|c| format!("&#{c};")),
        _ => chars(&|c| format!("\\u{{{c:x}}}")),
    }
}

/// Writes a JSON string, escaping the characters that `choose` says.
fn written(text: &str, choose: impl Fn(usize, char) -> bool) -> String {
    let mut out = String::from("{\"k\":[1,\"");
    for (index, c) in text.chars().enumerate() {
        match c {
            '/' if choose(index, c) => out.push_str("\\/"),
            _ if choose(index, c) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c => {
                let quoted = serde_json::to_string(&c).unwrap();
                out.push_str(quoted.get(1..quoted.len() - 1).unwrap());
            }
        }
    }
    out.push_str("\"]}");
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_quick_look_never_misses_what_a_scan_finds(text in text(), choice in 0..4_u8, salt in any::<u32>()) {
        let inspector = inspector();
        let raw = written(&text, |index, c| match choice {
            0 => false,
            1 => !c.is_ascii(),
            2 => !c.is_ascii() || "<>&'=/".contains(c),
            _ => (index as u32).wrapping_mul(2_654_435_761).wrapping_add(salt) >> 28 == 0,
        });
        let decoded: serde_json::Value = serde_json::from_str(&raw).unwrap();
        prop_assert_eq!(decoded["k"][1].as_str(), Some(text.as_str()));
        let mut sent = Vec::new();
        inspector.scan(Direction::Inward, "/params/arguments/path", &text, &mut sent);
        if !sent.is_empty() {
            prop_assert!(inspector.quick(Direction::Inward, raw.as_bytes(), raw.contains("\\u")), "{}", raw);
        }
        if !scan(inspector, &text).is_empty() {
            prop_assert!(inspector.quick(Direction::Outward, raw.as_bytes(), true), "{}", raw);
            prop_assert!(inspector.quick(Direction::Outward, raw.as_bytes(), raw.contains("\\u")), "{}", raw);
        }
    }

    #[test]
    fn matches_lie_on_characters_and_masking_leaves_nothing_to_mask(text in text(), form in 0..4_usize) {
        let inspector = masking(FORMS[form]);
        let matches = scan(inspector, &text);
        for one in &matches {
            prop_assert!(text.get(one.range.clone()).is_some_and(|seen| !seen.is_empty()), "{:?}", one);
        }
        let subject = Subject { role: Role::Answer, place: "/a", text: &text };
        let mut all = matches.clone();
        // What is taken away can bring its neighbours together, a few times; then it is refused.
        let once = inspector.masked(&subject, &mut all, &Obligations::default(), &mut inspector.budget());
        prop_assume!(once.is_some());
        let once = once.unwrap();
        prop_assert_eq!(scan(inspector, &once), []);
        if matches.is_empty() {
            prop_assert_eq!(&once, &text);
        }
    }

    #[test]
    fn a_cut_between_two_events_hides_nothing(before in "[a-d ]{0,20}", pick in 0..10_usize, at in 1..18_usize) {
        let whole = ["4111 1111 1111 1111".to_owned(), "password=Xk29-vQp1".to_owned(), "someone@example.com".to_owned(), format!("ghp_{TOKEN}"),
            "\u{200b}\u{200c}\u{200b}\u{200c}\u{200b}\u{200c}".to_owned(), "mrn: 0039849321".to_owned(),
            "dob: 04 April 1933".to_owned(), "+1-877-577-1503".to_owned(), "GB82WEST12345698765432".to_owned(),
            "ssn 536228412".to_owned()][pick].clone();
        let at = (1..=at.min(whole.len() - 1)).rev().find(|at| whole.is_char_boundary(*at));
        prop_assume!(at.is_some());
        let (first, second) = whole.split_at(at.unwrap());
        let inspector = inspector();
        let mut window = Window::default();
        let mut out = Vec::new();
        event(inspector, "/t", &format!("{before} {first}"), &mut window, &mut out);
        // Another place in between does not disturb.
        event(inspector, "/u", "x", &mut window, &mut out);
        let seen = out.len();
        event(inspector, "/t", &format!("{second} and on"), &mut window, &mut out);
        prop_assert!(out.len() > seen || seen > 0, "{:?} | {:?}", first, second);
        for one in &out[seen..] {
            prop_assert!(one.range.end <= second.len() + 7);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn whatever_the_cuts_what_ends_in_an_event_is_found_as_in_the_whole(text in text(), cuts in proptest::collection::vec(0..200_usize, 1..4)) {
        // What a window remembers: beyond it only what stands nearer is known.
        prop_assume!(text.len() <= Window::BYTES);
        let inspector = inspector();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| text.is_char_boundary(*at)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut window = Window::default();
        for pair in cuts.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            let mut out = Vec::new();
            event(inspector, "/a", text.get(start..end).unwrap(), &mut window, &mut out);
            for one in scan(inspector, text.get(..end).unwrap()).iter().filter(|one| one.range.end > start) {
                let part = one.range.start.saturating_sub(start)..one.range.end - start;
                let same = |other: &Match| {
                    other.finding.kind == one.finding.kind && other.range.start < part.end && part.start < other.range.end
                };
                prop_assert!(out.iter().any(same), "{:?} of {:?}, cut at {:?}: {:?}", one, text, cuts, out);
            }
        }
    }

    #[test]
    fn no_reading_of_what_was_masked_holds_the_value(
        value in "[A-Za-z0-9]{36}", before in "[a-z ]{0,12}", after in "[a-z ]{0,12}",
        forms in proptest::collection::vec(0..6_u8, 0..3), form in 0..4_usize,
    ) {
        let secret = format!("ghp_{value}");
        // What repeats itself is an example, not a credential.
        prop_assume!(!scan(inspector(), &secret).is_empty());
        let inner = format!("{before} {secret} {after}");
        let text = forms.iter().fold(inner, |text, form| wrap(&text, *form));
        let inspector = masking(FORMS[form]);
        let subject = Subject { role: Role::Answer, place: "/a", text: &text };
        let mut found = scan(inspector, &text);
        let masked = inspector.masked(&subject, &mut found, &Obligations::default(), &mut inspector.budget());
        prop_assume!(masked.is_some());
        for reading in learned::readings(&learned::Words::default(), &masked.unwrap()) {
            prop_assert!(!reading.contains(&value), "{} in {}", value, reading);
        }
    }
}

#[test]
fn what_is_masked_is_not_there_in_any_encoding_that_is_unwrapped() {
    let inspector = masking(Form::Placeholder);
    let secret = format!("the token is ghp_{TOKEN} and nothing else");
    for outer in 0..6 {
        for inner in 0..6 {
            for text in [wrap(&secret, outer), wrap(&wrap(&secret, inner), outer)] {
                for text in [format!("see ({text}) there"), format!("https://example.com/a/{text}"), text] {
                    let masked = mask(&text, &scan(inspector, &text));
                    // An address goes with all that it holds.
                    let gone =
                        ["[masked:credentials]", "[masked:url]"].iter().any(|mark| masked.contains(mark));
                    assert!(gone, "{outer} {inner}: {text} {masked}");
                    assert_eq!(scan(inspector, &masked), [], "{outer} {inner}: {masked}");
                    let raw = serde_json::to_string(&text).unwrap();
                    assert!(inspector.quick(Direction::Outward, raw.as_bytes(), false), "{raw}");
                }
            }
        }
    }
}

#[test]
fn the_window_is_bounded_in_bytes_and_places() {
    let mut window = Window::new(64);
    let inspector = inspector();
    let mut out = Vec::new();
    for place in 0..1_000 {
        let text = "\u{e9}x".repeat(500);
        event(inspector, &format!("/{place}"), &text, &mut window, &mut out);
    }
    assert!(out.is_empty());
    assert!(format!("{window:?}").len() < Window::PLACES * 300);
}

#[test]
fn the_verdict_is_the_strictest_treatment_and_obligations_only_raise_it() {
    let inspector = inspector();
    let obligations = |treatment| Obligations {
        answers: BTreeMap::from([("email".to_owned(), treatment)]),
        ..Obligations::default()
    };
    let text = "me@example.com and 4111111111111111";
    for (direction, text, obligations, expected) in [
        (Direction::Outward, "nothing", Obligations::default(), Verdict::Pass),
        (Direction::Outward, "me@example.com", Obligations::default(), Verdict::Pass),
        (Direction::Outward, "me@example.com", obligations(Treatment::Mask), Verdict::Mask),
        (Direction::Outward, "me@example.com", obligations(Treatment::Refuse), Verdict::Refuse),
        (Direction::Inward, "me@example.com", obligations(Treatment::Refuse), Verdict::Pass),
        (Direction::Outward, "me@example.com", obligations(Treatment::Ask), Verdict::Ask),
        (Direction::Outward, "me@example.com", obligations(Treatment::Warn), Verdict::Warn),
        (Direction::Outward, "me@example.com", obligations(Treatment::Drop), Verdict::Mask),
        // A card is masked as ever, and people are asked about the address.
        (Direction::Outward, text, obligations(Treatment::Ask), Verdict::Ask),
        (Direction::Outward, "4111111111111111", obligations(Treatment::Ask), Verdict::Mask),
        (Direction::Outward, text, obligations(Treatment::Pass), Verdict::Mask),
        (Direction::Inward, text, Obligations::default(), Verdict::Pass),
        (Direction::Inward, "a\u{202e}b", Obligations::default(), Verdict::Refuse),
        (Direction::Outward, "a\u{202e}b", Obligations::default(), Verdict::Mask),
    ] {
        let mut matches = Vec::new();
        inspector.scan(direction, "", text, &mut matches);
        assert_eq!(verdict(direction, &mut matches, &obligations), expected, "{direction:?} {text}");
    }
    let mut matches = scan(inspector, text);
    verdict(Direction::Outward, &mut matches, &obligations(Treatment::Mask));
    assert_eq!(mask(text, &matches), "[masked:email] and [masked:payment_card]");
    assert!(matches.iter().all(|one| one.finding.treatment == Treatment::Mask && one.finding.place == "/a"));
    let mut matches = scan(inspector, text);
    verdict(Direction::Outward, &mut matches, &obligations(Treatment::Ask));
    assert_eq!(mask(text, &matches), "me@example.com and [masked:payment_card]", "of that, people judge");
}

#[test]
fn a_detector_can_be_switched_off_and_an_unknown_one_is_refused() {
    let mut settings = InspectSettings::default();
    settings.detectors.get_mut("payment_card").unwrap().enabled = false;
    let off = Inspector::new(&settings).unwrap();
    assert!(scan(&off, "4111111111111111").is_empty());
    for (name, one) in &mut settings.detectors {
        one.enabled &= name == "email";
    }
    let email = Inspector::new(&settings).unwrap();
    assert!(!email.quick(Direction::Outward, b"\"4111111111111111\"", false));
    assert!(scan(&email, "ssn 536-22-8412").is_empty());
    let one = settings.detectors["email"];
    settings.detectors.insert("e_mail".to_owned(), one);
    let error = Inspector::new(&settings).err().unwrap();
    assert_eq!(error, InspectError::Unknown { name: "e_mail".to_owned() });
    assert_eq!(error.to_string(), "there is no detector `e_mail`");
}

#[test]
fn a_text_full_of_finds_makes_a_short_list_and_is_masked_whole() {
    let text = "a@b.co ".repeat(100_000);
    let inspector = masking(Form::Placeholder);
    let matches = scan(inspector, &text);
    assert_eq!(matches.len(), Inspector::MATCHES_MAX);
    assert!(!mask(&text, &matches).contains("a@b.co"));
}

#[test]
fn what_hides_more_than_may_be_read_of_a_message_is_known_as_not_read() {
    let bomb = |bytes: usize| {
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&b"now and then ".repeat(bytes / 13), 9);
        STANDARD.encode(packed)
    };
    let inspector = Inspector::new(&InspectSettings::default()).unwrap().bounded(1 << 20);
    // Few bytes, again and again: the sum counts.
    let text = bomb(64_000);
    assert!(text.len() < 600, "{}", text.len());
    let mut budget = inspector.budget();
    let mut read = 0;
    while !budget.is_spent() && read < 1_000 {
        inspector.scan_within(
            &Subject { role: Role::Answer, place: "/a", text: &text },
            &mut budget,
            &mut Vec::new(),
        );
        read += 1;
    }
    assert!((15..=18).contains(&read), "{read}");
    // What was not read is not let through as if it had been.
    let mut found = Vec::new();
    let secret = format!("ghp_{TOKEN}");
    inspector.scan_within(
        &Subject { role: Role::Answer, place: "/a", text: &secret },
        &mut budget,
        &mut found,
    );
    assert!(budget.is_spent() && found.is_empty());
    // A text that leaves something is read whole, one that is longer than the rest is not.
    for (bytes, whole) in [(secret.len() + 1, true), (secret.len() - 1, false)] {
        let (mut budget, mut found) = (Budget::new(bytes), Vec::new());
        inspector.scan_within(
            &Subject { role: Role::Answer, place: "/a", text: &secret },
            &mut budget,
            &mut found,
        );
        assert_eq!((!budget.is_spent(), !found.is_empty()), (whole, whole));
    }
}

/// What a hostile text is made of, over and over.
const HOSTILE: &[&str] = &[
    "eyJ.",
    "eyJ-",
    "ghp_",
    "-----BEGIN RSA PRIVATE KEY-----",
    "a@",
    "@",
    "4-",
    "4 ",
    "4",
    "\u{1b}]",
    "\u{1b}[",
    "\u{200b}a",
    "sk-",
    "SG.=",
    "glc_+",
    "\u{e0041}",
    "fm2_/",
    "-----BEGIN ",
    "key",
    "key=",
    "pwd:a1",
    "token is a ",
    "://a:1b2c3",
    "EAA",
    "1 ",
    "1.",
    "1:",
    "a1-",
    "ssn 1,",
    "a,1\n",
    "(1) ",
    "+44 ",
    "AB 1",
    "12 May ",
    "GB82",
    "mrn ",
    "/a",
    "%41",
    "now ,",
    "{{",
    "; ",
    "\r\n",
];

/// How long a look at a hostile text of that many bytes takes.
fn look_time(unit: &str, bytes: usize) -> std::time::Duration {
    let inspector = inspector();
    let text = unit.repeat(bytes / unit.len());
    let raw = serde_json::to_string(&text).unwrap();
    let start = work_time();
    let found = scan(inspector, &text);
    let quick = inspector.quick(Direction::Outward, raw.as_bytes(), true);
    inspector.scan(Direction::Inward, "/params/arguments/x", &text, &mut Vec::new());
    assert!(quick || found.is_empty(), "{unit:?}");
    work_time() - start
}

/// What this thread has worked so far: what else the machine does is not counted.
fn work_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[test]
fn hostile_texts_take_linear_time() {
    const BYTES: usize = 12_000;
    for unit in HOSTILE {
        // Four times the text takes four times as long, sixteen times where the work is quadratic. What else the machine
        // does disturbs now one and now the other: the least of many looks counts.
        let (mut one, mut four) = (std::time::Duration::MAX, std::time::Duration::MAX);
        let linear = (0..200).any(|_| {
            one = one.min(look_time(unit, BYTES));
            four = four.min(look_time(unit, 4 * BYTES));
            four < one * 9
        });
        assert!(linear, "the look at {unit:?} grows faster than the text: {one:?}, {four:?}");
    }
}
