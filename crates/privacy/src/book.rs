//! Keys of people, each sealed with the data key of the store. Whoever loses his key is forgotten: what tokens say of him
//! can never be read again.

use std::{fmt, sync::Arc};

use portcullis_core::{Clock, Digest, Entropy};
use portcullis_inspect::TokenKeys;
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
    lifetime_ms: u64,
    keys_max: u64,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

impl Book {
    /// Keys that end after `lifetime_ms`, `keys_max` of them at most.
    #[must_use]
    pub fn new(
        sealer: Sealer,
        (store, clock, entropy): (Arc<dyn Subjects>, Arc<dyn Clock>, Arc<dyn Entropy>),
        lifetime_ms: u64,
        keys_max: u64,
    ) -> Self {
        Self { store, clock, entropy, sealer, lifetime_ms, keys_max }
    }

    fn make(&self, subject: Digest) -> Option<(u64, [u8; 32])> {
        let (mut id, mut key) = ([0; 8], [0; 32]);
        self.entropy.fill(&mut id);
        self.entropy.fill(&mut key);
        let id = i64::from_be_bytes(id);
        let [name, whose] = SealedTable::person(id, subject);
        let sealed = self.sealer.seal(PURPOSE, &[&name, &whose], &key, &*self.entropy)?;
        let created = self.clock.now();
        let row = SubjectRow { id, subject, sealed, created, expires: created.plus_ms(self.lifetime_ms) };
        if self.store.make_key(row, self.keys_max) {
            return Some((id.cast_unsigned(), key));
        }
        tracing::warn!("no room for the key of another person: placeholders stand where tokens would");
        None
    }

    /// Rows of the database cannot be exchanged for each other.
    fn open_row(&self, row: &SubjectRow) -> Option<[u8; 32]> {
        let [name, whose] = SealedTable::person(row.id, row.subject);
        let plain = self.sealer.open(PURPOSE, &[&name, &whose], &row.sealed).map(Zeroizing::new)?;
        plain.first_chunk::<32>().copied()
    }
}

impl TokenKeys for Book {
    fn seal(&self, subject: Digest) -> Option<(u64, [u8; 32])> {
        let known = self.store.newest_key(subject, self.clock.now());
        let known = known.and_then(|row| Some((row.id.cast_unsigned(), self.open_row(&row)?)));
        known.or_else(|| self.make(subject))
    }

    fn open(&self, name: u64) -> Option<[u8; 32]> {
        self.open_row(&*self.store.subject_key(name.cast_signed(), self.clock.now())?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use portcullis_core::Timestamp;
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
        let parts: (Arc<dyn Subjects>, Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::clone(store) as _, Arc::clone(world) as _, Arc::clone(world) as _);
        Book::new(Sealer::new(Ring::fixed(secret)), parts, 1_000, keys_max)
    }

    #[tokio::test]
    async fn a_key_is_its_persons_outlives_a_restart_ends_by_the_clock_and_is_gone_once_erased() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let world = Arc::new(World::default());
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let store = Arc::new(Sqlite::open(&path).unwrap());
        let first = book(b"secret", &store, &world, 3);
        let (name, key) = first.seal(one).unwrap();
        assert_eq!(first.seal(one), Some((name, key)), "the same person, the same key");
        let (other, different) = first.seal(two).unwrap();
        assert!(name != other && key != different);
        assert_eq!((first.open(name), first.open(12345)), (Some(key), None));
        assert_eq!(book(b"another", &store, &world, 3).open(name), None, "sealed for this data directory");
        drop((first, store));

        let store = Arc::new(Sqlite::open(&path).unwrap());
        let again = book(b"secret", &store, &world, 3);
        assert_eq!(again.open(name), Some(key), "a restart changes nothing");
        assert_eq!(store.erase(one, "").await.unwrap().keys, 1);
        assert_eq!((again.open(name), again.open(other)), (None, Some(different)));
        let (anew, fresh) = again.seal(one).unwrap();
        assert!(anew != name && fresh != key, "who was erased and comes again is somebody else");
        assert!(
            again.seal(Digest::of(b"three")).is_some() && again.seal(Digest::of(b"four")).is_none(),
            "full"
        );
        world.0.store(1_000, Ordering::Relaxed);
        assert_eq!(again.open(other), None, "its time is over");
        assert!(again.seal(Digest::of(b"four")).is_some(), "and there is room again");
        drop((again, store));
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|part| part == key || part == different), "a key in the clear");
        }
    }
}
