//! A report of an incident, filled from a case, with the parts that NIST SP 800-61 asks for. What a program cannot know is left
//! to a person, and says so.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::{Graph, Kind, Timeline, bundle::Custody};

/// Lines of the time line that stand in the report; the rest is in the bundle.
const STEPS_MAX: usize = 200;
/// What a person has to write.
const PERSON: &str = "_To be written by a person._";

/// The report of a case, in Markdown.
#[must_use]
pub fn report(custody: &Custody<'_>, timeline: &Timeline, graph: &Graph) -> String {
    let mut out = format!("# Incident report: {}\n\n", plain(custody.case));
    let _ = writeln!(
        out,
        "Made {} by {} with {}. Facts are from the ledger; indices in brackets are entries of it.\n",
        custody.at,
        plain(custody.by),
        plain(custody.program)
    );
    summary(&mut out, timeline);
    let _ = writeln!(out, "## 2 Preparation\n\nRules in force (configuration and policy, by digest):\n");
    for used in &timeline.rules {
        let _ =
            writeln!(out, "- {}: {} calls [{} to {}]", code(&used.digest), used.calls, used.first, used.last);
    }
    let _ = writeln!(out, "\nRoles, playbooks and contacts: {PERSON}\n");
    analysis(&mut out, timeline, graph);
    containment(&mut out, timeline);
    let _ = writeln!(
        out,
        "## 5 Eradication and recovery\n\nRoot cause, what was removed, when service was as before: {PERSON}\n"
    );
    let _ = writeln!(
        out,
        "## 6 Post-incident activity\n\nWhat will be done another way, by whom, until when: {PERSON}\n"
    );
    let _ = writeln!(
        out,
        "## 7 Evidence and its custody\n\n`entries/`, `proofs/` and `checkpoint` of this bundle; `README.md` says how a stranger checks them, `custody.md` who had them.\n"
    );
    let _ = writeln!(
        out,
        "## 8 Notifications\n\nWhom the law or a contract wants to be told, and until when (GDPR Art. 33: 72 hours after becoming aware): {PERSON}"
    );
    out
}

fn summary(out: &mut String, timeline: &Timeline) {
    let when = match (&timeline.from, &timeline.to) {
        (Some(from), Some(to)) => format!("{from} to {to}"),
        _ => "nothing was found".to_owned(),
    };
    let _ = writeln!(
        out,
        "## 1 Summary\n\n| | |\n|---|---|\n| when | {when} |\n| calls | {} |\n| refused | {} |\n| without an outcome | {} |\n| callers | {} |\n",
        timeline.calls,
        timeline.refused,
        timeline.open,
        list(timeline.callers.iter())
    );
    let _ = writeln!(
        out,
        "What happened, in two sentences: {PERSON}\n\nSeverity and impact (functional, information, recoverability): {PERSON}\n"
    );
}

fn analysis(out: &mut String, timeline: &Timeline, graph: &Graph) {
    let _ = writeln!(
        out,
        "## 3 Detection and analysis\n\n### Who touched what\n\n| who | what | allowed | refused | with findings | first | last |\n|---|---|---|---|---|---|---|"
    );
    for edge in &graph.edges {
        let touch = &edge.touch;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            code(&edge.from.name),
            code(&edge.to.name),
            touch.allowed,
            touch.refused,
            touch.findings,
            touch.first,
            touch.last
        );
    }
    let found: BTreeSet<&String> = timeline
        .steps
        .iter()
        .flat_map(|step| {
            step.findings.iter().chain(step.outcome.iter().flat_map(|outcome| &outcome.findings))
        })
        .collect();
    let _ = writeln!(out, "\n### Indicators\n\n- findings: {}", list(found.into_iter()));
    let codes: BTreeSet<&String> = timeline.steps.iter().filter_map(|step| step.code.as_ref()).collect();
    let _ = writeln!(out, "- codes of refusals: {}", list(codes.into_iter()));
    for used in &timeline.definitions {
        let _ = writeln!(
            out,
            "- definition {} of {}: {} calls [{} to {}]",
            code(&used.digest),
            code(&used.of),
            used.calls,
            used.first,
            used.last
        );
    }
    steps(out, timeline);
    let _ = writeln!(out, "\nHow it was noticed, by whom, when: {PERSON}\n");
}

fn steps(out: &mut String, timeline: &Timeline) {
    let _ = writeln!(
        out,
        "\n### Time line\n\n| entry | at | who | what | decided | came of it |\n|---|---|---|---|---|---|"
    );
    for step in timeline.steps.iter().take(STEPS_MAX) {
        let what =
            if step.kind == Kind::Call { step.what.clone() } else { format!("{} {}", step.event, step.what) };
        let decided = step.code.clone().or(step.decision.clone()).unwrap_or_default();
        let came = match &step.outcome {
            Some(outcome) => {
                outcome.code.clone().or(outcome.error.clone()).unwrap_or_else(|| "answered".to_owned())
            }
            None if step.event == "call.intent" => "no outcome: it may have happened".to_owned(),
            None => String::new(),
        };
        let who = step.who.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            step.index,
            step.at,
            code(who),
            code(&what),
            plain(&decided),
            plain(&came)
        );
    }
    let more = timeline.steps.len().saturating_sub(STEPS_MAX);
    if more > 0 {
        let _ = writeln!(
            out,
            "\n{more} more steps: `portcullis audit timeline` with the search of `manifest.json`."
        );
    }
}

fn containment(out: &mut String, timeline: &Timeline) {
    let _ = writeln!(out, "## 4 Containment\n\nOn record in the same time:\n");
    let contained = [
        "kill.",
        "key.revoked",
        "grant.revoked",
        "connection.revoked",
        "definition.rejected",
        "secret.rotated",
        "config.changed",
    ];
    let mut any = false;
    for step in
        timeline.steps.iter().filter(|step| contained.iter().any(|start| step.event.starts_with(start)))
    {
        any = true;
        let by = step.who.as_deref().unwrap_or("the gateway");
        let _ = writeln!(
            out,
            "- {} {} {} by {} [{}]",
            step.at,
            plain(&step.event),
            code(&step.what),
            code(by),
            step.index
        );
    }
    if !any {
        let _ = writeln!(out, "- nothing was stopped, revoked, rejected or rotated");
    }
    let _ = writeln!(out, "\nWhat else was done: {PERSON}\n");
}

fn list<'t>(all: impl Iterator<Item = &'t String>) -> String {
    let all: Vec<String> = all.map(|one| code(one)).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// A name that callers or servers chose, as it is and nothing else: no markup, no new cell, no link.
fn code(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("`{}`", plain(name)) }
}

fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '|' | '`' | '<' | '>' | '[' | ']' => '?',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Hit;

    #[test]
    fn a_report_has_every_part_and_no_name_becomes_markup() {
        let entry = json!({"event": "call.refused", "at": "2026", "code": "policy.denied", "actor": {"id": "a|b`<script>"},
            "target": {"server": "s", "name": "[x](http://evil)"}, "findings": [{"kind": "email", "severity": "low", "treatment": "refuse"}]});
        let hits = [Hit { index: 7, entry }];
        let custody =
            Custody { case: "2026-7\n# fake", at: "2026", by: "anna", program: "portcullis", entry: None };
        let text = report(&custody, &Timeline::of(&hits, &[]), &Graph::of(&hits));
        for part in [
            "## 1 Summary",
            "## 2 Preparation",
            "## 3 Detection and analysis",
            "## 4 Containment",
            "## 5 Eradication",
            "## 6 Post-incident",
            "## 7 Evidence",
            "## 8 Notifications",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.contains("email (low, refuse)") && text.contains("nothing was stopped"), "{text}");
        assert!(
            !text.contains("<script>") && !text.contains("](http") && !text.contains("\n# fake"),
            "{text}"
        );
    }
}
