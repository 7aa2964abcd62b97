//! Finds the writer and the chat of a message: a stanza's addresses → phone numbers and hidden ids. Pure.

use whatsapp_rust::Jid;
use whatsapp_rust::wacore::types::message::MessageSource;
use whatsapp_rust::wacore_binary::JidExt as _;

use crate::wire::ChatToken;
use crate::wire::v1::{ChatKind, Identity};

/// The peer of a chat, before the chat's token is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The kind of chat.
    pub kind: ChatKind,
    /// The tokens that the chat may have. A new chat takes the first one.
    pub candidates: Vec<ChatToken>,
    /// The address for an answer: the chat exactly as the message named it.
    pub jid: String,
}

/// The person behind `jid`. Their other address may be known.
pub(crate) fn identity(jid: &Jid, other: Option<&Jid>) -> Identity {
    let mut identity = Identity { jid: jid.to_non_ad_string(), ..Identity::default() };
    for one in std::iter::once(jid).chain(other) {
        let user = one.user.to_string();
        if one.is_pn() && identity.phone.is_empty() {
            identity.phone = user;
        } else if one.is_lid() && identity.lid.is_empty() {
            identity.lid = user;
        }
    }
    identity
}

/// The linked number itself, by both addresses.
pub(crate) fn own(phone: Option<&Jid>, lid: Option<&Jid>) -> Identity {
    phone.or(lid).map_or_else(Identity::default, |one| identity(one, lid))
}

/// Adds the address that is missing, if the person is one of those who are known.
pub(crate) fn complete(person: &mut Identity, known: &[Identity]) {
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let is_same = |one: &&Identity| same(&one.phone, &person.phone) || same(&one.lid, &person.lid);
    let Some(one) = known.iter().find(is_same) else { return };
    for (address, known) in [(&mut person.phone, &one.phone), (&mut person.lid, &one.lid)] {
        if address.is_empty() {
            address.clone_from(known);
        }
    }
}

/// Has the owner written it on the phone itself, to the own number? What other linked devices write there is not meant:
/// one of them may be a program that answers as well, and the two would answer each other for ever.
pub(crate) fn is_note_to_self(source: &MessageSource, own: [Option<&Jid>; 2]) -> bool {
    source.is_from_me && !source.is_group && source.sender.device == 0 && is_one_of(&source.chat, own)
}

fn is_one_of(jid: &Jid, own: [Option<&Jid>; 2]) -> bool {
    own.into_iter().flatten().any(|own| own.user == jid.user && own.server == jid.server)
}

/// Has a person of the number written it to somebody else: on the phone, or on another linked device? What this very
/// device has sent is the connector's, and nobody talks to the own number.
pub(crate) fn is_typed_by_a_person(source: &MessageSource, own: [Option<&Jid>; 2]) -> bool {
    let ours = own.into_iter().flatten().map(|own| own.device).find(|device| *device != 0);
    source.is_from_me
        && (source.chat.is_group() || source.chat.is_pn() || source.chat.is_lid())
        && !is_one_of(&source.chat, own)
        && (source.sender.device == 0 || Some(source.sender.device) != ours)
}

/// The other address of the chat's peer, if the stanza has it. `peer_phone` is what a stanza of the number's own
/// phone says of it.
pub(crate) fn other_address<'a>(source: &'a MessageSource, peer_phone: Option<&'a Jid>) -> Option<&'a Jid> {
    if source.is_from_me { source.recipient_alt.as_ref().or(peer_phone) } else { source.sender_alt.as_ref() }
}

/// Whom the chat is with: its address, or the writer of a broadcast list. To those who get it, a message to a list is
/// a message of the writer to them alone.
pub(crate) fn with(source: &MessageSource) -> &Jid {
    match &source.broadcast_list_owner {
        Some(writer) if !source.is_from_me => writer,
        _ => &source.chat,
    }
}

/// The chat of `source`. `other` is the peer's other address, from the stanza or learned earlier.
pub(crate) fn peer(source: &MessageSource, other: Option<&Jid>) -> Peer {
    let chat = with(source);
    let jid = chat.to_non_ad_string();
    let single = |kind, token| Peer { kind, candidates: vec![token], jid: jid.clone() };
    // The library's own flag is set for status posts and broadcast lists too.
    if chat.is_group() {
        return single(ChatKind::Group, ChatToken::group(&chat.user));
    }
    if chat.is_status_broadcast() {
        return single(ChatKind::Status, ChatToken::other("status", &chat.user));
    }
    if chat.is_newsletter() {
        return single(ChatKind::Newsletter, ChatToken::other("newsletter", &chat.user));
    }
    if !chat.is_pn() && !chat.is_lid() {
        return single(ChatKind::Broadcast, ChatToken::other(chat.server.as_str(), &chat.user));
    }
    let person = identity(chat, other);
    let mut candidates = Vec::new();
    if !person.phone.is_empty() {
        candidates.push(ChatToken::phone(&person.phone));
    }
    if !person.lid.is_empty() {
        candidates.push(ChatToken::lid(&person.lid));
    }
    Peer { kind: ChatKind::Direct, candidates, jid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(chat: Jid) -> MessageSource {
        MessageSource { sender: chat.clone(), chat, ..MessageSource::default() }
    }

    #[test]
    fn the_same_person_has_the_same_first_token_by_either_address() {
        let (pn, lid) = (Jid::pn("5491112345678"), Jid::lid("987"));
        let by_phone = peer(&source(pn.clone()), Some(&lid));
        let by_lid = peer(&source(lid.clone()), Some(&pn));
        assert_eq!(by_phone.candidates, by_lid.candidates);
        assert_eq!(by_phone.candidates[0].as_str(), "5491112345678");
        assert_eq!(by_lid.jid, "987@lid");
        assert_eq!(peer(&source(lid), None).candidates, [ChatToken::lid("987")]);
    }

    #[test]
    fn a_phone_number_is_a_phone_number_even_in_a_lid_chat() {
        let identity = identity(&Jid::lid("987"), Some(&Jid::pn("5491112345678")));
        assert_eq!((identity.phone.as_str(), identity.lid.as_str()), ("5491112345678", "987"));
    }

    #[test]
    fn every_sort_of_chat_has_its_own_sort_of_token() {
        let rows = [
            (Jid::pn("54911"), ChatKind::Direct, ChatToken::phone("54911")),
            (Jid::lid("987"), ChatKind::Direct, ChatToken::lid("987")),
            (Jid::group("120363"), ChatKind::Group, ChatToken::group("120363")),
            (Jid::status_broadcast(), ChatKind::Status, ChatToken::other("status", "status")),
            (Jid::newsletter("77"), ChatKind::Newsletter, ChatToken::other("newsletter", "77")),
            ("88@broadcast".parse().unwrap(), ChatKind::Broadcast, ChatToken::other("broadcast", "88")),
            ("13@bot".parse().unwrap(), ChatKind::Broadcast, ChatToken::other("bot", "13")),
        ];
        for (chat, kind, token) in rows {
            let jid = chat.to_string();
            assert_eq!(peer(&source(chat), None), Peer { kind, candidates: vec![token], jid });
        }
    }

    #[test]
    fn a_message_to_a_broadcast_list_is_one_of_its_writer() {
        let (list, ana, other): (Jid, Jid, Jid) =
            ("88@broadcast".parse().unwrap(), Jid::pn("54911"), Jid::lid("987"));
        let from = |writer: &Jid, is_from_me| MessageSource {
            chat: list.clone(),
            sender: writer.clone(),
            broadcast_list_owner: Some(writer.clone()),
            is_group: true,
            is_from_me,
            ..MessageSource::default()
        };
        for (writer, other) in [(&ana, &other), (&other, &ana)] {
            let heard = peer(&from(writer, false), Some(other));
            assert_eq!(heard, peer(&source(writer.clone()), Some(other)), "as if it had come from them");
            assert_eq!(heard.kind, ChatKind::Direct);
        }
        // A list of our own is a chat with many people.
        assert_eq!(peer(&from(&ana, true), None).kind, ChatKind::Broadcast);
        let status = MessageSource { is_group: true, ..source(Jid::status_broadcast()) };
        assert_eq!(peer(&status, None).kind, ChatKind::Status);
    }

    #[test]
    fn the_peers_other_address_is_the_one_of_the_other_side() {
        let (sender, recipient, told) = (Jid::lid("1"), Jid::lid("2"), Jid::pn("54911"));
        let source = |is_from_me| MessageSource {
            is_from_me,
            sender_alt: Some(sender.clone()),
            recipient_alt: Some(recipient.clone()),
            ..source(Jid::pn("54911"))
        };
        assert_eq!(other_address(&source(false), Some(&told)), Some(&sender));
        assert_eq!(other_address(&source(true), Some(&told)), Some(&recipient));
        let bare = MessageSource { is_from_me: true, ..MessageSource::default() };
        assert_eq!(other_address(&bare, Some(&told)), Some(&told));
        let theirs = MessageSource::default();
        assert_eq!(other_address(&theirs, Some(&told)), None, "it is about the one who got it");
    }

    #[test]
    fn an_address_counts_for_what_it_is_and_the_first_of_a_sort_wins() {
        let (pn, lid, group) = (Jid::pn("54911"), Jid::lid("987"), Jid::group("120363"));
        let rows = [
            (&pn, None, ("54911@s.whatsapp.net", "54911", "")),
            (&pn, Some(&lid), ("54911@s.whatsapp.net", "54911", "987")),
            (&lid, None, ("987@lid", "", "987")),
            (&lid, Some(&pn), ("987@lid", "54911", "987")),
            (&pn, Some(&Jid::pn("15551")), ("54911@s.whatsapp.net", "54911", "")),
            (&lid, Some(&Jid::lid("1")), ("987@lid", "", "987")),
            (&group, Some(&pn), ("120363@g.us", "54911", "")),
        ];
        for (jid, other, (want_jid, phone, lid)) in rows {
            let want = Identity { jid: want_jid.into(), phone: phone.into(), lid: lid.into() };
            assert_eq!(identity(jid, other), want);
        }
        // It may be any of the person's devices.
        assert_eq!(identity(&Jid::pn_device("54911", 3), None).jid, "54911@s.whatsapp.net");
    }

    #[test]
    fn who_is_known_by_both_addresses_is_told_by_both() {
        let known = [
            own(Some(&Jid::pn_device("15551", 3)), Some(&Jid::lid("77"))),
            identity(&Jid::lid("987"), Some(&Jid::pn("54911"))),
        ];
        let rows = [
            (Jid::lid("77"), ("77@lid", "15551", "77")),
            (Jid::pn("15551"), ("15551@s.whatsapp.net", "15551", "77")),
            (Jid::pn("54911"), ("54911@s.whatsapp.net", "54911", "987")),
            // The same digits as a hidden id are somebody else.
            (Jid::lid("54911"), ("54911@lid", "", "54911")),
            (Jid::pn("54912"), ("54912@s.whatsapp.net", "54912", "")),
            (Jid::group("120363"), ("120363@g.us", "", "")),
        ];
        for (jid, (want, phone, lid)) in rows {
            let mut person = identity(&jid, None);
            complete(&mut person, &known);
            assert_eq!(person, Identity { jid: want.into(), phone: phone.into(), lid: lid.into() });
        }
        let mut nobody = Identity::default();
        complete(&mut nobody, &[own(None, None)]);
        assert_eq!(nobody, Identity::default());
        assert_eq!(own(None, Some(&Jid::lid("77"))).lid, "77");
    }

    #[test]
    fn who_writes_on_the_phone_or_another_device_is_a_person_and_this_device_is_not() {
        let (own, lid, customer) = (Jid::pn_device("15551", 3), Jid::lid("77"), Jid::pn("54911"));
        let from_me = |device: u16, chat: &Jid| MessageSource {
            sender: Jid::pn_device("15551", device),
            chat: chat.clone(),
            is_from_me: true,
            ..MessageSource::default()
        };
        let is = |source: &MessageSource| is_typed_by_a_person(source, [Some(&own), Some(&lid)]);
        let group = Jid::group("120363");
        for (device, chat, want) in [
            (0, &customer, true),
            (5, &customer, true),
            (3, &customer, false),
            (0, &group, true),
            (3, &group, false),
            (0, &Jid::pn("15551"), false),
            (0, &lid, false),
            (0, &Jid::status_broadcast(), false),
        ] {
            assert_eq!(is(&from_me(device, chat)), want, "{device} {chat}");
        }
        assert!(!is(&MessageSource { is_from_me: false, ..from_me(0, &customer) }));
        // It is not known which device this is.
        assert!(is_typed_by_a_person(&from_me(3, &customer), [None, None]));
    }

    #[test]
    fn a_note_to_self_is_from_the_phone_and_to_the_own_number() {
        let (own, lid, customer) = (Jid::pn("15551"), Jid::lid("77"), Jid::pn("54911"));
        let from_me = |sender: Jid, chat: &Jid| MessageSource {
            sender,
            chat: chat.clone(),
            is_from_me: true,
            ..MessageSource::default()
        };
        let is = |source: &MessageSource| is_note_to_self(source, [Some(&own), Some(&lid)]);
        assert!(
            is(&from_me(own.clone(), &own))
                && is(&from_me(lid.clone(), &lid))
                && is(&from_me(own.clone(), &lid))
        );
        // Another linked device may be a program.
        assert!(!is(&from_me(Jid::pn_device("15551", 3), &own)));
        assert!(!is(&from_me(own.clone(), &customer)));
        assert!(!is(&MessageSource { is_from_me: false, ..from_me(own.clone(), &own) }));
        assert!(!is(&MessageSource { is_group: true, ..from_me(own.clone(), &own) }));
        // The same digits as a hidden id are somebody else.
        assert!(!is(&from_me(own.clone(), &Jid::lid("15551"))));
        assert!(!is_note_to_self(&from_me(own.clone(), &own), [None, None]));
    }
}
