//! What is offered, as WhatsApp's own buttons and list (a "native flow"). Pure.
//!
//! Only what fits is made so: WhatsApp's interface for businesses says how much phones show, and an option that is cut off
//! is none. All else is numbered text, and so is this one if WhatsApp refuses it.

use serde_json::json;
use whatsapp_rust::prelude::{MessageField, wa};

use super::request::Content;
use crate::edge::addressing::offer::{Named, Offer};

/// How many characters the words beside buttons have.
const BODY: usize = 1_024;
/// The words beside a list, which are the whole numbered text.
const LIST_BODY: usize = 4_000;
const BUTTONS: usize = 3;
const BUTTON: usize = 20;
const ROWS: usize = 10;
const ROW: usize = 24;
const DESCRIPTION: usize = 72;
const ID: usize = 200;
/// What the button that opens a list shows if the list has no name for it. It is of no language.
const OPEN: &str = "☰";

/// Words with buttons, with a list, or with both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    text: String,
    /// Whom the words mention.
    pub(super) mentions: Vec<String>,
    /// The words beside the buttons.
    body: String,
    /// Each with its parameters.
    buttons: Vec<(&'static str, String)>,
}

impl Menu {
    /// `None`: it does not fit. `words` are said beside the offer, and `text` is all of it as numbered text.
    ///
    /// Beside a list the whole text stays: iPhones show no list of a native flow, and their owners can write a number.
    pub(super) fn of(offer: &Offer, list_title: &str, words: &str, text: &str) -> Option<Self> {
        let named = offer.named()?;
        let (rows, buttons): (Vec<Named<'_>>, Vec<_>) = named.into_iter().partition(|one| one.is_row);
        let (body, most) = if rows.is_empty() { (words, BODY) } else { (text, LIST_BODY) };
        let is_short = |text: &str, most: usize| text.chars().count() <= most;
        let fits = |one: &Named<'_>, title: usize| {
            is_short(one.title, title) && is_short(one.description, DESCRIPTION) && is_short(one.id, ID)
        };
        let all_fit = !words.is_empty()
            && is_short(body, most)
            && buttons.len() + rows.len() > 0
            && buttons.len() <= BUTTONS
            && rows.len() <= ROWS
            && buttons.iter().all(|one| fits(one, BUTTON))
            && rows.iter().all(|one| fits(one, ROW));
        if !all_fit {
            return None;
        }
        let reply =
            |one: &Named<'_>| ("quick_reply", json!({"display_text": one.title, "id": one.id}).to_string());
        let mut buttons: Vec<_> = buttons.iter().map(reply).collect();
        if !rows.is_empty() {
            buttons.push(("single_select", list(list_title, &rows)));
        }
        Some(Self { text: text.to_owned(), mentions: Vec::new(), body: body.to_owned(), buttons })
    }

    /// It mentions these persons.
    pub(super) fn mentioning(self, mentions: &[String]) -> Self {
        Self { mentions: mentions.to_vec(), ..self }
    }

    /// All of it as numbered text.
    pub(super) fn in_words(&self) -> Content {
        Content::Text { body: self.text.clone(), mentions: self.mentions.clone() }
    }

    /// WhatsApp's message. Its server wants a node beside it that the client library adds.
    pub(super) fn message(&self, context: MessageField<wa::ContextInfo>) -> wa::Message {
        use wa::message::interactive_message::{
            self, Body, NativeFlowMessage, native_flow_message::NativeFlowButton,
        };
        let button = |(name, parameters): &(&str, String)| NativeFlowButton {
            name: Some((*name).to_owned()),
            button_params_json: Some(parameters.clone()),
        };
        let flow = NativeFlowMessage {
            buttons: self.buttons.iter().map(button).collect(),
            message_version: Some(1),
            ..Default::default()
        };
        let menu = wa::message::InteractiveMessage {
            body: MessageField::some(Body { text: Some(self.body.clone()) }),
            interactive_message: Some(interactive_message::InteractiveMessage::NativeFlowMessage(Box::new(
                flow,
            ))),
            context_info: context,
            ..Default::default()
        };
        wa::Message { interactive_message: MessageField::some(menu), ..Default::default() }
    }
}

/// The button that opens a list, and the list.
fn list(title: &str, rows: &[Named<'_>]) -> String {
    let within = |most: usize| Some(title).filter(|title| !title.is_empty() && title.chars().count() <= most);
    let row = |one: &Named<'_>| json!({"id": one.id, "title": one.title, "description": one.description});
    let section = json!({
        "title": within(ROW).unwrap_or_default(),
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    });
    json!({"title": within(BUTTON).unwrap_or(OPEN), "sections": [section]}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Interactive, ListItem};

    fn offered(buttons: &[&str], ids: &[&str], rows: &[(&str, &str, &str)]) -> Offer {
        let row = |(id, title, description): &(&str, &str, &str)| ListItem {
            id: (*id).to_owned(),
            title: (*title).to_owned(),
            description: (*description).to_owned(),
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Offer::of(Some(&Interactive {
            buttons: texts(buttons),
            button_ids: texts(ids),
            list_items: rows.iter().map(row).collect(),
            ..Interactive::default()
        }))
    }

    #[test]
    fn an_option_comes_back_by_its_id_and_without_one_by_its_label() {
        let offer = offered(&["Sí", "No"], &["y"], &[("r2", "Mesa de dos", "al sol")]);
        let menu = Menu::of(&offer, "Mesas", "¿Qué mesa?", "¿Qué mesa?\n\n1. Sí").expect("a menu");
        let section =
            r#"{"rows":[{"description":"al sol","id":"r2","title":"Mesa de dos"}],"title":"Mesas"}"#;
        let want = [
            ("quick_reply", r#"{"display_text":"Sí","id":"y"}"#.to_owned()),
            ("quick_reply", r#"{"display_text":"No","id":"No"}"#.to_owned()),
            ("single_select", format!(r#"{{"sections":[{section}],"title":"Mesas"}}"#)),
        ];
        assert_eq!(menu.buttons, want);
        assert_eq!(menu.body, "¿Qué mesa?\n\n1. Sí", "whose phone shows no list reads the numbers");
        let buttons = Menu::of(&offered(&["Sí"], &[], &[]), "", "¿Sí?", "¿Sí?\n\n1. Sí").expect("a menu");
        assert_eq!(buttons.body, "¿Sí?");
        assert_eq!(buttons, Menu::of(&offered(&["Sí"], &[], &[]), "", "¿Sí?", "¿Sí?\n\n1. Sí").unwrap());
        let untitled = Menu::of(&offered(&[], &[], &[("", "Dos", "")]), &"x".repeat(25), "a", "a").unwrap();
        let (_, list) = &untitled.buttons[0];
        assert!(list.contains(r#""title":"☰""#) && !list.contains('x'), "{list}");
    }

    #[test]
    fn what_phones_would_cut_off_or_mix_up_is_no_menu() {
        let long = |count: usize| "é".repeat(count);
        let rows =
            |count: usize| (0..count).map(|n| (format!("r{n}"), format!("fila {n}"))).collect::<Vec<_>>();
        let with_rows = |count: usize| {
            let rows = rows(count);
            let rows: Vec<_> = rows.iter().map(|(id, title)| (id.as_str(), title.as_str(), "")).collect();
            offered(&[], &[], &rows)
        };
        for (offer, words, fits) in [
            (offered(&["1", "2", "3"], &[], &[]), "a", true),
            (offered(&["1", "2", "3", "4"], &[], &[]), "a", false),
            (offered(&[&long(20)], &[], &[]), "a", true),
            (offered(&[&long(21)], &[], &[]), "a", false),
            (offered(&["Sí"], &[&long(200)], &[]), "a", true),
            (offered(&["Sí"], &[&long(201)], &[]), "a", false),
            (offered(&["Sí", "No"], &["x", "x"], &[]), "a", false),
            (offered(&["Sí", "Sí"], &[], &[]), "a", false),
            (offered(&["Sí"], &[], &[]), "", false),
            (offered(&["Sí"], &[], &[]), &long(1_024), true),
            (offered(&["Sí"], &[], &[]), &long(1_025), false),
            (with_rows(10), "a", true),
            (with_rows(11), "a", false),
            (with_rows(1), &long(4_001), false),
            (offered(&[], &[], &[("", &long(24), &long(72))]), "a", true),
            (offered(&[], &[], &[("", &long(25), "")]), "a", false),
            (offered(&[], &[], &[("", "Dos", &long(73))]), "a", false),
            (Offer::default(), "a", false),
        ] {
            assert_eq!(Menu::of(&offer, "", words, words).is_some(), fits, "{offer:?}");
        }
    }
}
