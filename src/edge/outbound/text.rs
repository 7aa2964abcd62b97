//! The text of an outcome, as WhatsApp shows it. Pure.

use crate::wire::v1::{self, Outcome, outcome};

/// The text of an outcome for the customer. Empty: nothing to send. An error if this edge does not know the kind of
/// outcome.
///
/// For the outcome *none* nothing is ever sent, whatever it carries and whatever its reason is:
/// `BACKEND_MODE=shadow` relies on it.
pub(super) fn outcome_text(outcome: &Outcome) -> Result<String, &'static str> {
    match &outcome.result {
        Some(outcome::Result::Reply(reply)) => Ok(reply_text(reply)),
        Some(outcome::Result::Dead(dead)) => Ok(dead.fallback_text.clone()),
        Some(outcome::Result::None(_)) => Ok(String::new()),
        None => Err("its result is of an unknown kind"),
    }
}

/// A reply as one text: the choices that the backend offers follow its words, one per line.
fn reply_text(reply: &v1::Reply) -> String {
    let mut text = reply.text.clone();
    let Some(interactive) = &reply.interactive else { return text };
    for button in interactive.buttons.iter().take(3) {
        text.push_str(&format!("\n• {button}"));
    }
    if !interactive.list_title.is_empty() && !interactive.list_items.is_empty() {
        text.push_str(&format!("\n\n{}", interactive.list_title));
    }
    for item in interactive.list_items.iter().take(10) {
        text.push_str(&format!("\n• {}", item.title));
        if !item.description.is_empty() {
            text.push_str(&format!(": {}", item.description));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_the_words() {
        let reply = v1::Reply {
            text: "¿Cuál?".into(),
            interactive: Some(v1::Interactive {
                buttons: vec!["Sí".into(), "No".into()],
                list_title: "Mesas".into(),
                list_items: vec![v1::ListItem {
                    title: "Dos".into(),
                    description: "junto a la ventana".into(),
                }],
            }),
            ..v1::Reply::default()
        };
        assert_eq!(reply_text(&reply), "¿Cuál?\n• Sí\n• No\n\nMesas\n• Dos: junto a la ventana");
    }

    #[test]
    fn a_list_is_shown_as_far_as_there_is_one() {
        let item = |title: &str, description: &str| v1::ListItem {
            title: title.to_owned(),
            description: description.to_owned(),
        };
        let rows = [
            ("Mesas", vec![], "¿Cuál?"),
            ("", vec![item("Dos", "")], "¿Cuál?\n• Dos"),
            (
                "Mesas",
                vec![item("Dos", ""), item("Seis", "al sol")],
                "¿Cuál?\n\nMesas\n• Dos\n• Seis: al sol",
            ),
        ];
        for (title, list_items, want) in rows {
            let (buttons, list_title) = (Vec::new(), title.to_owned());
            let interactive = Some(v1::Interactive { buttons, list_title, list_items });
            let reply = v1::Reply { text: "¿Cuál?".into(), interactive, ..v1::Reply::default() };
            assert_eq!(reply_text(&reply), want);
        }
    }

    #[test]
    fn no_more_is_offered_than_whatsapp_itself_would_show() {
        let item = |number| v1::ListItem { title: format!("item {number}"), description: String::new() };
        let interactive = v1::Interactive {
            buttons: (0..4).map(|number| format!("button {number}")).collect(),
            list_title: String::new(),
            list_items: (0..11).map(item).collect(),
        };
        let reply = v1::Reply { interactive: Some(interactive), ..v1::Reply::default() };
        let text = reply_text(&reply);
        assert!(text.contains("button 2") && !text.contains("button 3"), "{text}");
        assert!(text.contains("item 9") && !text.contains("item 10"), "{text}");
    }

    /// `Outcome` as an older edge has it, which does not know shadow.
    mod before_shadow {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Outcome {
            #[prost(oneof = "Result", tags = "10, 11")]
            pub result: Option<Result>,
        }

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(super) enum Result {
            #[prost(message, tag = "10")]
            Reply(()),
            #[prost(message, tag = "11")]
            None(NoReply),
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct NoReply {
            #[prost(int32, tag = "1")]
            pub reason: i32,
        }
    }

    #[test]
    fn what_would_have_been_an_answer_is_sent_by_no_edge_old_or_new() {
        use v1::{Dead, NoReply, NoReplyReason, Reply};
        let reply = Reply { text: "Hola".into(), ..Reply::default() };
        let outcome = |result| Outcome { result: Some(result), ..Outcome::default() };
        let text = |result| outcome_text(&outcome(result));
        let dead = Dead { fallback_text: "Perdón.".into(), ..Dead::default() };
        assert_eq!(text(outcome::Result::Reply(reply.clone())), Ok("Hola".into()));
        assert_eq!(text(outcome::Result::Dead(dead)), Ok("Perdón.".into()));
        assert!(outcome_text(&Outcome::default()).is_err());
        let shadow = NoReplyReason::Shadow.into();
        // Also a reason of a later version.
        for reason in [shadow, 99] {
            let none = NoReply { reason, would_be: Some(reply.clone()) };
            assert_eq!(text(outcome::Result::None(none)), Ok(String::new()));
        }
        let stored = outcome(outcome::Result::None(NoReply { reason: shadow, would_be: Some(reply) }));
        let stored = prost::Message::encode_to_vec(&stored);
        let read: before_shadow::Outcome = prost::Message::decode(stored.as_slice()).unwrap();
        let none = before_shadow::NoReply { reason: shadow };
        assert_eq!(read.result, Some(before_shadow::Result::None(none)));
    }
}
