//! Calls that wait for people: what is asked, and the answers of those who hold a key with a role that may answer.

use portcullis_approve::{AnswerError, HookError, REASON_BYTES_MAX};
use portcullis_store::{ApprovalRow, ApprovalState};
use serde_json::Value;

use super::{By, Control, Input};
use crate::{problem::Problem, wire::wire};

wire! { question
    /// Which questions.
    ApprovalQuery {
        /// Those that are over or used up, too.
        all: Option<bool>,
    }
}

wire! { question
    /// A yes or a no.
    ApprovalVerdict {
        /// The question, by id.
        id: String,
        /// Why; kept in the ledger.
        reason: Option<String>,
    }
}

wire! { question
    /// The answer of a user of a chat system.
    ApprovalAnswer {
        /// `approval.answer`: no other signed message counts as one.
        kind: String,
        /// The question, by id.
        approval: String,
        /// The user, as configuration names it.
        user: String,
        /// `yes` or `no`.
        answer: String,
        /// Why; kept in the ledger.
        reason: Option<String>,
    }
}

wire! { answer
    /// What a detector saw in the arguments.
    ApprovalFinding {
        /// The detector.
        detector: String,
        /// `info`, `low`, `medium`, `high` or `critical`.
        severity: String,
        /// How sure, of 1,000.
        confidence: u64,
        /// Where: a JSON pointer into the message.
        place: String,
        /// What is done about it.
        treatment: String,
    }
}

wire! { answer
    /// What one person said.
    ApprovalSaid {
        /// Who.
        by: String,
        /// `yes` or `no`.
        answer: String,
        /// By which way.
        via: String,
        /// Why.
        reason: String,
        /// When (RFC 3339).
        at: String,
    }
}

wire! { answer
    /// A call that waits for people, and how it stands.
    Approval {
        /// Its name.
        id: String,
        /// `open`, `approved` (and not made yet), `denied`, `redeemed` (made) or `expired`.
        state: String,
        /// Who asks.
        caller: String,
        /// Who acts for who asks, the nearest first.
        actors: Vec<String>,
        /// Who answers for the program that asks.
        owner: Option<String>,
        /// The server.
        server: String,
        /// `tool`, `prompt`, `resource` or `template`.
        kind: String,
        /// Name or URI.
        name: String,
        /// Digest of the pinned definition. Where that changes, the approval does not count any more.
        definition: Option<String>,
        /// The arguments as JSON text, masked as policy masks answers; nothing where they must not be shown at all.
        arguments: Option<String>,
        /// Whether these are all of them.
        arguments_complete: bool,
        /// Bytes of the arguments as they are sent.
        arguments_bytes: u64,
        /// SHA-256 of the arguments as they are sent.
        arguments_digest: String,
        /// The answer of the call as JSON text, masked likewise, where the call was made and its answer waits.
        answer: Option<String>,
        /// Whether that is all of it.
        answer_complete: bool,
        /// Bytes of the answer as it would be let through.
        answer_bytes: u64,
        /// SHA-256 of it.
        answer_digest: Option<String>,
        /// What detectors saw in them.
        findings: Vec<ApprovalFinding>,
        /// How many people must say yes.
        people: u64,
        /// How many did.
        given: u64,
        /// Whoever answers has a role of each of these lists.
        roles: Vec<Vec<String>>,
        /// Whether the person behind the caller may confirm it in the client.
        by_caller: bool,
        /// The policies that permit it once it is approved.
        policies: Vec<String>,
        /// When it was asked (RFC 3339).
        created: String,
        /// When question and approval end.
        expires: String,
        /// When the call was made.
        redeemed: Option<String>,
        /// What people said.
        answers: Vec<ApprovalSaid>,
    }
}

wire! { answer
    /// Calls that wait for people.
    ApprovalList {
        /// Oldest first.
        approvals: Vec<Approval>,
    }
}

impl Control {
    fn approval_view(&self, row: &ApprovalRow) -> Approval {
        let asked = &row.asked;
        let question: Value = serde_json::from_str(&asked.question).unwrap_or_default();
        let text = |name: &str| question.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let list = |name: &str| question.get(name).and_then(Value::as_array).into_iter().flatten();
        let demand = &asked.demand;
        Approval {
            id: asked.id.clone(),
            state: row.state(self.parts.clock.now()).name().to_owned(),
            caller: asked.caller.clone(),
            actors: asked.askers.iter().skip(1).cloned().collect(),
            owner: text("owner"),
            server: text("server").unwrap_or_default(),
            kind: text("kind").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            definition: text("definition"),
            arguments: text("arguments"),
            answer: text("answer"),
            answer_complete: question.get("answer_complete") == Some(&Value::Bool(true)),
            answer_bytes: question.get("answer_bytes").and_then(Value::as_u64).unwrap_or_default(),
            answer_digest: text("answer_digest"),
            arguments_complete: question.get("arguments_complete") == Some(&Value::Bool(true)),
            arguments_bytes: question.get("arguments_bytes").and_then(Value::as_u64).unwrap_or_default(),
            arguments_digest: text("arguments_digest").unwrap_or_default(),
            findings: list("findings").map(finding).collect(),
            people: demand.people.into(),
            given: row.given() as u64,
            roles: demand.roles.iter().map(|any| any.iter().cloned().collect()).collect(),
            by_caller: demand.by_caller,
            policies: list("policies").filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
            created: asked.created.to_string(),
            expires: asked.expires.to_string(),
            redeemed: row.redeemed.map(|at| at.to_string()),
            answers: row.answers.iter().map(said).collect(),
        }
    }

    pub(super) async fn approvals(&self, (by, query): (By, ApprovalQuery)) -> Result<ApprovalList, Problem> {
        let rows = self.parts.approvals.list(by.as_deref()).await?;
        let (now, all) = (self.parts.clock.now(), query.all == Some(true));
        let waits = |row: &ApprovalRow| {
            matches!(row.state(now), ApprovalState::Open | ApprovalState::Approved | ApprovalState::Denied)
        };
        let rows = rows.iter().filter(|row| all || waits(row));
        Ok(ApprovalList { approvals: rows.map(|row| self.approval_view(row)).collect() })
    }

    pub(super) async fn approval(&self, (by, id): (By, String)) -> Result<Approval, Problem> {
        let row = self.parts.approvals.show(&id, by.as_deref()).await?;
        row.map(|row| self.approval_view(&row)).ok_or_else(|| unknown(&id))
    }

    pub(super) async fn verdict(
        &self,
        (by, verdict): (By, ApprovalVerdict),
        yes: bool,
    ) -> Result<Approval, Problem> {
        let by = by.ok_or_else(|| {
            Problem::Forbidden(String::from(
                "the admin token is no person; answer with an API key of your own",
            ))
        })?;
        let reason = verdict.reason.unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
            let message = format!("a reason has at most {REASON_BYTES_MAX} bytes and no control characters");
            return Err(Problem::invalid(message, "say it shorter, on one line"));
        }
        let answered = self.parts.approvals.answer(&verdict.id, &by, (yes, &reason), "admin_api").await;
        answered.map(|row| self.approval_view(&row)).map_err(|error| problem(error, &verdict.id))
    }
}

impl Control {
    pub(super) async fn hook_verdict(&self, message: Input) -> Result<Approval, Problem> {
        let Input { path: hook, body, signature, .. } = message;
        let answered = self.parts.approvals.answer_by_hook(&hook, &signature, &body).await;
        answered.map(|row| self.approval_view(&row)).map_err(|error| match error {
            HookError::Signature(error) => Problem::Signature(error.to_string()),
            HookError::Unreadable(what) => Problem::invalid(what, "`/openapi.json` says what an answer is"),
            HookError::User(_) => Problem::Forbidden(error.to_string()),
            HookError::Answer(error) => problem(error, "of the message"),
        })
    }
}

fn unknown(id: &str) -> Problem {
    Problem::NotFound(format!(
        "there is no question `{id}` that you may answer: that takes the key of a person (`key create --user`) with the role"
    ))
}

fn problem(error: AnswerError, id: &str) -> Problem {
    match error {
        AnswerError::Unknown => unknown(id),
        AnswerError::Asker | AnswerError::Role => Problem::Forbidden(error.to_string()),
        AnswerError::Before | AnswerError::Closed(_) => Problem::Conflict {
            message: error.to_string(),
            hint: "`portcullis approval show` says how it stands",
        },
        AnswerError::Ledger(error) => error.into(),
        AnswerError::Store(error) => error.into(),
    }
}

fn finding(value: &Value) -> ApprovalFinding {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    ApprovalFinding {
        detector: text("detector"),
        severity: text("severity"),
        confidence: value.get("confidence").and_then(Value::as_u64).unwrap_or_default(),
        place: text("place"),
        treatment: text("treatment"),
    }
}

fn said(answer: &portcullis_store::ApprovalAnswer) -> ApprovalSaid {
    let portcullis_store::ApprovalAnswer { by, yes, via, reason, at } = answer;
    ApprovalSaid {
        by: by.clone(),
        answer: String::from(if *yes { "yes" } else { "no" }),
        via: via.clone(),
        reason: reason.clone(),
        at: at.to_string(),
    }
}
