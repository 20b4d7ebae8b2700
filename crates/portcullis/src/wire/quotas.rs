//! What was used of each quota, for the admin API.

use std::sync::Arc;

use portcullis_admin::{Pending, QuotaState};

use super::start::Core;

/// Every count whose window has not ended.
pub(crate) fn states(core: Arc<Core>) -> Pending<Vec<QuotaState>> {
    Box::pin(async move {
        let rules = core.gateway.rules.load_full();
        let rows = core.gateway.usage.meter.list(core.gateway.clock.now()).await;
        let state = |row: portcullis_store::QuotaRow| {
            // One that is no longer configured bounds nothing.
            let quota = rules.quotas.iter().find(|quota| quota.name == row.quota)?;
            let most = |most: u64| (most != u64::MAX).then_some(most);
            Some(QuotaState {
                quota: row.quota,
                per: quota.share.name().to_owned(),
                sharer: row.sharer,
                ends: row.ends.to_string(),
                calls: row.calls,
                calls_max: most(quota.most.calls),
                bytes: row.bytes,
                bytes_max: most(quota.most.bytes),
                cost: row.cost,
                cost_max: most(quota.most.cost),
            })
        };
        rows.into_iter().filter_map(state).collect()
    })
}
