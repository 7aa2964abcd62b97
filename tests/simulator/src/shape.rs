//! How a customer's message comes to a linked device, where that is not as usual: what is in it byte for byte,
//! whether the device can read it, who hands it over once more, and through which group or list it comes.

use serde::{Deserialize, Serialize};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node};
use waproto::whatsapp as wa;

use crate::groups::{self, Group};
use crate::ids::{Blob, PhoneNumber};
use crate::signal::Sealed;
use crate::stanza::{self, Addressing};
use crate::world::World;

/// What of it a device gets at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Comes {
    /// The message.
    #[default]
    Whole,
    /// A message that the device cannot decrypt.
    Unreadable,
    /// Only word that there is one.
    Unavailable,
    /// Only word that there is one, to be seen once.
    ViewOnce,
    /// Only word that there is one, from a business that WhatsApp hosts.
    Hosted,
    /// Only word that there is one, from a bot.
    Bot,
}

/// Who hands a message over once more, when a device asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Again {
    /// The phone that wrote it.
    #[default]
    Sender,
    /// The account's own phone.
    Owner,
    /// Nobody.
    Nobody,
}

/// What is unusual about a message.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The message's protobuf, byte for byte, in place of kind and text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<Blob>,
    #[serde(default)]
    pub(crate) comes: Comes,
    #[serde(default)]
    pub(crate) again: Again,
    /// A device that cannot read it is to show nothing in its place.
    #[serde(default)]
    pub(crate) hide: bool,
    /// The group or broadcast list that it comes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) through: Option<String>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shape")
            .field("comes", &self.comes)
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

impl Shape {
    /// The same message as it comes when it is handed over once more.
    pub(crate) fn once_more(&self) -> Self {
        Self { comes: Comes::Whole, ..self.clone() }
    }

    /// The group that it comes through, if the server knows it.
    pub(crate) fn group<'a>(&self, world: &'a World) -> Option<&'a Group> {
        groups::named(world, self.through.as_deref()?)
    }

    /// The address that it comes through.
    fn address(&self) -> Option<Jid> {
        self.through.as_deref().and_then(|text| text.parse().ok())
    }

    /// Whom the stanza is from.
    pub(crate) fn from(
        &self,
        builder: NodeBuilder,
        number: &PhoneNumber,
        (addressing, group): (Addressing, Option<&Group>),
    ) -> NodeBuilder {
        let Some(address) = self.address() else {
            return stanza::from_person(builder, number, 0, addressing);
        };
        let newsletter = address.is_newsletter();
        let builder = builder.attr("from", address);
        if let Some(group) = group {
            return group.sign(builder, number, 0, addressing != Addressing::Hidden);
        }
        if newsletter {
            return builder.attr("server_id", "1");
        }
        match addressing {
            Addressing::Pn => builder
                .attr("participant", number.pn_jid(0))
                .attr("addressing_mode", "pn")
                .attr("participant_lid", number.lid_jid(0)),
            Addressing::Lid => builder
                .attr("participant", number.lid_jid(0))
                .attr("addressing_mode", "lid")
                .attr("participant_pn", number.pn_jid(0)),
            Addressing::Hidden => {
                builder.attr("participant", number.lid_jid(0)).attr("addressing_mode", "lid")
            }
        }
    }

    /// What the stanza of a newsletter holds: nothing of it is encrypted. `None`: it is of no newsletter.
    pub(crate) fn published(&self, message: &wa::Message, raw: Option<&[u8]>) -> Option<Vec<Node>> {
        let bytes = || raw.map_or_else(|| waproto::codec::message_to_vec(message), <[u8]>::to_vec);
        let newsletter = self.address().is_some_and(|address| address.is_newsletter());
        newsletter.then(|| vec![NodeBuilder::new("plaintext").bytes(bytes()).build()])
    }

    /// What the stanza holds.
    pub(crate) fn content(&self, mut sealed: Sealed, media_type: Option<&str>) -> Vec<Node> {
        let unavailable = NodeBuilder::new("unavailable");
        match self.comes {
            Comes::Whole => vec![stanza::enc(sealed, media_type)],
            Comes::Unreadable => {
                // In the cipher text or in the signature, and in nothing that says what it is.
                if let Some(byte) = sealed.bytes.iter_mut().nth_back(15) {
                    *byte ^= 0xFF;
                }
                let mut enc = stanza::enc(sealed, media_type);
                if self.hide {
                    enc.attrs.insert("decrypt-fail", "hide");
                }
                vec![enc]
            }
            Comes::Unavailable => vec![unavailable.build()],
            Comes::ViewOnce => vec![unavailable.attr("type", "view_once").build()],
            Comes::Hosted => vec![unavailable.attr("hosted", "true").build()],
            Comes::Bot => vec![unavailable.build(), NodeBuilder::new("bot").build()],
        }
    }
}

/// Is this the address of a group, of a broadcast list or of a newsletter?
pub(crate) fn shared(text: &str) -> bool {
    let shared = |jid: Jid| jid.is_group() || jid.is_newsletter() || jid.to_string().ends_with("@broadcast");
    text.len() <= 100 && text.parse().is_ok_and(shared)
}
