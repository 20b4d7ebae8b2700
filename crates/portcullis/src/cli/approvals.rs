//! `portcullis approval`: calls that wait for people.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use portcullis_admin::api::{Approval as View, ApprovalList, ApprovalQuery, ApprovalVerdict};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable, table},
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis approval list
  portcullis approval show apr_k3jd92mfp01xq7ab
  portcullis approval approve apr_k3jd92mfp01xq7ab --key-file ~/.portcullis/key --reason 'CHG-1311'
  portcullis approval deny apr_k3jd92mfp01xq7ab --key-file ~/.portcullis/key

Who answers shows an API key of a person (`key create NAME --role ROLE --user`) with a role that the policy names.
Nobody answers what it asks for itself, and each key counts once.";

/// Calls that wait for people.
#[derive(Debug, Subcommand)]
pub(crate) enum Approval {
    /// List what waits, is approved and not made yet, or denied
    #[command(after_help = "Example:\n  portcullis approval list --all --json")]
    List {
        /// What is over or used up, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        person: Person,
    },
    /// Show one call: arguments, definition, findings, who asks, what people said
    #[command(after_help = "Example:\n  portcullis approval show apr_k3jd92mfp01xq7ab")]
    Show {
        /// Its id, as `approval list` shows it
        id: String,
        #[command(flatten)]
        person: Person,
    },
    /// Say yes to exactly this call, once
    #[command(
        after_help = "Example:\n  portcullis approval approve apr_k3jd92mfp01xq7ab --key-file ~/.portcullis/key --reason 'CHG-1311'"
    )]
    Approve(Answer),
    /// Say no: the same call is refused until the question ends
    #[command(
        after_help = "Example:\n  portcullis approval deny apr_k3jd92mfp01xq7ab --key-file ~/.portcullis/key"
    )]
    Deny(Answer),
}

/// Who asks.
#[derive(Args, Debug)]
pub(crate) struct Person {
    /// File with the API key of who asks [default: the admin token, which sees all and answers nothing]
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_KEY_FILE")]
    key_file: Option<PathBuf>,
}

/// A yes or a no.
#[derive(Args, Debug)]
pub(crate) struct Answer {
    /// Id of the question
    id: String,
    /// Why; kept in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    person: Person,
}

pub(super) fn carry_out(common: &Common, command: Approval, output: &Output) -> Result<(), Failure> {
    let connect = |person: Person| Client::connect_as(common, person.key_file);
    let answer = |name: &str, Answer { id, reason, person }: Answer| -> Result<(), Failure> {
        let verdict = ApprovalVerdict { id, reason };
        let view: View = connect(person)?.ask(name, "", NONE, Some(&verdict))?;
        output.show(&view, |view| format!("{} is {}", view.id, standing(view)));
        Ok(())
    };
    match command {
        Approval::List { all, person } => {
            let query = ApprovalQuery { all: Some(all) };
            let list: ApprovalList = connect(person)?.ask("list_approvals", "", Some(&query), NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list.approvals.iter().map(row).collect();
                table(&["id", "state", "caller", "what", "arguments", "expires"], &rows)
            });
            Ok(())
        }
        Approval::Show { id, person } => {
            let view: View = connect(person)?.ask("show_approval", &id, NONE, NONE)?;
            output.show(&view, |view| printable(&whole(view)));
            Ok(())
        }
        Approval::Approve(said) => answer("approve_call", said),
        Approval::Deny(said) => answer("deny_call", said),
    }
}

fn standing(view: &View) -> String {
    match (view.state.as_str(), view.people) {
        ("open", people) if people > 1 => format!("open ({} of {people})", view.given),
        (state, _) => state.to_owned(),
    }
}

fn row(view: &View) -> Vec<String> {
    let arguments: String = view.arguments.as_deref().unwrap_or("(withheld)").chars().take(40).collect();
    let what = format!("{} {}/{}", view.kind, view.server, view.name);
    vec![view.id.clone(), standing(view), view.caller.clone(), what, arguments, view.expires.clone()]
}

fn whole(view: &View) -> String {
    let mut lines = vec![
        format!("{}: {}", view.id, standing(view)),
        format!("{} {}/{}", view.kind, view.server, view.name),
        format!("asked by     {}", view.caller),
    ];
    if !view.actors.is_empty() {
        lines.push(format!("through      {}", view.actors.join(", ")));
    }
    if let Some(owner) = &view.owner {
        lines.push(format!("owner        {owner}"));
    }
    if let Some(definition) = &view.definition {
        lines.push(format!("definition   {definition}"));
    }
    lines.push(format!("asked        {}", view.created));
    lines.push(format!("ends         {}", view.expires));
    let roles: Vec<String> = view.roles.iter().map(|any| any.join(" or ")).collect();
    let confirms = if view.by_caller { "; the caller may confirm it itself" } else { "" };
    lines.push(format!("takes        {} of role {}{confirms}", view.people, roles.join(" and ")));
    for finding in &view.findings {
        let (detector, severity, place) = (&finding.detector, &finding.severity, &finding.place);
        let sure = finding.confidence;
        lines.push(format!(
            "finding      {detector} ({severity}, {sure} of 1000 sure) at {place}: {}",
            finding.treatment
        ));
    }
    for said in &view.answers {
        lines.push(format!("said         {} by {} at {} {}", said.answer, said.by, said.at, said.reason));
    }
    if let Some(digest) = &view.answer_digest {
        let note = if view.answer_complete { "" } else { "; NOT ALL of it is shown" };
        lines.push(format!(
            "answer       {} bytes, {digest}{note}; it waits, the call was made",
            view.answer_bytes
        ));
        lines.push(view.answer.clone().unwrap_or_else(|| String::from("(withheld)")));
    }
    let (bytes, digest) = (view.arguments_bytes, &view.arguments_digest);
    let note = if view.arguments_complete { "" } else { "; NOT ALL of them is shown" };
    lines.push(format!("arguments    {bytes} bytes, {digest}{note}"));
    lines.push(
        view.arguments.clone().unwrap_or_else(|| String::from("(withheld: policy lets nobody see them)")),
    );
    lines.join("\n")
}
