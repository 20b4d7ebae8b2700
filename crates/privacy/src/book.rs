//! Keys of people, each sealed with the data key of the store. Whoever loses his key is forgotten: what tokens say of him
//! can never be read again.

use std::{fmt, sync::Arc};

use portcullis_core::{Clock, Digest, Entropy, Timestamp};
use portcullis_inspect::{TokenKeys, TokenScope};
use portcullis_seal::Sealer;
use portcullis_store::{SealedTable, SubjectRow, Subjects};
use zeroize::Zeroizing;

/// What such a key is sealed for.
const PURPOSE: &str = SealedTable::Subjects.purpose();

/// Keys of people, over what the store keeps.
pub struct Book {
    store: Arc<dyn Subjects>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sealer: Sealer,
    life: Life,
    keys_max: u64,
}

/// By what keys of tokens are kept, and when they end.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Within what a token is restored.
    pub scope: TokenScope,
    /// So long after it was made a key ends in any case.
    pub total_ms: u64,
    /// So long after its session was used last a key ends, where it is a session's.
    pub idle_ms: u64,
}

impl Life {
    /// When a key ends that is made, or whose scope is used, at `now`.
    const fn end(self, now: Timestamp) -> Timestamp {
        let ms = match self.scope {
            TokenScope::Session if self.idle_ms < self.total_ms => self.idle_ms,
            TokenScope::Caller | TokenScope::Gateway | TokenScope::Session => self.total_ms,
        };
        now.plus_ms(ms)
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

impl Book {
    /// Keys that end as `life` says, `keys_max` of them at most.
    #[must_use]
    pub fn new(
        sealer: Sealer,
        (store, clock, entropy): (Arc<dyn Subjects>, Arc<dyn Clock>, Arc<dyn Entropy>),
        life: Life,
        keys_max: u64,
    ) -> Self {
        Self { store, clock, entropy, sealer, life, keys_max }
    }

    /// The scope that counts; nothing where one must be known and is not.
    fn counted(&self, scope: Option<Digest>) -> Option<Option<Digest>> {
        match self.life.scope {
            TokenScope::Gateway => Some(None),
            TokenScope::Caller | TokenScope::Session => scope.map(Some),
        }
    }

    fn make(&self, scope: Option<Digest>, subject: Digest) -> Option<(u64, [u8; 32])> {
        let (mut id, mut key) = ([0; 8], [0; 32]);
        self.entropy.fill(&mut id);
        self.entropy.fill(&mut key);
        let id = i64::from_be_bytes(id);
        let [name, whose] = SealedTable::person(id, subject);
        let sealed = self.sealer.seal(PURPOSE, &[&name, &whose], &key, &*self.entropy)?;
        let created = self.clock.now();
        let row = SubjectRow { id, subject, scope, sealed, created, expires: self.life.end(created) };
        if self.store.make_key(row, self.keys_max) {
            return Some((id.cast_unsigned(), within(scope, key)));
        }
        tracing::warn!("no room for the key of another person: placeholders stand where tokens would");
        None
    }

    /// Rows of the database cannot be exchanged for each other.
    fn open_row(&self, row: &SubjectRow) -> Option<[u8; 32]> {
        let [name, whose] = SealedTable::person(row.id, row.subject);
        let plain = self.sealer.open(PURPOSE, &[&name, &whose], &row.sealed).map(Zeroizing::new)?;
        Some(within(row.scope, *plain.first_chunk::<32>()?))
    }
}

/// What a key is within its scope: in a row that was given another one it opens nothing.
fn within(scope: Option<Digest>, key: [u8; 32]) -> [u8; 32] {
    scope.map_or(key, |scope| Digest::of_parts(&[b"token key within", &scope.0, &key]).0)
}

impl TokenKeys for Book {
    fn scope(&self) -> TokenScope {
        self.life.scope
    }

    fn seal(&self, scope: Option<Digest>, subject: Digest) -> Option<(u64, [u8; 32])> {
        let scope = self.counted(scope)?;
        let known = self.store.newest_key(scope, subject, self.clock.now());
        let known = known.and_then(|row| Some((row.id.cast_unsigned(), self.open_row(&row)?)));
        known.or_else(|| self.make(scope, subject))
    }

    fn open(&self, scope: Option<Digest>, name: u64) -> Option<[u8; 32]> {
        let scope = self.counted(scope)?;
        let row = self.store.subject_key(name.cast_signed(), self.clock.now())?;
        if row.scope == scope { self.open_row(&row) } else { None }
    }

    fn in_use(&self, scope: Digest) {
        if self.life.scope == TokenScope::Session {
            let now = self.clock.now();
            self.store.prolong_keys(scope, now, self.life.end(now), self.life.total_ms);
        }
    }

    fn over(&self, scope: Digest) {
        self.store.end_keys(scope);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use portcullis_seal::Ring;
    use portcullis_store::Sqlite;

    use super::*;

    #[derive(Debug, Default)]
    struct World(AtomicU64, AtomicU64);

    impl Clock for World {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
        fn ticks_us(&self) -> u64 {
            0
        }
    }

    impl Entropy for World {
        fn fill(&self, out: &mut [u8]) {
            let count = self.1.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            out.iter_mut().zip(count.iter().rev().cycle()).for_each(|(to, from)| *to = *from);
        }
    }

    fn book(secret: &[u8], store: &Arc<Sqlite>, world: &Arc<World>, keys_max: u64) -> Book {
        scoped(TokenScope::Gateway, secret, store, world, keys_max)
    }

    fn scoped(
        scope: TokenScope,
        secret: &[u8],
        store: &Arc<Sqlite>,
        world: &Arc<World>,
        keys_max: u64,
    ) -> Book {
        let parts: (Arc<dyn Subjects>, Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::clone(store) as _, Arc::clone(world) as _, Arc::clone(world) as _);
        let life = Life { scope, total_ms: 1_000, idle_ms: 100 };
        Book::new(Sealer::new(Ring::fixed(secret)), parts, life, keys_max)
    }

    #[tokio::test]
    async fn a_key_of_a_session_is_another_in_the_next_and_ends_with_it_at_the_latest_by_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let world = Arc::new(World::default());
        let store = Arc::new(Sqlite::open(&path).unwrap());
        let book = scoped(TokenScope::Session, b"secret", &store, &world, 9);
        let (me, [one, two]) = (Digest::of(b"me"), [b"one", b"two"].map(|s| Some(Digest::of(s))));
        let (name, key) = book.seal(one, me).unwrap();
        let (other, different) = book.seal(two, me).unwrap();
        assert!(name != other && key != different, "the same person in another session is another");
        assert_eq!(book.seal(one, me), Some((name, key)));
        assert_eq!(
            (book.open(one, name), book.open(two, name), book.open(None, name)),
            (Some(key), None, None)
        );
        assert_eq!(book.seal(None, me), None, "whose it would be is not known");
        let wide = scoped(TokenScope::Gateway, b"secret", &store, &world, 9);
        assert_eq!(wide.open(one, name), None, "made for a session, it does not become everybody's");

        // Used, it lasts; not used, it ends; and in any case it ends.
        for at in (50..1_000).step_by(50) {
            world.0.store(at, Ordering::Relaxed);
            book.in_use(one.unwrap());
            assert_eq!(book.open(one, name), Some(key), "{at}");
            assert_eq!(book.open(two, other).is_some(), at < 100, "{at}");
        }
        world.0.store(1_000, Ordering::Relaxed);
        book.in_use(one.unwrap());
        assert_eq!(book.open(one, name), None);

        let (name, _) = book.seal(one, me).unwrap();
        book.over(one.unwrap());
        assert_eq!(book.open(one, name), None, "at once");
        assert!(store.subject_keys(me).await.unwrap().iter().all(|row| row.scope != one), "and in the file");
    }

    #[tokio::test]
    async fn a_key_is_its_persons_outlives_a_restart_ends_by_the_clock_and_is_gone_once_erased() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let world = Arc::new(World::default());
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let store = Arc::new(Sqlite::open(&path).unwrap());
        let first = book(b"secret", &store, &world, 3);
        let (name, key) = first.seal(None, one).unwrap();
        assert_eq!(first.seal(None, one), Some((name, key)), "the same person, the same key");
        let (other, different) = first.seal(None, two).unwrap();
        assert!(name != other && key != different);
        assert_eq!((first.open(None, name), first.open(None, 12345)), (Some(key), None));
        assert_eq!(
            book(b"another", &store, &world, 3).open(None, name),
            None,
            "sealed for this data directory"
        );
        drop((first, store));

        let store = Arc::new(Sqlite::open(&path).unwrap());
        let again = book(b"secret", &store, &world, 3);
        assert_eq!(again.open(None, name), Some(key), "a restart changes nothing");
        assert_eq!(store.erase(one, "", Vec::new()).await.unwrap().keys, 1);
        assert_eq!((again.open(None, name), again.open(None, other)), (None, Some(different)));
        let (anew, fresh) = again.seal(None, one).unwrap();
        assert!(anew != name && fresh != key, "who was erased and comes again is somebody else");
        assert!(
            again.seal(None, Digest::of(b"three")).is_some()
                && again.seal(None, Digest::of(b"four")).is_none(),
            "full"
        );
        world.0.store(1_000, Ordering::Relaxed);
        assert_eq!(again.open(None, other), None, "its time is over");
        assert!(again.seal(None, Digest::of(b"four")).is_some(), "and there is room again");
        drop((again, store));
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|part| part == key || part == different), "a key in the clear");
        }
    }
}
