//! Chats with a disappearing timer: who set one, and what it does to a message.

use buffa::MessageField;
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp::{self as wa, message};

use crate::groups::Group;
use crate::ids::PhoneNumber;
use crate::world::World;

/// The message that tells the other side of a new timer; 0 seconds: it is off.
pub(crate) fn setting(seconds: u32) -> wa::Message {
    wa::Message {
        protocol_message: MessageField::some(message::ProtocolMessage {
            r#type: Some(message::protocol_message::Type::EPHEMERAL_SETTING),
            ephemeral_expiration: Some(seconds),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The message as a phone writes it into a chat with a timer.
pub(crate) fn stamped(
    world: &World,
    customer: &PhoneNumber,
    account: &PhoneNumber,
    mut message: wa::Message,
) -> wa::Message {
    if let Some(seconds) = world.timers.get(&(customer.clone(), account.clone())) {
        // Reactions and the like carry none.
        message.set_ephemeral_expiration(*seconds);
    }
    message
}

/// The message as a phone writes it into this group.
pub(crate) fn stamped_in(group: &Group, mut message: wa::Message) -> wa::Message {
    if group.ephemeral_s > 0 {
        message.set_ephemeral_expiration(group.ephemeral_s);
    }
    message
}

/// The timer that a received message carries.
pub(crate) fn of(message: &wa::Message) -> Option<u32> {
    message.get_base_message().get_ephemeral_expiration()
}
