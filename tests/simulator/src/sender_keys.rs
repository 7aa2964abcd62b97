//! The sender keys of a simulated phone. What it writes in a group is encrypted once for all; each device of a member
//! gets the key beforehand, in a session of its own.

use std::collections::{BTreeMap, BTreeSet};

use buffa::MessageField;
use wacore::libsignal::protocol::{
    ProtocolAddress, SenderKeyDistributionMessage, SenderKeyMessage, SenderKeyName, SenderKeyRecord,
    SenderKeyStore, SignalProtocolError, create_sender_key_distribution_message, group_decrypt,
    group_encrypt, process_sender_key_distribution_message,
};
use waproto::whatsapp as wa;

use crate::signal::{Phone, PhoneError, ready};

/// How they are named among a phone's sessions, so that both are saved together.
pub(crate) const PREFIX: &str = "sender-key:";
/// The phone itself, as the sender of its own messages.
const OWN: &str = "own";

type Signal<T> = Result<T, SignalProtocolError>;

/// The keys of one phone: its own, and those that others have given it.
#[derive(Default)]
pub(crate) struct SenderKeys {
    records: BTreeMap<String, SenderKeyRecord>,
    dirty: BTreeSet<String>,
    /// Which devices have the own key of which group. Who is told again after a restart loses nothing.
    told: BTreeSet<(String, String)>,
}

impl SenderKeys {
    /// Puts a saved one back.
    pub(crate) fn restore(&mut self, name: String, bytes: &[u8]) -> Result<(), PhoneError> {
        self.records.insert(name, SenderKeyRecord::deserialize(bytes)?);
        Ok(())
    }

    /// What has changed since the last call: the name, and the record or `None` if it is gone.
    pub(crate) fn take_changes(&mut self) -> impl Iterator<Item = (String, Option<Vec<u8>>)> {
        std::mem::take(&mut self.dirty).into_iter().map(|name| {
            let bytes = self.records.get(&name).and_then(|record| record.serialize().ok());
            (name, bytes)
        })
    }

    /// Has this device got the key of this group?
    pub(crate) fn has_told(&self, group: &str, device: &ProtocolAddress) -> bool {
        self.told.contains(&(group.to_owned(), device.as_str().to_owned()))
    }

    /// The device gets the key of this group.
    pub(crate) fn tell(&mut self, group: &str, device: &ProtocolAddress) {
        self.told.insert((group.to_owned(), device.as_str().to_owned()));
    }

    /// The device may have lost it.
    pub(crate) fn untell(&mut self, group: &str, device: &ProtocolAddress) {
        self.told.remove(&(group.to_owned(), device.as_str().to_owned()));
    }

    /// The keys that others have given for this group are lost.
    pub(crate) fn lose(&mut self, group: &str) {
        let (prefix, own) = (format!("{PREFIX}{group}:"), key(&of(group, OWN)));
        let others = self.records.keys().filter(|name| name.starts_with(&prefix) && **name != own);
        let gone: Vec<String> = others.cloned().collect();
        for name in gone {
            self.records.remove(&name);
            self.dirty.insert(name);
        }
    }
}

fn of(group: &str, sender: &str) -> SenderKeyName {
    SenderKeyName::from_parts(group, sender)
}

fn key(name: &SenderKeyName) -> String {
    format!("{PREFIX}{}:{}", name.group_id(), name.sender_id())
}

impl Phone {
    /// The message with which a device gets this phone's key of a group.
    pub(crate) fn distribution(&mut self, group: &str) -> Result<wa::Message, PhoneError> {
        let name = of(group, OWN);
        let mut rng = rand::rng();
        let made = ready(create_sender_key_distribution_message(&name, &mut self.keys, &mut rng))?;
        let inside = wa::message::SenderKeyDistributionMessage {
            group_id: Some(group.to_owned()),
            axolotl_sender_key_distribution_message: Some(made.serialized().to_vec()),
        };
        Ok(wa::Message { sender_key_distribution_message: MessageField::some(inside), ..Default::default() })
    }

    /// Encrypts a padded message for everybody in the group.
    pub(crate) fn seal_for_group(&mut self, group: &str, padded: &[u8]) -> Result<Vec<u8>, PhoneError> {
        let sealed = ready(group_encrypt(&mut self.keys, &of(group, OWN), padded, &mut rand::rng()))?;
        Ok(sealed.serialized().to_vec())
    }

    /// Takes the key of a group out of a message, if there is one in it.
    pub(crate) fn learn_key(
        &mut self,
        from: &ProtocolAddress,
        message: &wa::Message,
    ) -> Result<(), PhoneError> {
        let Some(inside) = message.sender_key_distribution_message.as_option() else { return Ok(()) };
        let group = inside.group_id.clone().unwrap_or_default();
        let bytes = inside.axolotl_sender_key_distribution_message.as_deref().unwrap_or_default();
        let made = SenderKeyDistributionMessage::try_from(bytes)?;
        ready(process_sender_key_distribution_message(&of(&group, from.as_str()), &made, &mut self.keys))
    }

    /// Decrypts what somebody has written to everybody in the group, and unpads it.
    pub(crate) fn open_of_group(
        &mut self,
        group: &str,
        from: &ProtocolAddress,
        bytes: &[u8],
    ) -> Result<wa::Message, PhoneError> {
        self.used.see_of_group(group, from, &SenderKeyMessage::try_from(bytes)?);
        let opened = ready(group_decrypt(bytes, &mut self.keys, &of(group, from.as_str())))?;
        wacore::messages::decode_plaintext(&opened, 2)
            .map_err(|error| PhoneError::Plaintext(error.to_string()))
    }
}

#[async_trait::async_trait]
impl SenderKeyStore for SenderKeys {
    async fn store_sender_key(&mut self, name: &SenderKeyName, record: SenderKeyRecord) -> Signal<()> {
        let name = key(name);
        self.records.insert(name.clone(), record);
        self.dirty.insert(name);
        Ok(())
    }

    async fn load_sender_key(&self, name: &SenderKeyName) -> Signal<Option<SenderKeyRecord>> {
        // Journalled before a ciphertext leaves, as sessions are: no iterations need to be leased.
        let Some(mut record) = self.records.get(&key(name)).cloned() else { return Ok(None) };
        record.waive_counter_lease()?;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Secrets, address};
    use wacore::messages::MessageUtils;

    const GROUP: &str = "120363000000000001@g.us";

    #[test]
    fn a_group_is_read_by_who_has_the_key_also_after_a_restart() -> Result<(), Box<dyn std::error::Error>> {
        let ana = address(&"5491111".parse()?, 0);
        let secrets = Secrets::generate()?;
        let mut writer = Phone::restore(&secrets, [])?;
        let mut reader = Phone::restore(&Secrets::generate()?, [])?;
        let text = |text: &str| {
            let text = Some(text.to_owned());
            MessageUtils::encode_and_pad(&wa::Message { conversation: text, ..Default::default() })
        };
        let key = writer.distribution(GROUP)?;
        let first = writer.seal_for_group(GROUP, &text("hola"))?;
        assert!(reader.open_of_group(GROUP, &ana, &first).is_err(), "without the key");
        reader.learn_key(&ana, &key)?;
        assert_eq!(reader.open_of_group(GROUP, &ana, &first)?.conversation.as_deref(), Some("hola"));

        let saved = writer.take_changes();
        let saved = saved.into_iter().filter_map(|(address, record)| Some((address, record?)));
        let mut writer = Phone::restore(&secrets, saved)?;
        let second = writer.seal_for_group(GROUP, &text("otra"))?;
        assert_eq!(reader.open_of_group(GROUP, &ana, &second)?.conversation.as_deref(), Some("otra"));
        reader.keys.lose(GROUP);
        let third = writer.seal_for_group(GROUP, &text("nada"))?;
        assert!(reader.open_of_group(GROUP, &ana, &third).is_err(), "it has lost the key");
        Ok(())
    }
}
