//! Roles for a time: given, listed, revoked. Every one is recorded before it counts.

use std::collections::BTreeMap;

use portcullis_core::{Event, Timestamp};
use portcullis_store::{GrantRow, NewGrant};
use serde_json::json;

use super::{
    Control,
    control::{OPERATOR, checked_name},
};
use crate::{
    parts::QuotaState,
    problem::{Problem, closed},
    wire::wire,
};

/// Longest time of a grant, in seconds: 31 days.
const VALID_S_MAX: u64 = 2_678_400;
/// Longest time of a grant in an emergency, in seconds: a working day.
const EMERGENCY_S_MAX: u64 = 28_800;
/// A reason in fewer characters explains nothing to whoever looks at it later.
const REASON_CHARS_MIN: usize = 8;

wire! { question
    /// A role for a caller, for a time.
    CreateGrant {
        /// Id of the caller, like `key:ID` or `jwt:ISSUER#SUBJECT`.
        caller: String,
        /// The role.
        role: String,
        /// Seconds until it ends.
        for_s: u64,
        /// Why.
        reason: String,
        /// In an emergency: at most eight hours, recorded and logged as an alarm.
        break_glass: Option<bool>,
    }
}

wire! { answer
    /// A role that a caller has for a time.
    Grant {
        /// Its name.
        id: String,
        /// Id of the caller.
        caller: String,
        /// The role.
        role: String,
        /// Why.
        reason: String,
        /// Given in an emergency.
        break_glass: bool,
        /// `holds`, `ended` or `revoked`.
        state: String,
        /// When it was given (RFC 3339).
        created: String,
        /// Who gave it.
        created_by: String,
        /// When it ends (RFC 3339).
        expires: String,
        /// When it was revoked (RFC 3339).
        revoked: Option<String>,
    }
}

wire! { answer
    /// Every grant.
    GrantList {
        /// Oldest first.
        grants: Vec<Grant>,
    }
}

wire! { answer
    /// Every count whose window has not ended.
    QuotaList {
        /// By quota.
        quotas: Vec<QuotaState>,
    }
}

fn view(row: &GrantRow, now: Timestamp) -> Grant {
    let state = match (row.revoked, row.holds(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "holds",
        (None, false) => "ended",
    };
    let grant = row.grant.clone();
    Grant {
        id: grant.id,
        caller: grant.caller,
        role: grant.role,
        reason: grant.reason,
        break_glass: grant.emergency,
        state: state.to_owned(),
        created: grant.created.to_string(),
        created_by: grant.created_by,
        expires: grant.expires.to_string(),
        revoked: row.revoked.map(|at| at.to_string()),
    }
}

impl Control {
    pub(super) async fn grants(&self) -> Result<GrantList, Problem> {
        let now = self.parts.clock.now();
        let rows = self.parts.grants.grants().await?;
        Ok(GrantList { grants: rows.iter().map(|row| view(row, now)).collect() })
    }

    pub(super) async fn quota_states(&self) -> Result<QuotaList, Problem> {
        Ok(QuotaList { quotas: (self.parts.quotas)().await })
    }

    pub(super) async fn new_grant(&self, question: CreateGrant) -> Result<Grant, Problem> {
        let CreateGrant { caller, role, for_s, reason, break_glass } = question;
        checked_name("the id of a caller", &caller)?;
        checked_name("a reason", &reason)?;
        if reason.trim().chars().count() < REASON_CHARS_MIN {
            let message = format!("a reason has at least {REASON_CHARS_MIN} characters");
            return Err(Problem::invalid(message, "say what it is needed for, in words or as a ticket"));
        }
        let named = caller.starts_with("key:") || caller.contains('#') || caller.contains(':');
        if !named {
            let hint = "write the id as the ledger has it: key:ID, jwt:ISSUER#SUBJECT";
            return Err(Problem::invalid(format!("`{caller}` is the id of no caller"), hint));
        }
        if let Some(id) = caller.strip_prefix("key:")
            && self.parts.keys.find(id).is_none()
        {
            return Err(Problem::NotFound(format!("there is no key `{id}`")));
        }
        self.check_roles(std::slice::from_ref(&role))?;
        let emergency = break_glass.unwrap_or_default();
        let most = if emergency { EMERGENCY_S_MAX } else { VALID_S_MAX };
        if for_s == 0 || for_s > most {
            let message = format!("a grant cannot last {for_s} s");
            let hint = if emergency { "choose 1 second to 8 hours" } else { "choose 1 second to 31 days" };
            return Err(Problem::invalid(message, hint));
        }
        let _changing = self.changing.lock().await;
        let (created, id) = (self.parts.clock.now(), (self.parts.fresh_key)().ok_or_else(closed)?.id);
        let expires = created.plus_ms(for_s.saturating_mul(1_000));
        let data = BTreeMap::from([
            ("caller", json!(caller)),
            ("expires", json!(expires.to_string())),
            ("grant", json!(id)),
            ("reason", json!(reason)),
            ("role", json!(role)),
        ]);
        let event = if emergency { Event::GrantBreakGlass } else { Event::GrantCreated };
        self.record(event, None, data).await?;
        if emergency {
            tracing::error!(
                grant = id,
                caller,
                role,
                reason,
                "break-glass: a role was given in an emergency"
            );
        }
        let created_by = OPERATOR.to_owned();
        let grant = NewGrant { id, caller, role, reason, emergency, created, created_by, expires };
        Ok(view(&*self.parts.grants.give(grant).await?, created))
    }

    pub(super) async fn end_grant(&self, id: &str) -> Result<Grant, Problem> {
        let _changing = self.changing.lock().await;
        let found = |rows: Vec<std::sync::Arc<GrantRow>>| rows.into_iter().find(|row| row.grant.id == id);
        let Some(row) = found(self.parts.grants.grants().await?) else {
            return Err(Problem::NotFound(format!("there is no grant `{id}`")));
        };
        let now = self.parts.clock.now();
        if row.revoked.is_some() {
            return Ok(view(&row, now));
        }
        let data = BTreeMap::from([
            ("caller", json!(row.grant.caller)),
            ("grant", json!(id)),
            ("role", json!(row.grant.role)),
        ]);
        self.record(Event::GrantRevoked, None, data).await?;
        self.parts.grants.take_back(id, OPERATOR, now).await?;
        Ok(view(&found(self.parts.grants.grants().await?).unwrap_or(row), now))
    }
}
