//! What works on recorded calls: they are read from the ledger of the running gateway.

use std::{collections::BTreeMap, path::Path};

use clap::{Args, ValueEnum};
use portcullis_admin::api::{EntryList, EntryQuery, ExplainQuestion, Explained};
use portcullis_policy::{Recorded, Verdict, to_yaml};
use serde_json::{Value, json};

use super::files;
use crate::cli::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable, table},
};

/// Entries in one answer.
const PAGE: u64 = 1_000;
/// Recorded calls that one command looks at.
const CALLS_MAX: usize = 1_000_000;

/// Which calls.
#[derive(Args, Clone, Debug)]
pub(crate) struct Span {
    /// Not before (RFC 3339, UTC; a date alone will do)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before (RFC 3339, UTC)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Id of the caller, or a part of it
    #[arg(long, value_name = "ID")]
    caller: Option<String>,
    /// The server
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
}

/// What `policy learn` makes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum By {
    /// A role for each caller
    Caller,
    /// Each role, narrowed
    Role,
}

fn query(span: Span) -> EntryQuery {
    let Span { since, until, caller, server } = span;
    EntryQuery {
        from: Some(0),
        last: None,
        limit: Some(PAGE),
        event: Some(String::from("call.*")),
        caller,
        server,
        tool: None,
        code: None,
        since,
        until,
        wait_ms: None,
    }
}

/// Decisions of policy, in the order of the ledger.
fn calls(common: &Common, span: Span) -> Result<Vec<Recorded>, Failure> {
    let client = Client::connect(common)?;
    let (mut query, mut out) = (query(span), Vec::new());
    loop {
        let list: EntryList = client.ask("list_entries", "", Some(&query), NONE)?;
        out.extend(list.entries.iter().filter_map(|row| Recorded::of(row.index, &row.entry)));
        if out.len() > CALLS_MAX {
            let text = format!(
                "more than {CALLS_MAX} calls\nhint: choose fewer with --since, --until, --caller or --server"
            );
            return Err(Failure::refused(text));
        }
        let before = query.from.replace(list.next);
        if list.next >= list.size || before == Some(list.next) {
            return Ok(out);
        }
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow => String::from("allow"),
        Verdict::Approval => String::from("approval"),
        Verdict::Deny => String::from("deny"),
        Verdict::Depends(policies) => format!("depends on {}", policies.join(", ")),
    }
}

pub(super) fn simulate(
    common: &Common,
    candidate: &Path,
    span: Span,
    output: &Output,
) -> Result<(), Failure> {
    let (_, policies) = files::load(candidate, common.config.as_deref())?;
    let found = portcullis_policy::simulate(&policies, &calls(common, span)?);
    output.show(&found, |found| {
        let rows: Vec<Vec<String>> = found
            .shifts
            .iter()
            .map(|shift| {
                let index = format!("{}..{}", shift.first, shift.last);
                let (recorded, said) = (shift.recorded.to_owned(), word(&shift.candidate));
                let (caller, action) = (shift.caller.clone(), shift.action.to_owned());
                vec![caller, action, shift.target.clone(), recorded, said, shift.calls.to_string(), index]
            })
            .collect();
        let heads = ["caller", "action", "target", "recorded", "candidate", "calls", "index"];
        let rows = if rows.is_empty() { String::new() } else { format!("{}\n", table(&heads, &rows)) };
        printable(&format!("{rows}{} calls, {} decided as before", found.calls, found.same))
    });
    Ok(())
}

pub(super) fn learn(common: &Common, by: By, span: Span, output: &Output) -> Result<(), Failure> {
    let by = match by {
        By::Caller => portcullis_policy::By::Caller,
        By::Role => portcullis_policy::By::Role,
    };
    let calls = calls(common, span)?;
    let yaml = to_yaml(&portcullis_policy::learn(&calls, by));
    output.show(&json!({ "calls": calls.len(), "yaml": yaml }), |_| {
        printable(&format!(
            "# Proposed from {} recorded calls. What was not used is not in it, nor are masks, refusals and conditions of the\n\
             # rules in force, of which the ledger does not tell: carry them over.\n{yaml}",
            calls.len()
        ))
    });
    Ok(())
}

pub(super) fn shadow(common: &Common, span: Span, output: &Output) -> Result<(), Failure> {
    let calls = calls(common, span)?;
    let mut groups: BTreeMap<[String; 6], (u64, u64)> = BTreeMap::new();
    for call in &calls {
        let Some((said, policies)) = &call.shadow else { continue };
        let (caller, target) = (call.caller.id.to_string(), call.target.to_string());
        let (action, live) = (call.action.name().to_owned(), call.effect().to_owned());
        let key = [caller, action, target, live, said.clone(), policies.join(", ")];
        let (count, last) = groups.entry(key).or_default();
        (*count, *last) = (*count + 1, call.index);
    }
    let rows: Vec<Value> = groups
        .iter()
        .map(|([caller, action, target, live, said, policies], (count, last))| {
            json!({ "caller": caller, "action": action, "target": target, "in_force": live, "candidate": said,
                "policies": policies, "calls": count, "last": last })
        })
        .collect();
    output.show(&json!({ "calls": calls.len(), "differences": rows }), |_| {
        let line = |(key, (count, last)): (&[String; 6], &(u64, u64))| {
            key.iter().cloned().chain([count.to_string(), last.to_string()]).collect()
        };
        let rows: Vec<Vec<String>> = groups.iter().map(line).collect();
        let heads =
            ["caller", "action", "target", "in force", "candidate", "policies", "calls", "last index"];
        let rows = if rows.is_empty() { String::new() } else { format!("{}\n", table(&heads, &rows)) };
        printable(&format!("{rows}{} calls, {} kinds of difference", calls.len(), groups.len()))
    });
    Ok(())
}

/// A decision of the past, and what the policies in force say of it today.
pub(super) fn explain(
    common: &Common,
    index: u64,
    arguments: Option<Value>,
    output: &Output,
) -> Result<(), Failure> {
    let (call, recorded, today) = again(common, index, arguments)?;
    output.show(&json!({ "recorded": recorded, "today": today }), |_| {
        let code = call.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        let by = if call.policies.is_empty() { "no policy".to_owned() } else { call.policies.join(", ") };
        printable(&format!(
            "entry {index}, {}: {}{code} by {by}\n`{}` with roles {} asked for {} `{}`, under rules {}\n\n\
             the policies of today, without arguments, claims and scopes, which the ledger does not keep:\n{}",
            call.at,
            call.effect(),
            call.caller.id,
            call.caller.roles.join(", "),
            call.action,
            call.target,
            call.rules,
            today.text
        ))
    });
    Ok(())
}

/// A recorded call, what was decided then, and what the policies in force say of it today.
fn again(
    common: &Common,
    index: u64,
    arguments: Option<Value>,
) -> Result<(Recorded, Value, Explained), Failure> {
    let client = Client::connect(common)?;
    let one = EntryQuery { from: Some(index), limit: Some(1), event: None, ..query(Span::NONE) };
    let list: EntryList = client.ask("list_entries", "", Some(&one), NONE)?;
    let row = list.entries.into_iter().find(|row| row.index == index);
    let Some(row) = row else { return Err(Failure::refused(format!("there is no entry {index}"))) };
    let Some(call) = Recorded::of(index, &row.entry) else {
        let text = format!(
            "entry {index} is no decision about a call\nhint: `portcullis audit query --event 'call.*'`"
        );
        return Err(Failure::refused(text));
    };
    let (kind, name) = call.target.item.clone().unzip();
    let text = |pointer: &str| row.entry.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let question = ExplainQuestion {
        key: None,
        roles: Some(call.caller.roles.to_vec()),
        caller: Some(call.caller.id.to_string()),
        claims: None,
        actors: Some(call.caller.actors.to_vec()),
        action: Some(call.action.name().to_owned()),
        server: call.target.server.to_string(),
        kind: kind.map(|kind| kind.name().to_owned()),
        name: name.map(|name| name.to_string()),
        arguments,
        era: text("/era"),
        caller_kind: text("/actor/kind"),
        at: Some(call.at.clone()),
        source_ip: text("/source"),
        seen: None,
    };
    let today: Explained = client.ask("explain_policy", "", NONE, Some(&question))?;
    let recorded = json!({
        "index": index, "at": call.at, "effect": call.effect(), "code": call.code, "policies": call.policies,
        "rules": call.rules, "caller": &*call.caller.id, "roles": &*call.caller.roles,
        "action": call.action.name(), "target": call.target.to_string(),
    });
    Ok((call, recorded, today))
}

/// A recorded call, decided again: by the policies in force, and by a candidate.
pub(super) fn replay(
    common: &Common,
    index: u64,
    candidate: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let (call, recorded, today) = again(common, index, None)?;
    let verdict = match candidate {
        Some(path) => {
            let (_, policies) = files::load(path, common.config.as_deref())?;
            let found = portcullis_policy::simulate(&policies, std::slice::from_ref(&call));
            let shift = found.shifts.first();
            // What is no shift is decided as it was.
            Some(shift.map_or_else(|| call.effect().to_owned(), |shift| word(&shift.candidate)))
        }
        None => None,
    };
    let differs = verdict.as_ref().map(|said| said != call.effect());
    let unknown = ["arguments", "claims", "scopes"];
    let answer = json!({
        "recorded": recorded, "today": today, "candidate": verdict, "candidate_differs": differs, "not_in_the_ledger": unknown,
    });
    output.show(&answer, |_| {
        let code = call.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        let by = if call.policies.is_empty() { "no policy".to_owned() } else { call.policies.join(", ") };
        let mut out = format!(
            "entry {index}, {}: `{}` asked for {} `{}`\nthen       {}{code} by {by}, under rules {}\n",
            call.at,
            call.caller.id,
            call.action,
            call.target,
            call.effect(),
            call.rules
        );
        if let Some(verdict) = &verdict {
            let mark = if differs == Some(true) { "   <- another decision" } else { "" };
            out.push_str(&format!("candidate  {verdict}{mark}\n"));
        }
        out.push_str(&format!("today      {}\n", today.text.trim_end().replace('\n', "\n           ")));
        out.push_str(
            "not replayed: arguments, claims and scopes, of which the ledger keeps digests or nothing",
        );
        printable(&out)
    });
    Ok(())
}

impl Span {
    const NONE: Self = Self { since: None, until: None, caller: None, server: None };
}
