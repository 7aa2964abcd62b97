//! What WhatsApp tells of a changed group, as it goes on the bus. Pure.

use std::sync::Arc;

use whatsapp_rust::Jid;
use whatsapp_rust::wacore::stanza::groups::{GroupNotificationAction as Action, GroupParticipantInfo};
use whatsapp_rust::wacore::types::events::GroupUpdate;
use whatsapp_rust::wacore::types::message::{MessageInfo, MessageSource};

use crate::wire::v1::{GroupAction, GroupChange, Identity};

/// So many people are named in one change.
const PEOPLE: usize = 256;
/// The longest name of a group, in bytes.
const SUBJECT: usize = 2_048;

/// A change, and who made it in which group.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    /// The group, the one who changed it, and when. The id is the notification's.
    pub info: Arc<MessageInfo>,
    /// What is new.
    pub change: GroupChange,
}

/// Reads a change.
pub(super) fn read(update: &GroupUpdate) -> Changed {
    let sender = update.participant.as_ref().unwrap_or(&update.group_jid).to_non_ad();
    let source = MessageSource {
        chat: update.group_jid.to_non_ad(),
        sender,
        sender_alt: update.participant_pn.as_ref().map(Jid::to_non_ad),
        is_group: true,
        ..MessageSource::default()
    };
    let notification = update.notification_id.as_deref().unwrap_or_default();
    let info = MessageInfo {
        source,
        id: format!("{notification}-{}", update.action_index),
        push_name: update.notify.clone().unwrap_or_default(),
        timestamp: update.timestamp,
        is_offline: update.offline.is_some(),
        ..MessageInfo::default()
    };
    Changed { info: Arc::new(info), change: change(&update.action) }
}

fn change(action: &Action) -> GroupChange {
    let of = |action: GroupAction| GroupChange { action: action.into(), ..GroupChange::default() };
    let about = |action, people: &[GroupParticipantInfo]| GroupChange {
        people: people.iter().take(PEOPLE).map(person).collect(),
        ..of(action)
    };
    match action {
        Action::Add { participants, .. } => about(GroupAction::Added, participants),
        Action::Remove { participants, .. } => about(GroupAction::Removed, participants),
        Action::Promote { participants } => about(GroupAction::Promoted, participants),
        Action::Demote { participants } => about(GroupAction::Demoted, participants),
        Action::Subject { subject, .. } => {
            let end = subject.floor_char_boundary(SUBJECT);
            GroupChange { subject: subject[..end].to_owned(), ..of(GroupAction::Subject) }
        }
        Action::Announce => of(GroupAction::AnnounceOn),
        Action::NotAnnounce => of(GroupAction::AnnounceOff),
        Action::Ephemeral { expiration, .. } => {
            GroupChange { seconds: *expiration, ..of(GroupAction::Timer) }
        }
        other => GroupChange { kind: other.tag_name().to_owned(), ..of(GroupAction::Other) },
    }
}

fn person(one: &GroupParticipantInfo) -> Identity {
    let jid = one.jid.to_non_ad();
    let mut person = Identity { jid: jid.to_string(), ..Identity::default() };
    for jid in [Some(&one.jid), one.phone_number.as_ref(), one.lid.as_ref()].into_iter().flatten() {
        if jid.is_pn() {
            person.phone = jid.user.to_string();
        } else if jid.is_lid() {
            person.lid = jid.user.to_string();
        }
    }
    person
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_changed_what_is_told_by_both_addresses() {
        let (group, ana, leo) = (Jid::group("120363"), Jid::lid("987"), Jid::lid("654"));
        let one = GroupParticipantInfo {
            jid: leo,
            phone_number: Some(Jid::pn("54922")),
            display_name: None,
            r#type: None,
            lid: None,
            username: None,
            join_time: None,
            group_history_sent_state: None,
        };
        let told = |action| {
            let update = GroupUpdate::builder()
                .group_jid(group.clone())
                .notification_id("N".to_owned())
                .participant(ana.clone())
                .participant_pn(Jid::pn("54911"))
                .timestamp(MessageInfo::default().timestamp)
                .is_lid_addressing_mode(true)
                .action(action)
                .build();
            read(&update)
        };
        let of = |action: GroupAction| GroupChange { action: action.into(), ..GroupChange::default() };
        let leo = Identity { jid: "654@lid".into(), phone: "54922".into(), lid: "654".into() };
        let people = |action| GroupChange { people: vec![leo.clone()], ..of(action) };
        let participants = vec![one.clone(); PEOPLE + 1];
        let all = told(Action::Add { participants, reason: None });
        assert_eq!(all.change.people.len(), PEOPLE);
        assert_eq!((all.info.id.as_str(), &all.info.source.chat), ("N-0", &group));
        assert_eq!((&all.info.source.sender, &all.info.source.sender_alt), (&ana, &Some(Jid::pn("54911"))));
        for (action, want) in [
            (Action::Remove { participants: vec![one.clone()], reason: None }, people(GroupAction::Removed)),
            (Action::Promote { participants: vec![one.clone()] }, people(GroupAction::Promoted)),
            (Action::Demote { participants: vec![one] }, people(GroupAction::Demoted)),
            (
                Action::Subject { subject: "é".repeat(SUBJECT), subject_owner: None, subject_time: None },
                GroupChange { subject: "é".repeat(SUBJECT / 2), ..of(GroupAction::Subject) },
            ),
            (Action::Announce, of(GroupAction::AnnounceOn)),
            (Action::NotAnnounce, of(GroupAction::AnnounceOff)),
            (
                Action::Ephemeral { expiration: 7, trigger: None },
                GroupChange { seconds: 7, ..of(GroupAction::Timer) },
            ),
            (Action::NotAnnounce, of(GroupAction::AnnounceOff)),
        ] {
            assert_eq!(told(action).change, want);
        }
    }
}
