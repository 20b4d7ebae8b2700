//! What callers have used so far, as policy may ask: the labels of data that a session has touched, the pace of calls,
//! amounts against quotas, and the roles that somebody gave them for a time.

mod grants;
mod meter;
mod pace;
mod seen;

use std::sync::Arc;

use portcullis_core::Timestamp;
use portcullis_store::{Grants, Quotas, SeenLabels, StoreError};

pub use grants::granted;
pub use meter::{Amount, Charged, Exceeded, Meter, Quota, Refused, Share, Use};
pub use pace::Pace;
pub use seen::{News, Seen, Thread};

/// Everything that is remembered of what callers use.
#[derive(Debug)]
pub struct Usage {
    /// Labels of data by session or trace.
    pub seen: Seen,
    /// Calls within the last minute.
    pub pace: Pace,
    /// Amounts against quotas.
    pub meter: Meter,
    /// Roles for a time.
    pub grants: Arc<dyn Grants>,
}

impl Usage {
    /// With what the last run kept.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn open<S: Grants + Quotas + SeenLabels + 'static>(
        store: Arc<S>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let quotas: Arc<dyn Quotas> = Arc::clone(&store) as Arc<dyn Quotas>;
        let meter = Meter::open(quotas, now).await?;
        let seen = Seen::new(Arc::clone(&store) as Arc<dyn SeenLabels>);
        Ok(Self { seen, pace: Pace::default(), meter, grants: store })
    }
}
