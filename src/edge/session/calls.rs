//! Calls that nobody took. WhatsApp says that a call rings and that it ends; which calls were missed follows from both.
//!
//! The library handles the two at once, so the end may be heard first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use whatsapp_rust::Jid;
use whatsapp_rust::wacore::types::call::{CallAction, IncomingCall, MissedCall};
use whatsapp_rust::wacore::types::message::{MessageInfo, MessageSource};

/// How many calls are remembered. A business has a few in a minute.
const REMEMBERED: usize = 256;

/// A call that nobody took.
#[derive(Debug, Clone)]
pub(crate) struct Missed {
    /// Who called, when, in which chat. The id is the call's.
    pub info: Arc<MessageInfo>,
    /// It was a video call.
    pub video: bool,
}

#[derive(Debug)]
enum Known {
    Rings(Missed),
    /// It has ended before it was heard ringing; `true`: nobody took it.
    Ended(bool),
    Told,
}

/// The calls of one client.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<VecDeque<(String, Known)>>);

impl Calls {
    /// What was heard of a call. Returns the call when it turns out to be missed.
    pub(super) fn heard(&self, call: &IncomingCall) -> Option<Missed> {
        let id = call.action.call_id();
        match &call.action {
            CallAction::Offer { caller_pn, is_video, group_jid, .. } => {
                let source =
                    source(&call.from, call.action.call_creator(), caller_pn.as_ref(), group_jid.as_ref());
                self.rings(id, Missed { info: info(source, call), video: *is_video })
            }
            CallAction::OfferNotice { is_video, .. } => {
                let source = source(&call.from, call.action.call_creator(), None, None);
                self.rings(id, Missed { info: info(source, call), video: *is_video })
            }
            CallAction::Terminate { reason, .. } => self.ended(id, is_missed(reason.as_deref())),
            // On this device nobody takes or declines a call; another one of the number's own may.
            CallAction::Accept { .. } | CallAction::Reject { .. } => self.ended(id, false),
            _ => None,
        }
    }

    fn rings(&self, id: &str, call: Missed) -> Option<Missed> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.iter_mut().find(|(known, _)| known == id) {
            Some((_, known)) => match std::mem::replace(known, Known::Told) {
                Known::Ended(true) => return Some(call),
                Known::Rings(_) => *known = Known::Rings(call),
                Known::Ended(false) | Known::Told => {}
            },
            None => remember(&mut calls, id, Known::Rings(call)),
        }
        None
    }

    fn ended(&self, id: &str, missed: bool) -> Option<Missed> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.iter_mut().find(|(known, _)| known == id) {
            Some((_, known)) => match std::mem::replace(known, Known::Told) {
                Known::Rings(call) => return missed.then_some(call),
                Known::Ended(before) => *known = Known::Ended(before && missed),
                Known::Told => {}
            },
            None => remember(&mut calls, id, Known::Ended(missed)),
        }
        None
    }
}

fn remember(calls: &mut VecDeque<(String, Known)>, id: &str, known: Known) {
    if calls.len() >= REMEMBERED {
        calls.pop_front();
    }
    calls.push_back((id.to_owned(), known));
}

/// A call that rang while this device was away.
pub(super) fn away(call: &MissedCall) -> Missed {
    let source = source(&call.from, &call.from, None, None);
    let (id, timestamp) = (call.call_id.clone(), call.timestamp);
    let info = MessageInfo { source, id, timestamp, is_offline: true, ..MessageInfo::default() };
    Missed { info: Arc::new(info), video: false }
}

/// Why a call has ended, in WhatsApp's words: was it missed?
fn is_missed(reason: Option<&str>) -> bool {
    !matches!(reason, Some("accepted_elsewhere" | "rejected_elsewhere"))
}

fn source(from: &Jid, creator: &Jid, phone: Option<&Jid>, group: Option<&Jid>) -> MessageSource {
    let chat = group.unwrap_or(from).to_non_ad();
    MessageSource {
        is_group: group.is_some(),
        sender: if group.is_some() { creator.to_non_ad() } else { chat.clone() },
        sender_alt: phone.map(Jid::to_non_ad),
        chat,
        ..MessageSource::default()
    }
}

fn info(source: MessageSource, call: &IncomingCall) -> Arc<MessageInfo> {
    Arc::new(MessageInfo {
        source,
        id: call.action.call_id().to_owned(),
        push_name: call.notify.clone().unwrap_or_default(),
        timestamp: call.timestamp,
        is_offline: call.offline,
        ..MessageInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: CallAction) -> IncomingCall {
        let from: Jid = "987:2@lid".parse().expect("an address");
        IncomingCall::builder()
            .from(from)
            .stanza_id("S".to_owned())
            .notify("Ana".to_owned())
            .timestamp(MessageInfo::default().timestamp)
            .offline(false)
            .action(action)
            .build()
    }

    fn offer(id: &str, group: Option<&str>) -> IncomingCall {
        call(CallAction::Offer {
            call_id: id.to_owned(),
            call_creator: Jid::lid("987"),
            caller_pn: Some(Jid::pn("54911")),
            caller_country_code: None,
            device_class: None,
            joinable: false,
            is_video: true,
            audio: Vec::new(),
            group_jid: group.map(|group| group.parse().expect("an address")),
        })
    }

    fn end(id: &str, reason: Option<&str>) -> IncomingCall {
        call(CallAction::Terminate {
            call_id: id.to_owned(),
            call_creator: Jid::lid("987"),
            reason: reason.map(str::to_owned),
            duration: None,
            audio_duration: None,
        })
    }

    #[test]
    fn a_call_is_missed_if_it_ends_and_nobody_took_it_whatever_is_heard_first() {
        let rows = [
            (None, true),
            (Some("timeout"), true),
            (Some("group_call_ended"), true),
            (Some("accepted_elsewhere"), false),
            (Some("rejected_elsewhere"), false),
        ];
        for (reason, missed) in rows {
            for in_order in [true, false] {
                let (calls, mut both) = (Calls::default(), [offer("A", None), end("A", reason)]);
                if !in_order {
                    both.reverse();
                }
                let [first, second] = both.map(|one| calls.heard(&one).is_some());
                assert_eq!((first, second), (false, missed), "{reason:?} {in_order}");
                assert!(calls.heard(&offer("A", None)).is_none(), "it is told once");
                assert!(calls.heard(&end("A", reason)).is_none(), "it is told once");
            }
        }
        let calls = Calls::default();
        calls.heard(&offer("A", None));
        let (call_id, call_creator) = ("A".to_owned(), Jid::lid("987"));
        calls.heard(&call(CallAction::Accept { call_id, call_creator, audio: Vec::new() }));
        assert!(calls.heard(&end("A", None)).is_none(), "somebody took it");
    }

    #[test]
    fn it_says_who_called_and_where() {
        let calls = Calls::default();
        calls.heard(&offer("A", None));
        let Missed { info, video } = calls.heard(&end("A", None)).expect("a missed call");
        assert_eq!((info.id.as_str(), info.push_name.as_str(), video), ("A", "Ana", true));
        let source = &info.source;
        assert_eq!(
            (source.chat.to_string(), source.sender.to_string()),
            ("987@lid".into(), "987@lid".into())
        );
        assert_eq!(source.sender_alt, Some(Jid::pn("54911")));
        calls.heard(&offer("B", Some("120363@g.us")));
        let source = calls.heard(&end("B", None)).expect("a missed call").info.source.clone();
        assert_eq!(
            (source.chat, source.sender, source.is_group),
            (Jid::group("120363"), Jid::lid("987"), true)
        );
    }

    #[test]
    fn the_oldest_calls_are_forgotten() {
        let calls = Calls::default();
        for number in 0..=REMEMBERED {
            calls.heard(&offer(&number.to_string(), None));
        }
        assert!(calls.heard(&end("1", None)).is_some());
        assert!(calls.heard(&end("0", None)).is_none());
    }
}
