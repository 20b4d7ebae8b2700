//! What each format makes of a refusal.

use std::sync::Arc;

use super::*;

fn seen(text: &str) -> Seen {
    Seen::read(41, &Arc::from("gateway.example"), text.as_bytes())
}

const REFUSED: &str = r#"{"action":"call_tool","actor":{"id":"key:ann","kind":"user","proof":"api_key","roles":["reader"]},"at":"2025-11-23T22:24:15.001Z","code":"policy.denied","detail":"no rule | allows=it","event":"call.refused","instance":"gateway.example","method":"tools/call","source":"10.1.2.3","status":200,"target":{"kind":"tool","name":"delete","server":"files"},"v":1}"#;

#[test]
fn cef_escapes_what_its_header_and_its_extension_reserve() {
    let line = (Format::named("cef").unwrap().render)(&seen(REFUSED)).remove(0).line();
    assert!(
        line.starts_with(&format!(
            "CEF:0|Portcullis|Portcullis|{VERSION}|call.refused|policy.denied|5|rt=1763936655001 "
        )),
        "{line}"
    );
    assert!(
        line.contains("suid=key:ann") && line.contains("src=10.1.2.3") && line.contains("allows\\=it"),
        "{line}"
    );
    assert!(line.contains("cs1Label=target cs1=delete"), "{line}");
}

#[test]
fn leef_keeps_its_tabs_for_itself() {
    let line =
        (Format::named("leef").unwrap().render)(&seen(&REFUSED.replace("no rule", r"a\tb"))).remove(0).line();
    let (head, rest) = line.split_at(line.find("x09|").unwrap() + 4);
    assert_eq!(head.matches('|').count(), 6);
    assert!(rest.split('\t').all(|pair| pair.contains('=')), "{rest}");
    assert!(!rest.contains('|'), "{rest}");
}

#[test]
fn a_refusal_is_api_activity_that_was_denied_and_a_finding_stands_beside_it() {
    let render = Format::named("ocsf").unwrap().render;
    let found = REFUSED.replace(
        r#""v":1"#,
        r#""findings":[{"kind":"injection","severity":"high","place":"/a","treatment":"refuse"}],"v":1"#,
    );
    let both = render(&seen(&found));
    let [Body::Json(first), Body::Json(second)] = both.as_slice() else { panic!("{both:?}") };
    assert_eq!(
        (&first["class_uid"], &first["type_uid"], &first["action_id"]),
        (&6003.into(), &600_399.into(), &2.into())
    );
    assert_eq!(
        (&second["class_uid"], &second["finding_info"]["types"][0]),
        (&2004.into(), &"injection".into())
    );
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    let nobody =
        render(&seen(r#"{"event":"call.refused","code":"auth.missing","at":"2025-11-23T22:24:15.001Z"}"#));
    let [Body::Json(one)] = nobody.as_slice() else { panic!("{nobody:?}") };
    assert_eq!((&one["class_uid"], &one["user"]["uid"]), (&3002.into(), &"unknown".into()));
}

#[test]
fn ecs_has_a_time_an_outcome_and_the_whole_entry() {
    let Body::Json(one) = (Format::named("ecs").unwrap().render)(&seen(REFUSED)).remove(0) else { panic!() };
    assert_eq!(one["@timestamp"], "2025-11-23T22:24:15.001Z");
    assert_eq!(one["event"]["outcome"], "failure");
    assert_eq!(one["user"]["id"], "key:ann");
    assert_eq!(one["portcullis"]["code"], "policy.denied");
}
