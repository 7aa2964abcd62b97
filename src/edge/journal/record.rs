//! The form of a record: what one message of the ring says, before it is sealed.
//!
//! It is a protobuf message, so a later version may add fields. A checksum is not among them: the seal has one that
//! nobody without the key can make.

use bytes::Bytes;
use prost::Message as _;

use super::Change;
use super::seal::Unreadable;

/// Who has written a record: an edge from the moment when it takes the account over until it gives up. Random.
pub(super) type OwnerId = [u8; 16];

/// One message of the ring.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The number in the account's log, from 1 on.
    pub(super) number: u64,
    /// Who has written it.
    pub(super) owner: OwnerId,
    /// Which record of its commit it is, from 0 on.
    pub(super) part: u32,
    /// The commit goes on with the next record, and counts only with its last one.
    pub(super) more: bool,
    /// What is still live in the slot that the record takes. It counts whatever becomes of the commit.
    pub(super) carried: Vec<Change>,
    /// What the commit changes.
    pub(super) changes: Vec<Change>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Written {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    owner: Bytes,
    #[prost(uint32, tag = "3")]
    part: u32,
    #[prost(bool, tag = "4")]
    more: bool,
    /// How many slots the ring has. In a ring of another size nothing would be where it belongs.
    #[prost(uint64, tag = "5")]
    slots: u64,
    #[prost(message, repeated, tag = "6")]
    carried: Vec<WrittenChange>,
    #[prost(message, repeated, tag = "7")]
    changes: Vec<WrittenChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct WrittenChange {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    /// None: deleted.
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
}

/// What a change adds to the length of a record, at most.
pub(super) fn cost(change: &Change) -> usize {
    // A tag and a length before the change, its key and its value: at most five bytes of a length each.
    change.key.len() + change.value.as_ref().map_or(0, Bytes::len) + 3 * 6
}

impl Record {
    /// Its bytes, in a ring of so many slots.
    pub(super) fn encode(&self, slots: u64) -> Vec<u8> {
        let written = |changes: &[Change]| {
            changes
                .iter()
                .map(|change| WrittenChange { key: change.key.clone(), value: change.value.clone() })
                .collect()
        };
        let owner = Bytes::copy_from_slice(&self.owner);
        let (carried, changes) = (written(&self.carried), written(&self.changes));
        let Self { number, part, more, .. } = *self;
        Written { number, owner, part, more, slots, carried, changes }.encode_to_vec()
    }

    /// Reads it back, from the slot of a ring with so many.
    pub(super) fn decode(bytes: &[u8], slot: u64, slots: u64) -> Result<Self, Unreadable> {
        let written = Written::decode(bytes).map_err(|_| Unreadable::Damaged)?;
        let read = |changes: Vec<WrittenChange>| -> Vec<Change> {
            changes.into_iter().map(|WrittenChange { key, value }| Change { key, value }).collect()
        };
        let owner = written.owner.as_ref().try_into().map_err(|_| Unreadable::Damaged)?;
        let Written { number, part, more, .. } = written;
        let is_here = number > 0 && written.slots == slots && number.checked_rem(slots) == Some(slot);
        if !is_here {
            return Err(Unreadable::Damaged);
        }
        let (carried, changes) = (read(written.carried), read(written.changes));
        Ok(Self { number, owner, part, more, carried, changes })
    }
}

/// What these bytes are as an opened record of this slot, written again. For the checks of decoders, which begin with bytes that
/// anybody may have made.
pub fn record_again(bytes: &[u8], slot: u64, slots: u64) -> Option<Vec<u8>> {
    Some(Record::decode(bytes, slot, slots).ok()?.encode(slots))
}

/// Keys hold phone numbers, and values hold secrets.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, part, more, .. } = self;
        let (carried, changes) = (self.carried.len(), self.changes.len());
        write!(f, "Record({number}, part {part}, more {more}, {carried} carried, {changes} changes)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = (any::<Vec<u8>>(), any::<Option<Vec<u8>>>())
            .prop_map(|(key, value)| Change { key: key.into(), value: value.map(Bytes::from) });
        prop::collection::vec(change, 0..5)
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            number in 1..u64::MAX, owner: OwnerId, part: u32, more: bool, carried in changes(), changes in changes(),
        ) {
            let record = Record { number, owner, part, more, carried, changes };
            let bytes = record.encode(16);
            let costs: usize = record.carried.iter().chain(&record.changes).map(cost).sum();
            prop_assert!(bytes.len() <= costs + 64, "{} bytes, estimated at {costs}", bytes.len());
            prop_assert_eq!(Record::decode(&bytes, number % 16, 16), Ok(record));
            prop_assert_eq!(Record::decode(&bytes, (number + 1) % 16, 16), Err(Unreadable::Damaged));
            prop_assert_eq!(Record::decode(&bytes, number % 32, 32), Err(Unreadable::Damaged));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, slot: u64, slots: u64) {
            let _ = Record::decode(&bytes, slot, slots);
        }
    }

    #[test]
    fn a_record_does_not_show_what_is_in_it() {
        let changes = vec![Change::set("5491112345678", "secret")];
        let record = Record { number: 3, owner: [0; 16], part: 0, more: false, carried: Vec::new(), changes };
        assert_eq!(format!("{record:?}"), "Record(3, part 0, more false, 0 carried, 1 changes)");
        assert!(!format!("{:?}", record.changes).contains("secret"));
        assert!(!format!("{:?}", record.changes).contains("549"));
    }
}
