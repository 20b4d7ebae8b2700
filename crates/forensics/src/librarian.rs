//! The index of a gateway: kept up behind the ledger by one task that no call waits for, and asked by the admin API.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::timeout,
};

use crate::{ForensicsError, Index, Page, Paging, Search, Shelf, Status};

/// Searches at once; others wait.
const SEARCHES_MAX: usize = 2;
/// The longest pause between two steps, and the shortest between two looks at a growing ledger.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How long a search waits for entries that were signed just now.
const FRESH: Duration = Duration::from_secs(2);

/// Where an index is, and of which ledger.
#[derive(Clone, Debug)]
pub struct Place {
    /// The index file.
    pub index: PathBuf,
    /// The ledger.
    pub shelf: Shelf,
}

/// Keeps an index, and answers from it.
pub struct Librarian {
    /// Nothing where the gateway keeps no index.
    place: Option<Place>,
    /// What writes; opened when it is needed, and again after a failure.
    writer: Mutex<Option<Index>>,
    searches: Semaphore,
    /// Told when there is something to do before its time.
    wake: Notify,
    /// Why the index does not go on, as far as it was told.
    told: Mutex<Option<ForensicsError>>,
}

impl fmt::Debug for Librarian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Librarian").field("place", &self.place).finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Librarian {
    /// Of the index in `place`; of none where that says nothing.
    #[must_use]
    pub fn new(place: Option<Place>) -> Self {
        let searches = Semaphore::new(SEARCHES_MAX);
        Self { place, writer: Mutex::default(), searches, wake: Notify::new(), told: Mutex::default() }
    }

    fn place(&self) -> Result<&Place, ForensicsError> {
        self.place.as_ref().ok_or(ForensicsError::NoIndex)
    }

    /// Keeps the index where the ledger is, until the ledger ends. What goes wrong is logged, and tried again.
    pub async fn follow(self: Arc<Self>, mut changed: watch::Receiver<u64>) {
        if self.place.is_none() {
            return;
        }
        loop {
            let librarian = Arc::clone(&self);
            let began = Instant::now();
            let stepped = blocking(move || librarian.step()).await;
            let pause = match self.tell(stepped) {
                // At most half of one core, whatever there is to catch up with.
                Ok(true) => began.elapsed().min(PAUSE),
                Ok(false) => {
                    tokio::select! {
                        grown = changed.changed() => {
                            if grown.is_err() {
                                return;
                            }
                        }
                        () = self.wake.notified() => {}
                    }
                    PAUSE
                }
                Err(_) => AFTER_FAILURE,
            };
            let _early = timeout(pause, self.wake.notified()).await;
        }
    }

    /// Logs a failure once, and that it is over.
    fn tell(&self, stepped: Result<bool, ForensicsError>) -> Result<bool, ForensicsError> {
        let mut told = held(&self.told);
        match &stepped {
            // A ledger without a checkpoint is a new one.
            Err(ForensicsError::Unavailable(_)) => {}
            Err(error) if told.as_ref() != Some(error) => {
                tracing::error!(%error, "the index of the ledger does not go on");
                *told = Some(error.clone());
            }
            Err(_) => {}
            Ok(_) => *told = None,
        }
        stepped
    }

    /// One step, with the index opened where it is not.
    fn step(&self) -> Result<bool, ForensicsError> {
        let place = self.place()?;
        let mut writer = held(&self.writer);
        let index = match writer.take() {
            Some(index) => index,
            None => Index::open(&place.index, place.shelf.clone())?,
        };
        let stepped = writer.insert(index).step();
        if stepped.is_err() {
            *writer = None;
        }
        stepped
    }

    /// A page of a search, complete up to what is signed now where the index is nearly there.
    ///
    /// # Errors
    /// See [`Index::find`].
    pub async fn find(self: &Arc<Self>, search: Search, paging: Paging) -> Result<Page, ForensicsError> {
        let _turn = self.searches.acquire().await;
        let librarian = Arc::clone(self);
        blocking(move || {
            let place = librarian.place()?;
            let until = Instant::now() + FRESH;
            // What is wrong with the newest entries does not hide the others; the page says how far it goes.
            while matches!(librarian.step(), Ok(true)) && Instant::now() < until {}
            Index::open(&place.index, place.shelf.clone())?.find(&search, &paging)
        })
        .await
    }

    /// How far the index is; with `check` its file is looked through.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub async fn status(self: &Arc<Self>, check: bool) -> Result<Status, ForensicsError> {
        let librarian = Arc::clone(self);
        blocking(move || {
            let place = librarian.place()?;
            let index = Index::open(&place.index, place.shelf.clone())?;
            if check {
                index.check()?;
            }
            index.status()
        })
        .await
    }

    /// Begins the index anew; it is filled behind the ledger.
    ///
    /// # Errors
    /// Somebody else uses it, or it cannot be removed.
    pub async fn rebuild(self: &Arc<Self>) -> Result<Status, ForensicsError> {
        let all = u32::try_from(SEARCHES_MAX).unwrap_or(u32::MAX);
        // No search has it open meanwhile.
        let _turns = self.searches.acquire_many(all).await;
        let librarian = Arc::clone(self);
        let begun = blocking(move || {
            let place = librarian.place()?;
            let mut writer = held(&librarian.writer);
            *writer = None;
            Index::remove(&place.index)?;
            let index = writer.insert(Index::open(&place.index, place.shelf.clone())?);
            index.status()
        })
        .await;
        self.wake.notify_one();
        begun
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ForensicsError> + Send + 'static,
) -> Result<T, ForensicsError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| ForensicsError::Unavailable(error.to_string()))?
}
