//! A phone asks a device again for a message that it cannot read. From the second time on it gives its keys, so that the
//! device opens a new session; after the fourth time it gives up, as the device would refuse the fifth.

use std::collections::BTreeMap;

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::ids::{Key32, unix_now};
use crate::party::Mail;
use crate::prekeys;
use crate::signal::{OneTimePreKey, Phone};

/// How often a message is asked for. Senders refuse the fifth request.
const TIMES: u8 = 4;
/// From which request on the keys are in it.
const WITH_KEYS: u8 = 2;
/// How many messages a phone remembers to have asked for.
const REMEMBERED: usize = 1_024;

/// How often each message was asked for. After a restart a phone begins anew.
#[derive(Default)]
pub(crate) struct Asked(BTreeMap<(String, u16, String), u8>);

fn key(mail: &Mail) -> (String, u16, String) {
    (mail.from.as_str().to_owned(), mail.device, mail.id.clone())
}

impl Asked {
    /// The message has been read.
    pub(crate) fn read(&mut self, mail: &Mail) {
        if !self.0.is_empty() {
            self.0.remove(&key(mail));
        }
    }

    fn times(&mut self, mail: &Mail) -> u8 {
        if self.0.len() >= REMEMBERED {
            self.0.pop_first();
        }
        let times = self.0.entry(key(mail)).or_default();
        *times = times.saturating_add(1);
        *times
    }
}

/// What is said in a request.
pub(crate) struct Request {
    count: u8,
    registration_id: u32,
    keys: Option<Node>,
}

impl Request {
    /// The first one for a message.
    pub(crate) fn first(registration_id: u32) -> Self {
        Self { count: 1, registration_id, keys: None }
    }

    /// The content of the receipt.
    pub(crate) fn content(self, id: &str) -> Vec<Node> {
        let retry = NodeBuilder::new("retry")
            .attr("count", self.count)
            .attr("id", id)
            .attr("t", unix_now())
            .attr("v", 1u8)
            .build();
        let registration = self.registration_id.to_be_bytes().to_vec();
        let registration = NodeBuilder::new("registration").bytes(registration).build();
        [retry, registration].into_iter().chain(self.keys).collect()
    }
}

/// A message has been opened, or not. What is asked next; `None`: nothing, also if it has been asked for in vain.
pub(crate) fn after(phone: &mut Phone, mail: &Mail, is_read: bool) -> Option<Request> {
    if is_read {
        phone.asked.read(mail);
        return None;
    }
    next(phone, mail)
}

fn next(phone: &mut Phone, mail: &Mail) -> Option<Request> {
    let count = phone.asked.times(mail);
    if count > TIMES {
        return None;
    }
    let bundle = phone.bundle();
    let registration_id = bundle.registration_id;
    let keys = (count >= WITH_KEYS).then(|| {
        let (id, pair) = phone.prekeys.make();
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key.public_key_bytes());
        prekeys::keys_node(&bundle, &OneTimePreKey { id, public: Key32(public) })
    });
    Some(Request { count, registration_id, keys })
}
