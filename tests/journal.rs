//! A session's journal on the bus: what is committed is read, by one owner after another, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::{self, stream};
use base64::Engine as _;
use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whatsapp_connector::bus::{self, Bus};
use whatsapp_connector::edge::journal::{
    Change, CommitError, Journal, LoadError, Owner, SessionKeys, Size, Together, Unreadable,
};
use whatsapp_connector::wire::{Account, Subjects};

use crate::support::{Deaf, Nats, PATIENCE, eventually};

const SMALL: Size = Size { slots: 16, record: 4_096, record_most: 600_000, parts: 8, live: 1_000_000 };

/// A nats-server with the stream of sessions.
struct Place {
    nats: Nats,
    _dir: TempDir,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let nats = Nats::start(dir.path().join("nats")).await;
        let place = Self { nats, _dir: dir };
        place.jetstream().await.create_stream(config()).await.expect("the stream");
        place
    }

    async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.nats.url()).await.expect("a connection"))
    }

    async fn journal(&self, key: u8) -> Journal {
        journal_at(&self.nats.url(), key, SMALL).await
    }

    async fn owner(&self) -> Owner {
        take(self.journal(1).await).await
    }

    /// What anybody reads who has the key.
    async fn read(&self) -> BTreeMap<String, String> {
        let loaded = self.journal(1).await.load().await.expect("it can be read").expect("a session");
        image(loaded.image())
    }
}

fn config() -> stream::Config {
    stream::Config {
        name: "WA_SESSION".to_owned(),
        subjects: vec!["wa.session.*.*".to_owned()],
        max_messages_per_subject: 1,
        discard: stream::DiscardPolicy::New,
        allow_direct: true,
        ..stream::Config::default()
    }
}

fn subjects() -> Subjects {
    Subjects::new("wa").expect("a prefix")
}

async fn journal_at(url: &str, key: u8, size: Size) -> Journal {
    let access = bus::Access::read(|_| None).expect("no login");
    let settings =
        bus::Settings { url: url.to_owned().into(), access, name: "journal".to_owned(), private: None };
    let bus = Bus::connect(&settings, &CancellationToken::new()).await.expect("a connection");
    let key = base64::engine::general_purpose::STANDARD.encode([key; 32]);
    let keys = SessionKeys::parse(&key).expect("a key");
    Journal::new(bus, &subjects(), &Account::parse("shop").expect("a name"), keys, size)
}

async fn take(journal: Journal) -> Owner {
    Owner::take(journal, &CancellationToken::new()).await.expect("it is taken over")
}

fn set(key: &str, value: impl ToString) -> Change {
    Change::set(key.to_owned(), value.to_string())
}

fn image<'a>(all: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> BTreeMap<String, String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    all.map(|(key, value)| (text(key), text(value))).collect()
}

async fn commit(owner: &mut Owner, changes: impl Into<Vec<Change>>) -> Result<(), CommitError> {
    owner.commit(changes.into(), &CancellationToken::new()).await
}

#[tokio::test]
async fn what_is_committed_is_read_by_the_next_owner_however_often_the_ring_comes_round() {
    let place = Place::new().await;
    let mut owner = place.owner().await;
    assert!(!owner.was_there());
    let long = "x".repeat(500_000);
    commit(&mut owner, [set("kept", 1), set("gone", 1), set("long", &long)]).await.expect("committed");
    commit(&mut owner, [Change::delete("gone")]).await.expect("committed");
    for round in 0..100 {
        commit(&mut owner, [set("round", round), set(&format!("of ten {}", round % 10), round)])
            .await
            .expect("committed");
    }
    // Several records, and all of them or none.
    let many: Vec<_> = (0..10).map(|n| set(&format!("many {n}"), "y".repeat(1_000))).collect();
    commit(&mut owner, many).await.expect("committed");
    let written = image(owner.image());
    assert_eq!(written.len(), 2 + 11 + 10);
    assert_eq!((written["kept"].as_str(), written["round"].as_str()), ("1", "99"));
    assert_eq!(place.read().await, written);

    let next = place.owner().await;
    assert!(next.was_there());
    assert_eq!(image(next.image()), written);
    let info = place.jetstream().await.get_stream("WA_SESSION").await.expect("the stream");
    assert_eq!(info.get_info().await.expect("its state").state.messages, SMALL.slots);
}

/// A young ring is not read to its end, and an old one is.
#[tokio::test]
async fn a_ring_is_read_whole_however_far_it_has_come() {
    let place = Place::new().await;
    let size = Size { slots: 1_024, ..SMALL };
    let journal = journal_at(&place.nats.url(), 1, size).await;
    let mut owner = take(journal.clone()).await;
    for n in 0..1_100_u32 {
        commit(&mut owner, [set(&format!("key {}", n % 50), n)]).await.expect("committed");
        if [0, 253, 254, 255, 256, 600, 766, 767, 768, 769, 1_022, 1_023, 1_099].contains(&n) {
            let loaded = journal.load().await.expect("it can be read").expect("a session");
            assert_eq!((loaded.records(), image(loaded.image())), (u64::from(n) + 2, image(owner.image())));
        }
    }
}

#[tokio::test]
async fn who_takes_over_has_all_of_it_and_the_one_before_is_refused() {
    let place = Place::new().await;
    let mut old = place.owner().await;
    commit(&mut old, [set("ratchet", 1)]).await.expect("committed");
    let mut new = place.owner().await;
    assert_eq!(image(new.image())["ratchet"], "1");

    let refused = commit(&mut old, [set("ratchet", "of the old one")]).await;
    assert!(matches!(refused, Err(CommitError::Fenced)), "{refused:?}");
    assert!(old.lost().is_cancelled());
    let refused = commit(&mut old, [set("ratchet", "of the old one")]).await;
    assert!(matches!(refused, Err(CommitError::Ended)), "{refused:?}");

    commit(&mut new, [set("ratchet", 2)]).await.expect("the new one goes on");
    assert!(!new.lost().is_cancelled());
    assert_eq!(place.read().await["ratchet"], "2");
}

/// Each takes the account over again and again, and adds to what it finds. If two could write at a time, or one did
/// not find the last commit, a count would be lost.
#[tokio::test]
async fn of_rivals_one_writes_at_a_time() {
    let place = Place::new().await;
    let counted = Arc::new(AtomicU64::new(0));
    // They go on until they were in each other's way, however the machine has them take turns.
    let fenced = Arc::new(AtomicU64::new(0));
    let mut rivals = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (journal, counted, fenced) = (place.journal(1).await, Arc::clone(&counted), Arc::clone(&fenced));
        rivals.spawn(async move {
            while counted.load(Ordering::Relaxed) < 300 || fenced.load(Ordering::Relaxed) == 0 {
                let mut owner = take(journal.clone()).await;
                let found =
                    image(owner.image()).get("count").map_or(0, |count| count.parse().expect("a number"));
                for more in 1..=50_u64 {
                    match commit(&mut owner, [set("count", found + more)]).await {
                        Ok(()) => counted.fetch_add(1, Ordering::Relaxed),
                        Err(CommitError::Fenced) => {
                            fenced.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    // On to the others, who share the thread.
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    rivals.join_all().await;
    assert_eq!(place.read().await["count"], counted.load(Ordering::Relaxed).to_string());
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_of_commits_loses_none_that_was_acknowledged() {
    let mut place = Place::new().await;
    let mut owner = place.owner().await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();
    let writing = {
        let (acknowledged, stop) = (Arc::clone(&acknowledged), stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let next = acknowledged.load(Ordering::Acquire) + 1;
                // Two records, or one: none may be there without the other.
                let long = if next % 7 == 0 { "z".repeat(3_000) } else { String::new() };
                let both = [set("one", format!("{next} {long}")), set("two", format!("{next} {long}"))];
                commit(&mut owner, both).await.expect("the only owner");
                acknowledged.store(next, Ordering::Release);
            }
            owner
        })
    };
    for _ in 0..8 {
        let before = acknowledged.load(Ordering::Acquire);
        eventually("some commits", PATIENCE, async || {
            let now = acknowledged.load(Ordering::Acquire);
            if now >= before + 40 { Ok(()) } else { Err(format!("{}", now - before)) }
        })
        .await;
        place.nats.kill();
        let at_least = acknowledged.load(Ordering::Acquire);
        place.nats.restart().await;
        let found = place.read().await;
        let number =
            |key: &str| -> u64 { found[key].split(' ').next().expect("a word").parse().expect("a number") };
        // Whoever commits meanwhile has no more than one under way for each that is counted.
        let at_most = acknowledged.load(Ordering::Acquire) + 1;
        assert!((at_least..=at_most).contains(&number("one")), "{} of {at_least}", number("one"));
        assert_eq!(found["one"], found["two"], "a commit is torn");
    }
    stop.cancel();
    let owner = writing.await.expect("it ends");
    assert_eq!(place.read().await, image(owner.image()));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_and_not_made_again() {
    let place = Place::new().await;
    let line = Deaf::start(&place.nats.url()).await;
    let mut owner = take(journal_at(line.url(), 1, SMALL).await).await;
    line.to(Some("WA_SESSION"));
    let heard_again = async {
        eventually("answers to be lost", PATIENCE, async || match line.unheard() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        })
        .await;
        line.to(None);
    };
    let (committed, ()) = tokio::join!(commit(&mut owner, [set("ratchet", 1)]), heard_again);
    committed.expect("it is known that it is stored");
    commit(&mut owner, [set("ratchet", 2)]).await.expect("the owner goes on");
    assert_eq!(place.read().await["ratchet"], "2");
    // The take-over, and the two.
    let loaded = place.journal(1).await.load().await.expect("it can be read").expect("a session");
    assert_eq!(loaded.records(), 3);
}

/// The answer is lost, and somebody else takes over before it is asked again.
#[tokio::test]
async fn who_has_lost_an_answer_and_then_the_account_is_refused() {
    let place = Place::new().await;
    let line = Deaf::start(&place.nats.url()).await;
    let mut old = take(journal_at(line.url(), 1, SMALL).await).await;
    line.to(Some("WA_SESSION"));
    let rival = async {
        eventually("answers to be lost", PATIENCE, async || match line.unheard() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        })
        .await;
        let mut new = place.owner().await;
        // A whole lap, so that nothing of the old one is left to be found.
        for n in 0..SMALL.slots {
            commit(&mut new, [set("ratchet", n)]).await.expect("committed");
        }
        line.to(None);
    };
    let (refused, ()) = tokio::join!(commit(&mut old, [set("ratchet", "of the old one")]), rival);
    assert!(matches!(refused, Err(CommitError::Fenced)), "{refused:?}");
}

#[tokio::test]
async fn never_there_is_not_empty_and_neither_is_unreadable() {
    let place = Place::new().await;
    assert!(place.journal(1).await.load().await.expect("an answer").is_none());
    let mut owner = place.owner().await;
    commit(&mut owner, [set("a", 1)]).await.expect("committed");
    commit(&mut owner, [Change::delete("a")]).await.expect("committed");
    assert!(place.read().await.is_empty());
    assert!(place.owner().await.was_there());

    let other_key = place.journal(2).await.load().await;
    assert!(matches!(other_key, Err(LoadError::Unreadable { why: Unreadable::NoKey, .. })), "{other_key:?}");
    let jetstream = place.jetstream().await;
    jetstream.publish("wa.session.shop.5", "not ours".into()).await.expect("sent").await.expect("stored");
    let damaged = place.journal(1).await.load().await;
    assert!(matches!(damaged, Err(LoadError::Unreadable { slot: 5, .. })), "{damaged:?}");

    let stream = jetstream.get_stream("WA_SESSION").await.expect("the stream");
    for slot in [2, 5] {
        stream.purge().filter(format!("wa.session.shop.{slot}")).await.expect("purged");
    }
    let holes = place.journal(1).await.impatient().load().await;
    assert!(matches!(holes, Err(LoadError::Holes(1))), "{holes:?}");
    jetstream.delete_stream("WA_SESSION").await.expect("deleted");
    let away = place.journal(1).await.impatient().load().await;
    assert!(matches!(away, Err(LoadError::Bus(_))), "{away:?}");
}

#[tokio::test]
async fn an_account_reads_and_fences_only_itself() {
    let place = Place::new().await;
    let mut shop = place.owner().await;
    let other = {
        let access = bus::Access::read(|_| None).expect("no login");
        let settings =
            bus::Settings { url: place.nats.url().into(), access, name: "other".to_owned(), private: None };
        let bus = Bus::connect(&settings, &CancellationToken::new()).await.expect("a connection");
        let keys =
            SessionKeys::parse(&base64::engine::general_purpose::STANDARD.encode([9; 32])).expect("a key");
        Journal::new(bus, &subjects(), &Account::parse("other").expect("a name"), keys, SMALL)
    };
    let mut other = take(other).await;
    commit(&mut shop, [set("a", "shop")]).await.expect("committed");
    commit(&mut other, [set("a", "other")]).await.expect("committed");
    assert_eq!((image(shop.image())["a"].as_str(), image(other.image())["a"].as_str()), ("shop", "other"));
}

/// Calls that wait while a commit is under way go together into the next one.
#[tokio::test]
async fn many_callers_share_commits() {
    let place = Place::new().await;
    let owner = Arc::new(tokio::sync::Mutex::new(place.owner().await));
    let commits = Arc::new(AtomicU64::new(0));
    let journal = {
        let (owner, commits) = (Arc::clone(&owner), Arc::clone(&commits));
        Together::<Change, CommitError>::with(move |calls| {
            let (owner, commits) = (Arc::clone(&owner), Arc::clone(&commits));
            async move {
                commits.fetch_add(1, Ordering::Relaxed);
                let changes: Vec<Change> = calls.iter().flat_map(|call| call.iter().cloned()).collect();
                commit(&mut *owner.lock().await, changes).await
            }
        })
    };
    let callers = (0..64).map(|n| {
        let changes = vec![set(&format!("key {}", n % 40), n)];
        journal.written(changes)
    });
    for written in futures::future::join_all(callers).await {
        written.expect("committed");
    }
    let commits = commits.load(Ordering::Relaxed);
    assert!(commits < 10, "{commits} commits");
    let read = place.read().await;
    assert_eq!((read.len(), read["key 20"].as_str()), (40, "60"));
}

/// Under another key, of 10,000 keys in a ring of its real size. The ring does not grow beyond what is live, and what was
/// read with the old key is read with the new one alone.
#[tokio::test]
async fn a_ring_is_written_anew_with_the_first_key_in_one_round() {
    let place = Place::new().await;
    let url = place.nats.url();
    let mut owner = take(journal_at(&url, 1, Size::EDGE).await).await;
    for part in 0..100 {
        let changes = (0..100).map(|n| set(&format!("key {part} {n}"), "x".repeat(1_000)));
        commit(&mut owner, changes.collect::<Vec<_>>()).await.expect("committed");
    }
    let written = image(owner.image());
    let stored = async || {
        let stream = place.jetstream().await.get_stream("WA_SESSION").await.expect("the stream");
        stream.get_info().await.expect("its state").state.bytes
    };
    let before = stored().await;
    let key = |key: u8| base64::engine::general_purpose::STANDARD.encode([key; 32]);
    let both = SessionKeys::parse(&format!("{},{}", key(2), key(1))).expect("keys");
    let journal = journal_at(&url, 1, Size::EDGE).await.with_keys(both.clone());
    let new_alone = journal.clone().with_keys(both.only_first()).impatient();
    let mut owner = take(journal).await;
    let unreadable = new_alone.load().await;
    assert!(
        matches!(unreadable, Err(LoadError::Unreadable { why: Unreadable::NoKey, .. })),
        "{unreadable:?}"
    );

    let mut told = 0;
    owner
        .go_round(&CancellationToken::new(), |done, of| told = done * u64::from(of == 4_096))
        .await
        .expect("a round");
    assert_eq!(told, 4_096);
    let loaded = new_alone.load().await.expect("it can be read").expect("a session");
    assert_eq!(image(loaded.image()), written);
    // The records of a young ring are few; each of the others has some 200 bytes.
    let after = stored().await;
    assert!(after < before + 4_096 * 300, "{before} bytes before, {after} after");
    // And the owner goes on.
    commit(&mut owner, [set("later", 1)]).await.expect("committed");
    let loaded = new_alone.load().await.expect("it can be read").expect("a session");
    assert_eq!(image(loaded.image()).len(), written.len() + 1);
}
