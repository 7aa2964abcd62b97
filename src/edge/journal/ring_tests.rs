use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::lap::to_read_again;
use super::*;

const SMALL: Size = Size { slots: 8, record: 200, record_most: 600, parts: 4, live: 10_000 };

/// A stream that keeps the last message of each slot.
#[derive(Clone, Default)]
struct Stream {
    sequence: u64,
    slots: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Stream {
    /// Stores a record, if its slot is as the writer expects.
    fn store(&mut self, ring: &Ring, record: &Record) -> Option<u64> {
        let slot = ring.slot(record.number);
        let is = self.slots.get(&slot).map_or(0, |(sequence, _)| *sequence);
        if is != ring.expects(record.number) {
            return None;
        }
        self.sequence += 1;
        self.slots.insert(slot, (self.sequence, record.encode(SMALL.slots)));
        Some(self.sequence)
    }

    /// What a new reader makes of it.
    fn read(&self) -> Ring {
        let read = |(slot, (sequence, bytes)): (&u64, &(u64, Vec<u8>))| {
            (Record::decode(bytes, *slot, SMALL.slots).unwrap(), *sequence)
        };
        let mut records: Vec<_> = self.slots.iter().map(read).collect();
        records.sort_by_key(|(record, _)| record.number);
        let mut found = vec![None; 8];
        for (record, _) in &records {
            found[(record.number % 8) as usize] = Some(record.number);
        }
        assert!(to_read_again(&found).is_empty());
        let mut ring = Ring::new(SMALL);
        for (record, sequence) in records {
            ring.follow(record, sequence).unwrap();
        }
        ring
    }
}

fn image(ring: &Ring) -> BTreeMap<Bytes, Bytes> {
    ring.image().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What an owner does.
#[derive(Debug, Clone)]
enum Act {
    /// Commits. After so many records it dies, and another one takes over.
    Commit { changes: Vec<(u8, Option<usize>)>, dies_after: Option<usize> },
    /// Somebody reads it all.
    Read,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let change = (0..12_u8, prop_oneof![3 => (0..70_usize).prop_map(Some), 1 => Just(None)]);
    let changes = prop::collection::vec(change, 0..9);
    let commit = (changes, prop::option::weighted(0.2, 0..3_usize))
        .prop_map(|(changes, dies_after)| Act::Commit { changes, dies_after });
    prop::collection::vec(prop_oneof![8 => commit, 1 => Just(Act::Read)], 1..80)
}

proptest! {
    /// Whoever reads has what was committed: all of it, and nothing of what was not.
    #[test]
    fn what_is_read_is_what_was_committed(acts in acts()) {
        let (mut stream, mut ring, mut model) = (Stream::default(), Ring::new(SMALL), BTreeMap::new());
        let mut version = 0_u32;
        for act in acts {
            let Act::Commit { changes, dies_after } = act else {
                prop_assert_eq!(&image(&stream.read()), &model);
                continue;
            };
            let changes: Vec<Change> = changes.into_iter().map(|(key, length)| {
                version += 1;
                let value = |length| Bytes::from(format!("{version:x}").repeat(length));
                Change { key: Bytes::from(vec![b'k', key]), value: length.map(value) }
            }).collect();
            let records = match ring.plan([1; 16], changes.clone()) {
                Ok(records) => records,
                Err(error) => {
                    prop_assert!(error == TooLarge::Commit, "{error}");
                    continue;
                }
            };
            let count = records.len();
            for record in records.into_iter().take(dies_after.unwrap_or(count)) {
                prop_assert!(record.encode(SMALL.slots).len() <= SMALL.record_most + 100);
                let sequence = stream.store(&ring, &record);
                prop_assert!(sequence.is_some());
                ring.follow(record, sequence.unwrap()).unwrap();
            }
            if dies_after.is_none_or(|after| after >= count) {
                for change in changes {
                    match change.value {
                        Some(value) => model.insert(change.key, value),
                        None => model.remove(&change.key),
                    };
                }
            }
            prop_assert_eq!(ring.bytes(), image(&ring).iter().map(|(key, value)| key.len() + value.len()).sum::<usize>());
            if dies_after.is_some() {
                let before = std::mem::replace(&mut ring, stream.read());
                take_over(&mut stream, &mut ring);
                // The old one is alive after all, and goes on.
                let late = before.plan([1; 16], vec![Change::set("k", "late")]).unwrap();
                prop_assert_eq!(stream.store(&before, &late[0]), None);
            }
            prop_assert_eq!(&image(&ring), &model);
        }
        prop_assert_eq!(&image(&stream.read()), &model);
    }
}

fn take_over(stream: &mut Stream, ring: &mut Ring) {
    let mine = ring.plan([2; 16], Vec::new()).unwrap().remove(0);
    let sequence = stream.store(ring, &mine).expect("nobody else writes");
    ring.follow(mine, sequence).unwrap();
}

fn committed(stream: &mut Stream, ring: &mut Ring, changes: Vec<Change>) {
    for record in ring.plan([1; 16], changes).unwrap() {
        let sequence = stream.store(ring, &record).unwrap();
        ring.follow(record, sequence).unwrap();
    }
}

#[test]
fn what_is_never_changed_again_goes_round_and_round() {
    let (mut stream, mut ring) = (Stream::default(), Ring::new(SMALL));
    committed(&mut stream, &mut ring, vec![Change::set("old", "value"), Change::set("gone", "value")]);
    committed(&mut stream, &mut ring, vec![Change::delete("gone")]);
    for n in 0..100 {
        committed(&mut stream, &mut ring, vec![Change::set("new", n.to_string())]);
    }
    let all = image(&stream.read());
    let want = [("new", "99"), ("old", "value")].map(|(k, v)| (Bytes::from(k), Bytes::from(v)));
    assert_eq!(all, BTreeMap::from(want));
}

#[test]
fn a_commit_of_several_records_counts_with_the_last_one() {
    let (mut stream, mut ring) = (Stream::default(), Ring::new(SMALL));
    committed(&mut stream, &mut ring, vec![Change::set("a", "1"), Change::set("b", "1")]);
    let long = "2".repeat(150);
    let changes = vec![Change::set("a", long.clone()), Change::set("b", long.clone())];
    let records = ring.plan([1; 16], changes).unwrap();
    assert_eq!(
        records.iter().map(|record| (record.part, record.more)).collect::<Vec<_>>(),
        [(0, true), (1, false)]
    );
    for (record, want) in records.into_iter().zip(["1", &long]) {
        let sequence = stream.store(&ring, &record).unwrap();
        ring.follow(record, sequence).unwrap();
        let image = image(&stream.read());
        assert!(["a", "b"].iter().all(|key| image[key.as_bytes()] == want));
    }
}

/// The record with the deletion is written over before the one that carries what it deletes.
#[test]
fn what_a_commit_of_several_records_deletes_stays_deleted() {
    let (mut stream, mut ring) = (Stream::default(), Ring::new(SMALL));
    let long = "2".repeat(150);
    committed(&mut stream, &mut ring, vec![Change::set("x", "1")]);
    committed(&mut stream, &mut ring, vec![Change::set("a", "1")]);
    for _ in 0..6 {
        committed(&mut stream, &mut ring, vec![Change::set("x", "1")]);
    }
    // Its second record takes the slot of `a`.
    let changes = vec![Change::delete("a"), Change::set("b", long.clone()), Change::set("c", long)];
    let records = ring.plan([1; 16], changes.clone()).unwrap();
    assert_eq!(records[1].carried, [Change::set("a", "1")]);
    committed(&mut stream, &mut ring, changes);
    for _ in 0..SMALL.slots {
        committed(&mut stream, &mut ring, vec![Change::set("x", "1")]);
        assert!(!image(&stream.read()).contains_key(&b"a"[..]));
    }
}

#[test]
fn parts_that_do_not_belong_together_are_no_commit() {
    let record = |number, owner, part, more| Record {
        number,
        owner: [owner; 16],
        part,
        more,
        carried: Vec::new(),
        changes: Vec::new(),
    };
    for (first, second, follows) in [
        (record(1, 1, 0, true), record(2, 1, 1, false), true),
        (record(1, 1, 0, true), record(2, 2, 0, false), true),
        (record(1, 1, 0, true), record(2, 1, 2, false), false),
        (record(1, 1, 0, true), record(2, 2, 1, false), false),
        (record(1, 1, 0, false), record(2, 1, 1, false), false),
        (record(1, 1, 0, false), record(3, 1, 0, false), false),
        (record(9, 1, 3, true), record(10, 1, 4, false), true),
    ] {
        let mut ring = Ring::new(SMALL);
        ring.follow(first.clone(), 1).unwrap();
        assert_eq!(ring.follow(second.clone(), 2).is_ok(), follows, "{first:?}, {second:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_before_anything_is_stored() {
    let ring = Ring::new(Size { parts: 2, ..Size::EDGE });
    let value = |length: usize| Bytes::from(vec![0; length]);
    let plan = |changes| ring.plan([1; 16], changes).map(|records| records.len());
    assert_eq!(plan(vec![Change::set("k", value(VALUE_MOST))]), Ok(1));
    assert!(matches!(plan(vec![Change::set("k", value(VALUE_MOST + 1))]), Err(TooLarge::Change { .. })));
    assert!(matches!(plan(vec![Change::set(value(KEY_MOST + 1), "v")]), Err(TooLarge::Change { .. })));
    let many =
        |count: u32| (0..count).map(|n| Change::set(n.to_be_bytes().to_vec(), value(300 * 1_024))).collect();
    assert_eq!(plan(many(2)), Ok(2));
    assert_eq!(plan(many(3)), Err(TooLarge::Commit));
    let small = Ring::new(Size { live: 100, ..Size::EDGE });
    let refused = small.plan([1; 16], vec![Change::set("k", value(100))]);
    assert_eq!(refused, Err(TooLarge::Session(101)));
}
