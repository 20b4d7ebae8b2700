//! Quotas: how many calls, bytes and units those who share a count may use within a window. What a count says
//! outlives the process: before a use is let through, at least as much stands in the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_core::{Action, Caller, Limits, Target, Timestamp};
use portcullis_policy::Pattern;
use portcullis_store::{QuotaRow, Quotas, StoreError};

/// Who shares one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Everybody together.
    All,
    /// Each caller has its own, across sessions and servers.
    Caller,
    /// Each caller has its own for each tool.
    CallerAndTool,
    /// Everybody with the same role, for each role that the quota names.
    Role,
    /// Everybody together for each tool.
    Tool,
}

impl Share {
    /// The word for it in configuration and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Caller => "caller",
            Self::CallerAndTool => "caller_and_tool",
            Self::Role => "role",
            Self::Tool => "tool",
        }
    }
}

/// An amount of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Calls.
    pub calls: u64,
    /// Bytes of messages, both ways.
    pub bytes: u64,
    /// Units that the operator chose.
    pub cost: u64,
}

impl Amount {
    const fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            bytes: self.bytes.saturating_add(other.bytes),
            cost: self.cost.saturating_add(other.cost),
        }
    }

    const fn within(self, most: Self) -> bool {
        self.calls <= most.calls && self.bytes <= most.bytes && self.cost <= most.cost
    }
}

/// What those who share a count may use within a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// Ids of callers; empty means all.
    pub callers: Vec<Pattern>,
    /// Roles of which a caller has one; empty means all.
    pub roles: Vec<String>,
    /// Servers; empty means all.
    pub servers: Vec<Pattern>,
    /// Names of tools and prompts, URIs of resources; empty means all.
    pub items: Vec<Pattern>,
    /// Who shares one count.
    pub share: Share,
    /// Length of a window; windows start at multiples of it since 1970, UTC.
    pub window_s: u64,
    /// The most of each; `u64::MAX` where it is not bounded.
    pub most: Amount,
}

impl Quota {
    /// Those who share the count of this use; nothing where the quota does not apply.
    fn sharers(&self, used: &Use<'_>) -> Vec<String> {
        let Use { caller, roles, target, .. } = used;
        let fits = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
        };
        let Some((_, item)) = &target.item else { return Vec::new() };
        let held = || self.roles.iter().filter(|role| roles.contains(*role));
        let applies = fits(&self.callers, &caller.id)
            && fits(&self.servers, &target.server)
            && fits(&self.items, item)
            && (self.roles.is_empty() || held().next().is_some());
        if !applies {
            return Vec::new();
        }
        match self.share {
            Share::All => vec![String::new()],
            Share::Caller => vec![caller.id.to_string()],
            Share::CallerAndTool => vec![format!("{} {target}", caller.id)],
            Share::Role => held().cloned().collect(),
            Share::Tool => vec![target.to_string()],
        }
    }

    /// How much is written ahead, so that not every use waits for the disk; after a kill so much counts as used.
    const fn ahead(&self) -> Amount {
        const fn part(most: u64) -> u64 {
            if most == u64::MAX { 1_048_576 } else { most / 32 }
        }
        Amount { calls: part(self.most.calls), bytes: part(self.most.bytes), cost: part(self.most.cost) }
    }
}

/// One use that is to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// The caller's roles, the inherited ones too.
    pub roles: &'a BTreeSet<String>,
    /// What for.
    pub action: Action,
    /// On what.
    pub target: &'a Target,
    /// Bytes of the message.
    pub bytes: u64,
    /// Units.
    pub cost: u64,
    /// When.
    pub now: Timestamp,
}

/// A quota is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The quota, by name.
    pub quota: String,
    /// Seconds until the window ends.
    pub retry_after_s: u32,
}

/// Why a use is not let through.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A quota is used up.
    #[error("the quota `{}` is used up", .0.quota)]
    Exceeded(Exceeded),
    /// More counts than are kept.
    #[error("there are {0} counts of quotas already (`limits.rate_entries_max`)")]
    Full(usize),
    /// It cannot be counted durably.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Default)]
struct Count {
    began: u64,
    ends: u64,
    used: Amount,
    /// What stands in the store.
    kept: Amount,
}

#[derive(Debug, Default)]
struct Place {
    count: tokio::sync::Mutex<Count>,
    /// Bytes of answers that came since.
    answers: AtomicU64,
}

/// What a use was charged to: its answer is charged there as well.
#[derive(Debug, Default)]
pub struct Charged(Vec<Arc<Place>>);

impl Charged {
    /// Charges bytes of the answer. They are known when it is there, so they count from the next use on.
    pub fn answer(&self, bytes: u64) {
        for place in &self.0 {
            place.answers.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

type Places = HashMap<(String, String), Arc<Place>>;

/// The counts of all quotas.
pub struct Meter {
    store: Arc<dyn Quotas>,
    places: Mutex<Places>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meter {
    /// With the counts of the last run.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn open(store: Arc<dyn Quotas>, now: Timestamp) -> Result<Self, StoreError> {
        let place = |row: QuotaRow| {
            let used = Amount { calls: row.calls, bytes: row.bytes, cost: row.cost };
            let count = Count { began: row.began.0, ends: row.ends.0, used, kept: used };
            let place = Place { count: tokio::sync::Mutex::new(count), answers: AtomicU64::new(0) };
            ((row.quota, row.sharer), Arc::new(place))
        };
        let places = store.counts(now).await?.into_iter().map(place).collect();
        Ok(Self { store, places: Mutex::new(places) })
    }

    /// Counts a use against every quota that applies, or against none.
    ///
    /// # Errors
    /// [`Refused`]: then it must not be let through.
    pub async fn charge(
        &self,
        quotas: &[Quota],
        used: &Use<'_>,
        limits: &Limits,
    ) -> Result<Charged, Refused> {
        let counts = matches!(
            used.action,
            Action::CallTool | Action::GetPrompt | Action::ReadResource | Action::Complete
        );
        if quotas.is_empty() || !counts {
            return Ok(Charged::default());
        }
        // In the order of names, so that two uses never wait for each other.
        let mut applying = BTreeMap::new();
        for quota in quotas {
            for sharer in quota.sharers(used) {
                let place = self.place(quota, &sharer, used.now, limits)?;
                applying.insert((quota.name.as_str(), sharer), (quota, place));
            }
        }
        let amount = Amount { calls: 1, bytes: used.bytes, cost: used.cost };
        let mut held = Vec::new();
        for ((_, sharer), (quota, place)) in &applying {
            let mut count = place.count.lock().await;
            roll(&mut count, quota, used.now);
            count.used.bytes = count.used.bytes.saturating_add(place.answers.swap(0, Ordering::Relaxed));
            if !count.used.plus(amount).within(quota.most) {
                let left_ms = count.ends.saturating_sub(used.now.0);
                let retry_after_s = u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
                return Err(Refused::Exceeded(Exceeded { quota: quota.name.clone(), retry_after_s }));
            }
            held.push((sharer, *quota, count));
        }
        for (sharer, quota, count) in &mut held {
            let used = count.used.plus(amount);
            if !used.within(count.kept) {
                let ahead = used.plus(quota.ahead());
                self.store.keep(row(quota, sharer, count, ahead)).await?;
                count.kept = ahead;
            }
        }
        for (_, _, count) in &mut held {
            count.used = count.used.plus(amount);
        }
        drop(held);
        Ok(Charged(applying.into_values().map(|(_, place)| place).collect()))
    }

    /// Every count whose window has not ended, with what was used of it.
    pub async fn list(&self, now: Timestamp) -> Vec<QuotaRow> {
        let all: Vec<_> = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.iter().map(|(key, place)| (key.clone(), Arc::clone(place))).collect()
        };
        let mut rows = Vec::new();
        for ((quota, sharer), place) in all {
            let count = place.count.lock().await;
            let (began, ends) = (Timestamp(count.began), Timestamp(count.ends));
            if now < ends {
                let Amount { calls, bytes, cost } = count.used;
                let bytes = bytes.saturating_add(place.answers.load(Ordering::Relaxed));
                rows.push(QuotaRow { quota, sharer, began, ends, calls, bytes, cost });
            }
        }
        rows.sort_by(|a, b| (&a.quota, &a.sharer).cmp(&(&b.quota, &b.sharer)));
        rows
    }

    fn place(
        &self,
        quota: &Quota,
        sharer: &str,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Arc<Place>, Refused> {
        let key = (quota.name.clone(), sharer.to_owned());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(&key) {
            return Ok(Arc::clone(place));
        }
        if places.len() as u64 >= limits.rate_entries_max {
            // A count that somebody holds is in use.
            places.retain(|_, place| place.count.try_lock().map_or(true, |count| now.0 < count.ends));
        }
        if places.len() as u64 >= limits.rate_entries_max {
            return Err(Refused::Full(places.len()));
        }
        let place = Arc::<Place>::default();
        places.insert(key, Arc::clone(&place));
        Ok(place)
    }
}

/// Starts a window where the last one is over. A clock that is set back does not give the window another time.
fn roll(count: &mut Count, quota: &Quota, now: Timestamp) {
    let window = quota.window_s.max(1).saturating_mul(1_000);
    if now.0 < count.ends && count.ends - count.began == window {
        return;
    }
    let began = now.0 - now.0 % window;
    // A quota whose window was changed counts on within the new one: changing a file must not give what was used back.
    let used = if now.0 < count.ends { count.used } else { Amount::default() };
    *count = Count { began, ends: began.saturating_add(window), used, kept: Amount::default() };
}

fn row(quota: &Quota, sharer: &str, count: &Count, amount: Amount) -> QuotaRow {
    QuotaRow {
        quota: quota.name.clone(),
        sharer: sharer.to_owned(),
        began: Timestamp(count.began),
        ends: Timestamp(count.ends),
        calls: amount.calls,
        bytes: amount.bytes,
        cost: amount.cost,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use portcullis_core::TargetKind;
    use portcullis_store::Sqlite;

    use super::*;

    fn quota(name: &str, share: Share, calls: u64) -> Quota {
        Quota {
            name: name.into(),
            callers: Vec::new(),
            roles: Vec::new(),
            servers: Vec::new(),
            items: Vec::new(),
            share,
            window_s: 60,
            most: Amount { calls, bytes: u64::MAX, cost: u64::MAX },
        }
    }

    fn caller(id: &str, roles: &[&str]) -> Caller {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        Caller { id: id.into(), ..Caller::anonymous(roles.into()) }
    }

    fn tool(name: &str) -> Target {
        Target { server: "s".into(), item: Some((TargetKind::Tool, name.into())), digest: None }
    }

    async fn meter(folder: &Path) -> Meter {
        let store = Arc::new(Sqlite::open(folder.join("portcullis.db")).unwrap());
        Meter::open(store, Timestamp(0)).await.unwrap()
    }

    async fn call(
        meter: &Meter,
        quotas: &[Quota],
        who: &Caller,
        what: &Target,
        ms: u64,
    ) -> Result<Charged, String> {
        let now = Timestamp(ms);
        let roles = who.roles.iter().cloned().collect();
        let used = Use {
            caller: who,
            roles: &roles,
            action: Action::CallTool,
            target: what,
            bytes: 10,
            cost: 3,
            now,
        };
        let charged = meter.charge(quotas, &used, &Limits::default()).await;
        charged.map_err(|refused| match refused {
            Refused::Exceeded(exceeded) => format!("{} {}", exceeded.quota, exceeded.retry_after_s),
            other => other.to_string(),
        })
    }

    #[tokio::test]
    async fn each_way_to_share_a_count_counts_those_together_who_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (caller("a", &["r", "q"]), caller("b", &["r"]));
        let (x, y) = (tool("x"), tool("y"));
        // Share, and whether each of these is let through when one call fits: b uses x, a uses y, b uses y.
        let table = [
            (Share::All, [false, false, false]),
            (Share::Caller, [true, false, false]),
            (Share::CallerAndTool, [true, true, true]),
            (Share::Role, [false, false, false]),
            (Share::Tool, [false, true, false]),
        ];
        for (share, expected) in table {
            let meter = meter(folder.path()).await;
            let name = share.name();
            let quotas = [Quota { roles: vec!["r".into()], ..quota(name, share, 1) }];
            assert!(call(&meter, &quotas, &a, &x, 0).await.is_ok(), "{name}");
            let mut got = Vec::new();
            for (who, what) in [(&b, &x), (&a, &y), (&b, &y)] {
                got.push(call(&meter, &quotas, who, what, 1).await.is_ok());
            }
            assert_eq!(got, expected, "{name}");
            let stranger = caller("c", &["q"]);
            assert!(call(&meter, &quotas, &stranger, &x, 2).await.is_ok(), "{name}: not within the quota");
        }
    }

    #[tokio::test]
    async fn a_window_ends_by_the_clock_and_bytes_of_answers_count_from_the_next_use_on() {
        let folder = tempfile::tempdir().unwrap();
        let meter = meter(folder.path()).await;
        let who = caller("a", &[]);
        let most = Amount { calls: u64::MAX, bytes: 100, cost: u64::MAX };
        let quotas = [Quota { most, ..quota("bytes", Share::Caller, 0) }];
        call(&meter, &quotas, &who, &tool("x"), 1_000).await.unwrap().answer(81);
        assert_eq!(call(&meter, &quotas, &who, &tool("x"), 59_001).await.unwrap_err(), "bytes 1");
        assert!(call(&meter, &quotas, &who, &tool("x"), 60_000).await.is_ok());
        let most = Amount { calls: u64::MAX, bytes: u64::MAX, cost: 5 };
        let quotas = [Quota { most, ..quota("cost", Share::Caller, 0) }];
        assert!(call(&meter, &quotas, &who, &tool("x"), 60_000).await.is_ok());
        assert_eq!(call(&meter, &quotas, &who, &tool("x"), 60_000).await.unwrap_err(), "cost 60");
    }

    #[tokio::test]
    async fn no_restart_gives_back_what_was_used_and_a_refused_use_is_charged_to_no_quota() {
        let folder = tempfile::tempdir().unwrap();
        let who = caller("a", &[]);
        for most in [1, 7, 40, 1_000] {
            let name = format!("q{most}");
            let quotas = [quota("wide", Share::Caller, u64::MAX), quota(&name, Share::Caller, most)];
            let mut passed = 0;
            // Each meter is a process that was killed: nothing is written when it goes.
            for _process in 0..6 {
                let meter = meter(folder.path()).await;
                for _call in 0..most / 4 + 1 {
                    passed += u64::from(call(&meter, &quotas, &who, &tool("x"), 5).await.is_ok());
                }
            }
            assert!(passed <= most, "{passed} of {most}");
            // What was written ahead is the price, a thirty-second for each kill.
            assert!(passed >= most - most / 32 * 6, "{passed} of {most}");
            let meter = meter(folder.path()).await;
            let wide = meter.list(Timestamp(5)).await.into_iter().find(|row| row.quota == "wide").unwrap();
            while call(&meter, &quotas, &who, &tool("x"), 5).await.is_ok() {}
            let after = meter.list(Timestamp(5)).await.into_iter().find(|row| row.quota == "wide").unwrap();
            assert!(after.calls >= wide.calls);
            let _refused = call(&meter, &quotas, &who, &tool("x"), 5).await.unwrap_err();
            let again = meter.list(Timestamp(5)).await.into_iter().find(|row| row.quota == "wide").unwrap();
            assert_eq!(again.calls, after.calls, "a refused use is charged nowhere");
        }
    }

    #[tokio::test]
    async fn a_thousand_uses_at_once_take_no_more_than_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let meter = Arc::new(meter(folder.path()).await);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..1_000 {
            let meter = Arc::clone(&meter);
            tasks.spawn(async move {
                let mut quotas = vec![quota("one", Share::All, 100), quota("two", Share::Caller, 5)];
                if n % 2 == 0 {
                    quotas.reverse();
                }
                let who = caller(&format!("c{}", n % 50), &[]);
                call(&meter, &quotas, &who, &tool("x"), 5).await.is_ok()
            });
        }
        let passed = tasks.join_all().await.into_iter().filter(|passed| *passed).count();
        assert_eq!(passed, 100);
    }
}
