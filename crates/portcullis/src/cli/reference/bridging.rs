//! The page about what passes between the two revisions, made from the table that decides it.

use std::fmt::Write as _;

use portcullis_mcp::{
    bridge::passage,
    method::{Form, Side, TABLE},
    revision::Era,
};

const INTRODUCTION: &str = "\
A client of either revision reaches a server of either revision; `A → B` means a client of A before a server of B. Which
revision a server speaks is found out by asking it.

| word | meaning |
|---|---|
| straight | passed on as it came |
| translated | passed on in the words of the other revision |
| gateway | dealt with by the gateway itself: lists come from the pinned catalogue, for example |
| refused | has no counterpart on the other side: refused with `bridge.untranslatable`; what names a task with `task.unknown`, since none begins here |
| – | the revision of its sender does not have it |

A question of a server is a request in 2025-11-25 and part of a result (`input_required`) in 2026-07-28; the row of its
method stands for both. A notification of a server that its client did not ask for is recorded with the call
(`bridge.unwanted`).

";

const WAYS: [(Era, Era); 4] = [
    (Era::Legacy, Era::Legacy),
    (Era::Modern, Era::Modern),
    (Era::Legacy, Era::Modern),
    (Era::Modern, Era::Legacy),
];

/// The page.
pub(super) fn page(notice: &str) -> String {
    let mut out = format!("# Between revisions\n\n{notice}{INTRODUCTION}");
    for (title, sender) in [("From the client", Side::Client), ("From the server", Side::Server)] {
        let _ = writeln!(out, "## {title}\n");
        let head: Vec<String> = WAYS.iter().map(|(client, server)| format!("{client} → {server}")).collect();
        let _ = writeln!(out, "| method | kind | {} |\n|---|---|---|---|---|---|", head.join(" | "));
        for row in TABLE.iter().filter(|row| row.from == Side::Both || row.from == sender) {
            let kind = match row.form {
                Form::Notification => "notification",
                Form::Request => "request",
            };
            let ways: Vec<_> =
                WAYS.iter().map(|(client, server)| passage(row, sender, *client, *server).name()).collect();
            let _ = writeln!(out, "| `{}` | {kind} | {} |", row.name, ways.join(" | "));
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
