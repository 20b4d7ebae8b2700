//! Questions for approval in SQLite. There is no copy in memory: what counts is what the file says now.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{Approval, Digest, Timestamp};
use rusqlite::{OptionalExtension as _, Row, TransactionBehavior, types::Type};
use serde_json::{Value, json};

use super::keys::{millis, timestamp};
use crate::{
    Answered, ApprovalAnswer, ApprovalRow, ApprovalState, Approvals, NewApproval, Sqlite, StoreError,
    approvals::{ENDED_KEPT_MAX, ENDED_KEPT_MS, HELD_KEPT_MS},
    sqlite::Worker,
};

/// Whatever of a question is not over or used up as far as it is written.
const LIVE: &str = "state IN ('open', 'approved', 'denied')";

impl Worker {
    fn ask_people(&mut self, new: &NewApproval) -> Result<Arc<ApprovalRow>, StoreError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = millis(new.created);
        let old = now.saturating_sub(i64::try_from(ENDED_KEPT_MS).unwrap_or(i64::MAX));
        change.prepare_cached("DELETE FROM approvals WHERE expires <= ?1")?.execute([old])?;
        let many = "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals
                   WHERE state IN ('redeemed', 'expired') OR expires <= ?1
                   ORDER BY created DESC, id LIMIT -1 OFFSET ?2)";
        change.prepare_cached(many)?.execute((now, ENDED_KEPT_MAX))?;
        let gone = "DELETE FROM held_answers WHERE approval IN (SELECT id FROM approvals
                   WHERE state IN ('denied', 'expired') OR expires <= ?1 OR redeemed <= ?1 - ?2)";
        change.prepare_cached(gone)?.execute((now, i64::try_from(HELD_KEPT_MS).unwrap_or(i64::MAX)))?;
        let over =
            format!("UPDATE approvals SET state = 'expired' WHERE call = ?1 AND expires <= ?2 AND {LIVE}");
        change.prepare_cached(&over)?.execute((new.call.0, now))?;
        let sql =
            "INSERT INTO approvals (id, call, first, caller, askers, question, demand, people, created, expires, state)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'open') ON CONFLICT DO NOTHING";
        let asked = change.prepare_cached(sql)?.execute((
            &new.id,
            new.call.0,
            new.first.0,
            &new.caller,
            json!(new.askers).to_string(),
            &new.question,
            demand_text(&new.demand),
            new.demand.people,
            now,
            millis(new.expires),
        ))?;
        if let Some(answer) = new.answer.as_ref().filter(|_| asked > 0) {
            let held = "INSERT INTO held_answers (approval, answer) VALUES (?1, ?2)";
            change.prepare_cached(held)?.execute((&new.id, answer))?;
        }
        change.commit()?;
        self.asked(new.call)?.ok_or_else(|| StoreError::Corrupt("a question that is not there".into()))
    }

    fn asked(&mut self, call: Digest) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        let sql = format!("SELECT * FROM approvals WHERE call = ?1 AND {LIVE}");
        let row = self.connection.prepare_cached(&sql)?.query_row([call.0], row_of).optional()?;
        row.map(|row| self.answered(row)).transpose()
    }

    fn approval(&mut self, id: &str) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        let sql = "SELECT * FROM approvals WHERE id = ?1";
        let row = self.connection.prepare_cached(sql)?.query_row([id], row_of).optional()?;
        row.map(|row| self.answered(row)).transpose()
    }

    fn approvals(&mut self) -> Result<Vec<Arc<ApprovalRow>>, StoreError> {
        let rows = {
            let mut statement =
                self.connection.prepare_cached("SELECT * FROM approvals ORDER BY created, id")?;
            statement.query_map([], row_of)?.collect::<Result<Vec<_>, _>>()?
        };
        rows.into_iter().map(|row| self.answered(row)).collect()
    }

    fn answered(&mut self, mut row: ApprovalRow) -> Result<Arc<ApprovalRow>, StoreError> {
        let sql = "SELECT by, yes, via, reason, at FROM approval_answers WHERE approval = ?1 ORDER BY at, by";
        let mut statement = self.connection.prepare_cached(sql)?;
        let answers = statement.query_map([&row.asked.id], |row| {
            Ok(ApprovalAnswer {
                by: row.get("by")?,
                yes: row.get("yes")?,
                via: row.get("via")?,
                reason: row.get("reason")?,
                at: timestamp(row.get("at")?),
            })
        })?;
        row.answers = answers.collect::<Result<_, _>>()?;
        Ok(Arc::new(row))
    }

    fn open_questions(&mut self, caller: &str, now: Timestamp) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE caller = ?1) FROM approvals
                   WHERE state = 'open' AND expires > ?2";
        let counted = self
            .connection
            .prepare_cached(sql)?
            .query_row((caller, millis(now)), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok((unsigned(counted.0), unsigned(counted.1)))
    }

    fn answer(&mut self, id: &str, answer: &ApprovalAnswer) -> Result<Answered, StoreError> {
        let ApprovalAnswer { by, yes, via, reason, at } = answer;
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let open = if *yes { "state = 'open'" } else { "state IN ('open', 'approved')" };
        let look = format!("SELECT count(*) FROM approvals WHERE id = ?1 AND expires > ?2 AND {open}");
        let found: u32 = change.prepare_cached(&look)?.query_row((id, millis(*at)), |row| row.get(0))?;
        if found == 0 {
            return Ok(Answered::Closed);
        }
        let put = "INSERT INTO approval_answers (approval, by, yes, via, reason, at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (approval, by) DO UPDATE
                       SET yes = excluded.yes, via = excluded.via, reason = excluded.reason, at = excluded.at
                       WHERE excluded.yes = 0 AND approval_answers.yes = 1";
        let counted = change.prepare_cached(put)?.execute((id, by, yes, via, reason, millis(*at)))?;
        if counted == 0 {
            return Ok(Answered::Before);
        }
        let step = if *yes {
            "UPDATE approvals SET state = 'approved' WHERE id = ?1 AND people <=
                 (SELECT count(*) FROM approval_answers WHERE approval = ?1 AND yes = 1)"
        } else {
            "UPDATE approvals SET state = 'denied' WHERE id = ?1"
        };
        change.prepare_cached(step)?.execute([id])?;
        if !yes {
            change.prepare_cached("DELETE FROM held_answers WHERE approval = ?1")?.execute([id])?;
        }
        change.commit()?;
        Ok(self.approval(id)?.map_or(Answered::Closed, Answered::Counts))
    }

    fn redeem(&mut self, call: Digest, now: Timestamp) -> Result<Option<String>, StoreError> {
        let sql = "UPDATE approvals SET state = 'redeemed', redeemed = ?2
                   WHERE call = ?1 AND state = 'approved' AND expires > ?2 RETURNING id";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((call.0, millis(now)), |row| row.get(0)).optional()?)
    }

    fn held(&mut self, id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT answer FROM held_answers WHERE approval = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
    }

    fn restore(&mut self, id: &str) -> Result<(), StoreError> {
        // Where the same call is asked about anew meanwhile, the old approval stays used up.
        let sql = "UPDATE OR IGNORE approvals SET state = 'approved', redeemed = NULL
                   WHERE id = ?1 AND state = 'redeemed'";
        self.connection.prepare_cached(sql)?.execute([id])?;
        Ok(())
    }

    fn expire(&mut self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let sql =
            format!("UPDATE approvals SET state = 'expired' WHERE id = ?1 AND expires <= ?2 AND {LIVE}");
        Ok(self.connection.prepare_cached(&sql)?.execute((id, millis(now)))? > 0)
    }

    fn again(&mut self, id: &str, round: Digest, until: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE approvals SET round = ?2, round_expires = ?3 WHERE id = ?1 AND state = 'redeemed'";
        self.connection.prepare_cached(sql)?.execute((id, round.0, millis(until)))?;
        Ok(())
    }

    fn take_round(
        &mut self,
        first: Digest,
        round: Digest,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let sql = "UPDATE approvals SET round = NULL, round_expires = NULL
                   WHERE first = ?1 AND round = ?2 AND round_expires > ?3 AND state = 'redeemed' RETURNING id";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((first.0, round.0, millis(now)), |row| row.get(0)).optional()?)
    }
}

fn demand_text(demand: &Approval) -> String {
    let Approval { people, roles, expires_s, by_caller } = demand;
    json!({ "by_caller": by_caller, "expires_s": expires_s, "people": people, "roles": roles }).to_string()
}

fn demand_of(text: &str) -> Option<Approval> {
    let value: Value = serde_json::from_str(text).ok()?;
    let any = |set: &Value| -> Option<BTreeSet<String>> {
        set.as_array()?.iter().map(|role| Some(role.as_str()?.to_owned())).collect()
    };
    Some(Approval {
        people: u8::try_from(value.get("people")?.as_u64()?).ok()?,
        roles: value.get("roles")?.as_array()?.iter().map(any).collect::<Option<_>>()?,
        expires_s: u32::try_from(value.get("expires_s")?.as_u64()?).ok()?,
        by_caller: value.get("by_caller")?.as_bool()?,
    })
}

/// Without its answers.
fn row_of(row: &Row<'_>) -> rusqlite::Result<ApprovalRow> {
    let damaged = |what: &str| rusqlite::Error::InvalidColumnType(0, what.to_owned(), Type::Text);
    let (state, demand, askers): (String, String, String) =
        (row.get("state")?, row.get("demand")?, row.get("askers")?);
    let written = ApprovalState::ALL.iter().copied().find(|known| known.name() == state);
    Ok(ApprovalRow {
        asked: NewApproval {
            id: row.get("id")?,
            call: Digest(row.get("call")?),
            first: Digest(row.get("first")?),
            caller: row.get("caller")?,
            askers: serde_json::from_str(&askers).map_err(|_| damaged("askers"))?,
            question: row.get("question")?,
            demand: demand_of(&demand).ok_or_else(|| damaged("demand"))?,
            created: timestamp(row.get("created")?),
            expires: timestamp(row.get("expires")?),
            answer: None,
        },
        written: written.ok_or_else(|| damaged("state"))?,
        redeemed: row.get::<_, Option<i64>>("redeemed")?.map(timestamp),
        answers: Vec::new(),
    })
}

#[async_trait]
impl Approvals for Sqlite {
    async fn ask(&self, new: NewApproval) -> Result<Arc<ApprovalRow>, StoreError> {
        Sqlite::ask(self, move |worker| worker.ask_people(&new)).await
    }

    async fn asked(&self, call: Digest) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        Sqlite::ask(self, move |worker| worker.asked(call)).await
    }

    async fn approval(&self, id: &str) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        let id = id.to_owned();
        Sqlite::ask(self, move |worker| worker.approval(&id)).await
    }

    async fn approvals(&self) -> Result<Vec<Arc<ApprovalRow>>, StoreError> {
        Sqlite::ask(self, Worker::approvals).await
    }

    async fn open_questions(&self, caller: &str, now: Timestamp) -> Result<(u64, u64), StoreError> {
        let caller = caller.to_owned();
        Sqlite::ask(self, move |worker| worker.open_questions(&caller, now)).await
    }

    async fn answer(&self, id: &str, answer: ApprovalAnswer) -> Result<Answered, StoreError> {
        let id = id.to_owned();
        Sqlite::ask(self, move |worker| worker.answer(&id, &answer)).await
    }

    async fn redeem(&self, call: Digest, now: Timestamp) -> Result<Option<String>, StoreError> {
        Sqlite::ask(self, move |worker| worker.redeem(call, now)).await
    }

    async fn held(&self, id: &str) -> Result<Option<String>, StoreError> {
        let id = id.to_owned();
        Sqlite::ask(self, move |worker| worker.held(&id)).await
    }

    async fn restore(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        Sqlite::ask(self, move |worker| worker.restore(&id)).await
    }

    async fn expire(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.to_owned();
        Sqlite::ask(self, move |worker| worker.expire(&id, now)).await
    }

    async fn again(&self, id: &str, round: Digest, until: Timestamp) -> Result<(), StoreError> {
        let id = id.to_owned();
        Sqlite::ask(self, move |worker| worker.again(&id, round, until)).await
    }

    async fn take_round(
        &self,
        first: Digest,
        round: Digest,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        Sqlite::ask(self, move |worker| worker.take_round(first, round, now)).await
    }
}
