//! The data keys of a store, through everything that can be done to them.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use portcullis_core::{Clock, Digest, Entropy, Secret, Timestamp};
use portcullis_seal::{FileKek, Kek, KekError, Key, Keyring, Parts, Progress, Sealer};
use portcullis_store::{DataKeys, LocalSecrets, Revisions, SealedTable, Sqlite, SubjectRow, Subjects};

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
        let count = self.1.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        out.iter_mut().zip(count.iter().cycle()).for_each(|(to, from)| *to = *from);
    }
}

/// A key service that does not answer.
#[derive(Debug)]
struct Away(String);

#[async_trait]
impl Kek for Away {
    fn id(&self) -> &str {
        &self.0
    }
    async fn wrap(&self, _key: &Key, _context: &str) -> Result<String, KekError> {
        Err(KekError::Unavailable("away".into()))
    }
    async fn unwrap(&self, _wrapped: &str, _context: &str) -> Result<Key, KekError> {
        Err(KekError::Unavailable("away".into()))
    }
}

struct Place {
    folder: tempfile::TempDir,
    world: Arc<World>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), world: Arc::new(World::default()) }
    }

    fn store(&self) -> Arc<Sqlite> {
        Arc::new(Sqlite::open(self.folder.path().join("db")).unwrap())
    }

    fn file(&self, name: &str, passphrase: Option<&str>) -> Arc<dyn Kek> {
        let path = self.folder.path().join(name);
        let passphrase = passphrase.map(|text| Secret::new(text.to_owned()));
        if !path.exists() {
            let text = FileKek::text(passphrase.as_ref(), &*self.world).unwrap();
            std::fs::write(&path, text.expose()).unwrap();
        }
        let text = std::fs::read(&path).unwrap();
        Arc::new(FileKek::of_text(&text, passphrase.as_ref(), Arc::clone(&self.world) as _).unwrap())
    }

    fn ring(&self, store: &Arc<Sqlite>, kek: Arc<dyn Kek>, former: Vec<Arc<dyn Kek>>) -> Keyring {
        Keyring::new(Parts {
            store: Arc::clone(store) as _,
            kept: LocalSecrets::all(&(Arc::clone(store) as Arc<dyn Revisions>)),
            kek,
            former,
            clock: Arc::clone(&self.world) as _,
            entropy: Arc::clone(&self.world) as _,
        })
    }
}

fn sealer(ring: &Keyring) -> Sealer {
    Sealer::new(Arc::clone(ring.ring()))
}

#[tokio::test]
async fn keys_are_made_once_and_open_again_for_every_gateway_on_the_store() {
    let (place, store) = {
        let place = Place::new();
        let store = place.store();
        (place, store)
    };
    let first = place.ring(&store, place.file("kek", None), Vec::new());
    let index = Secret::new(vec![7; 32]);
    assert_eq!(first.open(Some(&index)).await, Ok(true));
    assert_eq!(first.ring().index().unwrap().expose(), index.expose(), "the key of digests was given");
    let sealed = sealer(&first).seal("p", &["a"], b"text", &*place.world).unwrap();
    let second = place.ring(&store, place.file("kek", None), Vec::new());
    assert_eq!(second.open(None).await, Ok(false), "there are keys");
    assert_eq!(sealer(&second).open("p", &["a"], &sealed).unwrap(), b"text");
    assert_eq!(second.ring().index().unwrap().expose(), index.expose());
    // A stranger's file opens nothing, and is told which key it takes.
    let other = place.ring(&store, place.file("other", None), Vec::new());
    let Err(KekError::Refused(why)) = other.open(None).await else { panic!("opened by another key") };
    assert!(why.contains(place.file("kek", None).id()) && why.contains("encryption.former"), "{why}");
    assert!(!other.ring().is_open() && other.status().await.unwrap().why.is_some_and(|text| text == why));
}

#[tokio::test]
async fn a_wrapped_key_that_was_put_in_the_place_of_another_opens_nothing() {
    let place = Place::new();
    let store = place.store();
    let ring = place.ring(&store, place.file("kek", None), Vec::new());
    ring.open(None).await.unwrap();
    let rows = store.data_keys().await.unwrap();
    let [data, index] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&*data.name, &*index.name), ("data", "index"));
    assert!(store.rewrap_data_key(data.clone(), index.wrapped.clone(), index.kek.clone()).await.unwrap());
    let again = place.ring(&store, place.file("kek", None), Vec::new());
    assert!(matches!(again.open(None).await, Err(KekError::Refused(_))));
}

#[tokio::test]
async fn another_key_wraps_the_same_keys_and_the_one_before_is_of_no_use_then() {
    let place = Place::new();
    let store = place.store();
    let old = place.file("old", None);
    let first = place.ring(&store, Arc::clone(&old), Vec::new());
    first.open(None).await.unwrap();
    let sealed = sealer(&first).seal("p", &[], b"text", &*place.world).unwrap();
    let new = place.file("new", Some("a passphrase"));
    let second = place.ring(&store, Arc::clone(&new), vec![Arc::clone(&old)]);
    assert_eq!(second.open(None).await, Ok(false));
    assert_eq!(second.rewrap().await, Ok(2));
    let third = place.ring(&store, new, Vec::new());
    third.open(None).await.unwrap();
    assert_eq!(sealer(&third).open("p", &[], &sealed).unwrap(), b"text");
    assert!(place.ring(&store, old, Vec::new()).open(None).await.is_err());
    // Nothing of what the old key wrapped is left in the file.
    let away = place.ring(&store, Arc::new(Away("file:x".into())), Vec::new());
    assert!(matches!(away.open(None).await, Err(KekError::Refused(_))), "it never wrapped anything");
}

#[tokio::test]
async fn a_key_service_that_is_away_closes_nothing_that_is_open() {
    let place = Place::new();
    let store = place.store();
    let kek = place.file("kek", None);
    let open = place.ring(&store, Arc::clone(&kek), Vec::new());
    open.open(None).await.unwrap();
    let away = place.ring(&store, Arc::new(Away(kek.id().to_owned())), Vec::new());
    assert!(matches!(away.open(None).await, Err(KekError::Unavailable(_))));
    assert!(!away.ring().is_open());
    assert!(matches!(away.add().await, Err(KekError::Unavailable(_))));
    assert!(matches!(away.rewrap().await, Err(KekError::Unavailable(_))));
    assert_eq!(open.follow().await, Ok(()));
    assert!(open.ring().is_open());
    assert_eq!(store.data_keys().await.unwrap().len(), 2, "a rotation that failed left nothing behind");
}

#[tokio::test]
async fn a_new_key_seals_once_everybody_knows_it_and_what_was_sealed_follows_a_batch_at_a_time() {
    let place = Place::new();
    let store = place.store();
    let secrets = LocalSecrets::new(Arc::clone(&store) as Arc<dyn Revisions>);
    let ring = place.ring(&store, place.file("kek", None), Vec::new());
    ring.open(None).await.unwrap();
    let other = place.ring(&store, place.file("kek", None), Vec::new());
    other.open(None).await.unwrap();
    let purpose = SealedTable::Subjects.purpose();
    for id in 0..250_i64 {
        let subject = Digest::of(&id.to_be_bytes());
        let [name, whose] = SealedTable::person(id, subject);
        let sealed = sealer(&ring).seal(purpose, &[&name, &whose], &id.to_be_bytes(), &*place.world).unwrap();
        let row = SubjectRow {
            id,
            subject,
            scope: None,
            sealed,
            created: Timestamp(0),
            expires: Timestamp(1_000_000),
        };
        assert!(store.make_key(row, 1_000));
    }
    let sealed = sealer(&ring).seal("secret", &["s"], b"value", &*place.world).unwrap();
    assert!(secrets.put("s", sealed, None, ("me", Timestamp(1))).await.unwrap());

    assert_eq!(ring.add().await, Ok(2));
    let seals =
        |keyring: &Keyring| sealer(keyring).seal("p", &[], b"", &*place.world).unwrap()[..4].to_owned();
    assert_eq!(seals(&ring), "1.1.", "others may not know it yet");
    place.world.0.store(10_000, Ordering::Relaxed);
    ring.follow().await.unwrap();
    assert_eq!(seals(&ring), "1.2.");
    let early = sealer(&ring).seal("p", &[], b"early", &*place.world).unwrap();
    other.follow().await.unwrap();
    assert_eq!(sealer(&other).open("p", &[], &early).unwrap(), b"early");

    let status = ring.status().await.unwrap();
    assert_eq!((status.rows, status.behind), (251, 251));
    assert_eq!(ring.reseal().await, Ok(Progress { done: 101, left: 150, lost: 0 }));
    // Whoever goes on is another gateway.
    assert_eq!(other.reseal().await, Ok(Progress { done: 201, left: 50, lost: 0 }));
    assert_eq!(ring.reseal().await, Ok(Progress { done: 251, left: 0, lost: 0 }));
    for row in [0, 249] {
        let row = store.subject_key(row, Timestamp(1)).unwrap();
        let [name, whose] = SealedTable::person(row.id, row.subject);
        assert_eq!(sealer(&ring).open(purpose, &[&name, &whose], &row.sealed).unwrap(), row.id.to_be_bytes());
    }
    let secret = secrets.get("s").await.unwrap().unwrap();
    assert_eq!(sealer(&other).open("secret", &["s"], &secret.sealed).unwrap(), b"value");

    let before = sealer(&ring);
    assert_eq!(ring.retire().await, Ok(1));
    other.follow().await.unwrap();
    assert_eq!(other.status().await.unwrap().keys.len(), 2);
    assert_eq!(before.open("p", &[], &early).unwrap(), b"early");
}

#[tokio::test]
async fn what_no_key_opens_is_counted_and_left_and_nothing_hangs() {
    let place = Place::new();
    let store = place.store();
    let ring = place.ring(&store, place.file("kek", None), Vec::new());
    ring.open(None).await.unwrap();
    let row = SubjectRow {
        id: 1,
        subject: Digest::of(b"x"),
        scope: None,
        sealed: "1.1.AAAA".into(),
        created: Timestamp(0),
        expires: Timestamp(9),
    };
    assert!(store.make_key(row, 10));
    ring.add().await.unwrap();
    place.world.0.store(10_000, Ordering::Relaxed);
    ring.follow().await.unwrap();
    assert_eq!(ring.reseal().await, Ok(Progress { done: 0, left: 1, lost: 1 }));
}

#[tokio::test]
async fn once_shredded_nothing_opens_on_any_gateway_and_the_file_holds_no_wrapped_key() {
    let place = Place::new();
    let store = place.store();
    let kek = place.file("kek", None);
    let (ring, other) =
        (place.ring(&store, Arc::clone(&kek), Vec::new()), place.ring(&store, Arc::clone(&kek), Vec::new()));
    ring.open(None).await.unwrap();
    other.open(None).await.unwrap();
    let sealed = sealer(&ring).seal("p", &[], b"text", &*place.world).unwrap();
    let wrapped: Vec<String> = store.data_keys().await.unwrap().into_iter().map(|row| row.wrapped).collect();
    assert_eq!(ring.shred().await, Ok(2));
    other.follow().await.unwrap();
    for ring in [&ring, &other] {
        assert_eq!(sealer(ring).open("p", &[], &sealed), None);
        assert_eq!(sealer(ring).seal("p", &[], b"", &*place.world), None);
    }
    let again = place.ring(&store, kek, Vec::new());
    assert_eq!(again.open(None).await, Ok(true), "new keys, which open nothing of before");
    assert_eq!(sealer(&again).open("p", &[], &sealed), None);
    drop((ring, other, again, store));
    for file in std::fs::read_dir(place.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for text in &wrapped {
            assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "a wrapped key is left");
        }
    }
}

#[test]
fn a_file_that_holds_no_key_or_wants_another_passphrase_is_refused() {
    let world: Arc<World> = Arc::default();
    let secret = |text: &str| Secret::new(text.to_owned());
    let plain = FileKek::text(None, &*world).unwrap();
    let under = FileKek::text(Some(&secret("right")), &*world).unwrap();
    let open = |text: &[u8], passphrase: Option<&Secret<String>>| {
        FileKek::of_text(text, passphrase, Arc::clone(&world) as _)
    };
    assert!(open(plain.expose(), None).is_ok() && open(under.expose(), Some(&secret("right"))).is_ok());
    let text = String::from_utf8(plain.expose().clone()).unwrap();
    let line = text.lines().last().unwrap();
    for (bad, passphrase) in [
        (String::new(), None),
        (text.clone(), Some("x")),
        (format!("{line}\n{line}\n"), None),
        (line[..line.len() - 4].to_owned(), None),
        (line.replace("-1", "-2"), None),
        (String::from_utf8(under.expose().clone()).unwrap(), None),
        (String::from_utf8(under.expose().clone()).unwrap(), Some("wrong")),
        (String::from_utf8(under.expose().clone()).unwrap().replace("600000", "4000000000"), Some("right")),
        (String::from_utf8(under.expose().clone()).unwrap().replace("600000", "0"), Some("right")),
    ] {
        let passphrase = passphrase.map(secret);
        assert!(open(bad.as_bytes(), passphrase.as_ref()).is_err(), "{bad}");
    }
    assert!(open(&[0xff], None).is_err());
    let shown = format!("{:?}", open(plain.expose(), None));
    assert!(!shown.contains(line.rsplit(' ').next().unwrap()), "{shown}");
}
