//! The FIFO of stanzas that wait for one linked device, until it acknowledges each.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wacore_binary::Node;

/// What kind of acknowledgement removes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Removed by a receipt, or by `<ack class="message">`.
    Message,
    /// Removed by `<ack class="receipt">`.
    Receipt,
    /// Removed by `<ack class="notification">`.
    Notification,
}

impl Class {
    /// Reads the `class` of an `<ack>`.
    pub(crate) fn from_ack(class: &str) -> Option<Self> {
        match class {
            "message" => Some(Self::Message),
            "receipt" => Some(Self::Receipt),
            "notification" => Some(Self::Notification),
            _ => None,
        }
    }
}

/// One stanza that waits.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) class: Class,
    pub(crate) id: String,
    pub(crate) stanza: Node,
    /// Whether it went out on the device's present connection.
    pub(crate) sent: bool,
}

/// One device's stanzas in the order in which they are to arrive.
#[derive(Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Queue {
    /// Appends a stanza and names its sequence number.
    pub(crate) fn push(&mut self, class: Class, id: &str, stanza: Node, sent: bool) -> u64 {
        self.last += 1;
        self.entries.push_back(Entry { seq: self.last, class, id: id.to_owned(), stanza, sent });
        self.last
    }

    /// Puts back a saved entry; callers do so in the order of sequence numbers.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.last = self.last.max(entry.seq);
        self.entries.push_back(entry);
    }

    /// Removes the oldest entry of this class and id, and names it. A retry puts a second entry
    /// with the same id into the queue, which must stay.
    pub(crate) fn acknowledge(&mut self, class: Class, id: &str) -> Option<u64> {
        let position = self.entries.iter().position(|entry| entry.class == class && entry.id == id)?;
        self.entries.remove(position).map(|entry| entry.seq)
    }

    /// A new connection: nothing has been sent on it yet.
    pub(crate) fn disconnected(&mut self) {
        for entry in &mut self.entries {
            entry.sent = false;
        }
    }

    /// All entries, oldest first; the caller sends them.
    pub(crate) fn send_all(&mut self) -> impl Iterator<Item = &Entry> {
        self.entries.iter_mut().map(|entry| {
            entry.sent = true;
            &*entry
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        self.entries.iter().filter(|e| e.class == class).count()
    }

    /// How many have gone out on the present connection and are not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.entries.iter().filter(|entry| entry.sent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_binary::builder::NodeBuilder;

    fn queue(ids: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for id in ids {
            queue.push(Class::Message, id, NodeBuilder::new("message").build(), false);
        }
        queue
    }

    fn ids(queue: &mut Queue) -> Vec<(u64, String)> {
        queue.send_all().map(|e| (e.seq, e.id.clone())).collect()
    }

    #[test]
    fn an_acknowledgement_removes_only_the_oldest_of_its_id() {
        let mut queue = queue(&["a", "b", "a"]);
        assert_eq!(queue.acknowledge(Class::Message, "a"), Some(1));
        assert_eq!(ids(&mut queue), [(2, "b".to_owned()), (3, "a".to_owned())]);
        assert_eq!(queue.acknowledge(Class::Message, "a"), Some(3));
        assert_eq!(queue.acknowledge(Class::Message, "a"), None);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn classes_do_not_acknowledge_each_other() {
        let mut queue = queue(&["a"]);
        assert_eq!(queue.acknowledge(Class::Receipt, "a"), None);
        assert_eq!(queue.count(Class::Message), 1);
    }

    #[test]
    fn a_new_connection_has_seen_nothing() {
        let mut queue = queue(&["a", "b"]);
        assert_eq!(queue.unacknowledged(), 0);
        assert_eq!(ids(&mut queue).len(), 2);
        assert_eq!(queue.unacknowledged(), 2);
        queue.disconnected();
        assert_eq!(queue.unacknowledged(), 0);
        assert_eq!(queue.len(), 2);
    }
}
