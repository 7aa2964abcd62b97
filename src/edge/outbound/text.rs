//! The text of an outcome, as WhatsApp shows it. Pure.

use super::menu::Menu;
use crate::edge::addressing::offer::Offer;
use crate::wire::v1::{self, Outcome, outcome};
use crate::wire::visible;

/// A text, and how many bytes at its end are options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// All of it.
    pub text: String,
    /// The options' part; 0: there are none, or they are among the words.
    pub menu: usize,
    /// The options.
    pub offer: Offer,
    /// The same with WhatsApp's own buttons or list, if it fits.
    pub native: Option<Menu>,
}

impl Shown {
    fn words(words: &str) -> Self {
        Self { text: words.to_owned(), ..Self::default() }
    }
}

/// The text of an outcome for the customer. Empty: nothing to send. An error if this edge does not know the kind of
/// outcome.
///
/// For the outcome *none* nothing is ever sent, whatever it carries and whatever its reason is:
/// `BACKEND_MODE=shadow` relies on it.
pub(super) fn outcome_text(outcome: &Outcome) -> Result<Shown, &'static str> {
    match &outcome.result {
        Some(outcome::Result::Reply(reply)) => Ok(with_options(&reply.text, reply.interactive.as_ref())),
        Some(outcome::Result::Dead(dead)) => Ok(Shown::words(visible::trimmed(&dead.fallback_text))),
        Some(outcome::Result::None(_)) => Ok(Shown::default()),
        None => Err("its result is of an unknown kind"),
    }
}

/// Words and options as one text: what is offered follows the words, as numbered lines. If the words are such a menu already,
/// they are enough.
pub(super) fn with_options(words: &str, options: Option<&v1::Interactive>) -> Shown {
    let words = visible::trimmed(words);
    let offer = Offer::of(options);
    let title = options.map(|options| visible::trimmed(&options.list_title)).unwrap_or_default();
    let (text, menu) = numbered(words, &offer, title);
    let native = Menu::of(&offer, title, words, &text);
    Shown { text, menu, offer, native }
}

/// The text, and how many bytes of it are the options.
fn numbered(words: &str, offer: &Offer, title: &str) -> (String, usize) {
    if offer.is_in(words) {
        return (words.to_owned(), 0);
    }
    let [buttons, mut rows] = offer.lines();
    if !title.is_empty() && !rows.is_empty() {
        rows.insert(0, title.to_owned());
    }
    let together = |parts: [&str; 2]| {
        parts.map(str::to_owned).into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    };
    let menu = together([&buttons.join("\n"), &rows.join("\n")]);
    (together([words, &menu]), menu.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(title: &str, description: &str) -> v1::ListItem {
        let (title, description) = (title.to_owned(), description.to_owned());
        v1::ListItem { title, description, ..v1::ListItem::default() }
    }

    fn shown(text: &str, buttons: &[&str], title: &str, rows: &[v1::ListItem]) -> String {
        let interactive = v1::Interactive {
            buttons: buttons.iter().map(|button| (*button).to_owned()).collect(),
            list_title: title.to_owned(),
            list_items: rows.to_vec(),
            ..v1::Interactive::default()
        };
        with_options(text, Some(&interactive)).text
    }

    #[test]
    fn options_follow_the_words_as_numbered_lines() {
        let two = [row("Dos", "junto a la ventana"), row("Seis", "")];
        let dos = "Dos: junto a la ventana";
        for (got, want) in [
            (
                shown("¿Cuál?", &["Sí", "No"], "Mesas", &two),
                format!("¿Cuál?\n\n1. Sí\n2. No\n\nMesas\n3. {dos}\n4. Seis"),
            ),
            (shown("¿Cuál?", &[], "Mesas", &two), format!("¿Cuál?\n\nMesas\n1. {dos}\n2. Seis")),
            (shown("¿Cuál?", &[], "", &two), format!("¿Cuál?\n\n1. {dos}\n2. Seis")),
            (shown("", &["Sí", "No"], "", &[]), "1. Sí\n2. No".to_owned()),
            (shown("\u{200b}", &["Sí"], "", &two), format!("1. Sí\n\n2. {dos}\n3. Seis")),
            (shown("¿Cuál?\n\n", &["Sí"], "", &[]), "¿Cuál?\n\n1. Sí".to_owned()),
            (shown("\n¿Cuál?\n", &[], "Mesas", &[]), "¿Cuál?".to_owned()),
            (shown("¿Cuál?", &["\u{2060}"], "", &[]), "¿Cuál?".to_owned()),
            (shown("¿Cuál?\n1. Sí\n2. No", &["Sí", "No"], "", &[]), "¿Cuál?\n1. Sí\n2. No".to_owned()),
            (shown("\u{2800}\n", &[], "", &[]), String::new()),
        ] {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn options_are_known_as_the_end_of_the_text() {
        let shown = |text: &str, buttons: &[&str]| {
            let buttons = buttons.iter().map(|button| (*button).to_owned()).collect();
            let interactive = Some(v1::Interactive { buttons, ..v1::Interactive::default() });
            with_options(text, interactive.as_ref())
        };
        for (shown, menu) in [
            (shown("¿Cuál?", &["Sí", "No"]), "1. Sí\n2. No"),
            (shown("", &["Sí"]), "1. Sí"),
            (shown("¿Cuál?", &[]), ""),
            (shown("¿Cuál?\n1. Sí\n2. No", &["Sí", "No"]), ""),
        ] {
            assert_eq!(&shown.text[shown.text.len() - shown.menu..], menu);
        }
    }

    #[test]
    fn all_that_is_offered_is_shown() {
        let names: Vec<String> = (1..=30).map(|number| format!("opción {number}")).collect();
        let buttons: Vec<&str> = names[..5].iter().map(String::as_str).collect();
        let rows: Vec<_> = names[5..].iter().map(|name| row(name, "")).collect();
        let text = shown("¿Cuál?", &buttons, "", &rows);
        for (number, name) in (1..).zip(&names) {
            assert!(text.lines().any(|line| line == format!("{number}. {name}")), "{text}");
        }
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
        let text = |result| outcome_text(&outcome(result)).map(|shown| shown.text);
        let dead = Dead { fallback_text: "Perdón.".into(), ..Dead::default() };
        let blank = Dead { fallback_text: " \u{200b}\n".into(), ..Dead::default() };
        assert_eq!(text(outcome::Result::Dead(blank)), Ok(String::new()));
        assert_eq!(text(outcome::Result::Reply(reply.clone())), Ok("Hola".into()));
        assert_eq!(text(outcome::Result::Dead(dead)), Ok("Perdón.".into()));
        assert!(outcome_text(&Outcome::default()).is_err());
        let shadow = NoReplyReason::Shadow.into();
        // Also a reason of a later version.
        for reason in [shadow, 99] {
            let none = NoReply { reason, would_be: Some(reply.clone()), ..NoReply::default() };
            assert_eq!(text(outcome::Result::None(none)), Ok(String::new()));
        }
        let none = NoReply { reason: shadow, would_be: Some(reply), ..NoReply::default() };
        let stored = outcome(outcome::Result::None(none));
        let stored = prost::Message::encode_to_vec(&stored);
        let read: before_shadow::Outcome = prost::Message::decode(stored.as_slice()).unwrap();
        let none = before_shadow::NoReply { reason: shadow };
        assert_eq!(read.result, Some(before_shadow::Result::None(none)));
    }
}
