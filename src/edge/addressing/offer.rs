//! What an answer offers to choose from: how it is shown, and which option a text picks. Pure.
//!
//! Options are shown as numbered lines, buttons first and then the rows of the list, and the numbers go on from one to
//! the other. The same numbers count when a person writes one.

use std::collections::HashSet;

use icu_normalizer::DecomposingNormalizerBorrowed;

use crate::wire::v1::{self, ButtonReply, ListReply, inbound_message::Content};
use crate::wire::visible;

/// No text longer than this (in bytes) is compared with options.
pub(crate) const LONGEST_PICK: usize = 1_024;
/// With how many options a text is compared. No person reads as many.
const MOST_COMPARED: usize = 256;

/// The options of one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer(Vec<Choice>);

/// One option. Its number is its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    kind: Kind,
    id: String,
    /// One line.
    title: String,
    /// One line, or nothing.
    description: String,
}

/// One option as WhatsApp's own interface shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// It is one of a list, and no button.
    pub is_row: bool,
    /// What comes back when it is pressed.
    pub id: &'a str,
    /// What the person reads.
    pub title: &'a str,
    /// What stands below that; may be empty.
    pub description: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Button,
    Row,
}

impl Offer {
    /// The options of an answer or a request. What nobody would see of them is left out.
    pub(crate) fn of(interactive: Option<&v1::Interactive>) -> Self {
        let Some(interactive) = interactive else { return Self::default() };
        let ids = interactive.button_ids.iter().map(String::as_str).chain(std::iter::repeat(""));
        let buttons = interactive.buttons.iter().zip(ids);
        let buttons = buttons.map(|(title, id)| Choice::new(Kind::Button, id, title, ""));
        let rows = interactive.list_items.iter();
        let rows = rows.map(|row| Choice::new(Kind::Row, &row.id, &row.title, &row.description));
        Self(buttons.chain(rows).filter(|choice| !choice.title.is_empty()).collect())
    }

    /// There is nothing to choose.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes it takes up in memory, about.
    pub(crate) fn size(&self) -> usize {
        let texts = |choice: &Choice| choice.id.len() + choice.title.len() + choice.description.len();
        self.0.iter().map(|choice| texts(choice) + size_of::<Choice>()).sum()
    }

    /// Its lines as a person reads them: the buttons, and then the rows.
    pub(crate) fn lines(&self) -> [Vec<String>; 2] {
        [Kind::Button, Kind::Row].map(|kind| {
            let of_kind = self.numbered().filter(|(_, choice)| choice.kind == kind);
            of_kind.map(|(number, choice)| choice.line(number)).collect()
        })
    }

    /// Whether `words` have the same options under the same numbers already, as a menu that the assistant wrote itself.
    pub(crate) fn is_in(&self, words: &str) -> bool {
        let mut lines = words.lines().filter_map(numbered_line);
        !self.is_empty()
            && self.numbered().all(|(number, choice)| {
                let title = key(&choice.title);
                lines.any(|(line_number, said)| line_number == number && begins_with(&said, &title))
            })
    }

    /// Its options as WhatsApp's own buttons and rows name them. `None`: two of them would have one name.
    pub(crate) fn named(&self) -> Option<Vec<Named<'_>>> {
        let mut seen = HashSet::new();
        let named = |choice: &'_ Choice| seen.insert(choice.name().to_owned());
        self.0.iter().all(named).then(|| {
            let named = self.0.iter().map(|choice| Named {
                is_row: choice.kind == Kind::Row,
                id: choice.name(),
                title: &choice.title,
                description: &choice.description,
            });
            named.collect()
        })
    }

    /// What a person has pressed: WhatsApp says by which name.
    pub(crate) fn pressed(&self, pressed: &ButtonReply) -> Option<Content> {
        let mut named = self.0.iter().filter(|choice| choice.name() == pressed.button_id);
        let one = named.next().filter(|_| named.next().is_none())?;
        Some(match one.content("") {
            Content::ButtonReply(reply) => Content::ButtonReply(ButtonReply {
                flow: pressed.flow.clone(),
                params_json: pressed.params_json.clone(),
                ..reply
            }),
            other => other,
        })
    }

    /// What a person picks with this text: the number of an option, its label, or its whole line. `None` if the text
    /// is none of these, or could mean two of them.
    pub(crate) fn picked(&self, text: &str) -> Option<Content> {
        if text.len() > LONGEST_PICK {
            return None;
        }
        let said = key(text);
        let mut meant: Vec<&Choice> = Vec::new();
        for (number, choice) in self.numbered().take(MOST_COMPARED) {
            let says =
                [number.to_string(), choice.title.clone(), choice.bare_line(number), choice.line(number)];
            if !said.is_empty() && says.iter().any(|words| key(words) == said) {
                meant.push(choice);
            }
        }
        match meant.as_slice() {
            [one] => Some(one.content(text)),
            // `Papá` and `Papa` are told apart by who writes them as they are. A label that is another one's number
            // is not.
            several => {
                let mut exact = several.iter().filter(|choice| choice.title == text.trim());
                let one = exact.next().filter(|_| exact.next().is_none() && number(&said).is_none())?;
                Some(one.content(text))
            }
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Choice)> {
        (1..).zip(&self.0)
    }
}

impl Choice {
    fn new(kind: Kind, id: &str, title: &str, description: &str) -> Self {
        Self { kind, id: id.to_owned(), title: one_line(title), description: one_line(description) }
    }

    /// Its id; without one, its label.
    fn name(&self) -> &str {
        if self.id.is_empty() { &self.title } else { &self.id }
    }

    fn bare_line(&self, number: usize) -> String {
        format!("{number}. {}", self.title)
    }

    fn line(&self, number: usize) -> String {
        let mut line = self.bare_line(number);
        if !self.description.is_empty() {
            line.push_str(&format!(": {}", self.description));
        }
        line
    }

    /// It was picked with these words.
    fn content(&self, written: &str) -> Content {
        let (id, title, written) = (self.id.clone(), self.title.clone(), written.to_owned());
        match self.kind {
            Kind::Button => Content::ButtonReply(ButtonReply {
                button_id: id,
                text: title,
                written,
                ..Default::default()
            }),
            Kind::Row => Content::ListReply(ListReply {
                row_id: id,
                title,
                description: self.description.clone(),
                written,
            }),
        }
    }
}

/// Line breaks would make one option look like two. Empty if nothing can be seen.
fn one_line(text: &str) -> String {
    visible::trimmed(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as far as it matters for a comparison: without case, accents, commas, WhatsApp's marks (`*bold*`), what nobody
/// sees, and the punctuation around it. A question stays a question.
fn key(text: &str) -> String {
    let lower = text.to_lowercase();
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(&lower);
    let matters = |c: &char| {
        let is_mark = matches!(c, '\u{300}'..='\u{36f}' | '\u{20e3}' | '*' | '_' | '~' | '`');
        !is_mark && (c.is_whitespace() || visible::is_visible(*c))
    };
    let spaced = |c: char| if matches!(c, ',' | ';') { ' ' } else { c };
    let plain: String = decomposed.chars().filter(matters).map(spaced).collect();
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let around = |c: char| c == ' ' || ".:!¡\"'«»“”„‘’()[]".contains(c);
    plain.trim_matches(around).to_owned()
}

/// `12`, and not `012` or `+12`.
fn number(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// `2) Sí` as 2 and what follows.
fn numbered_line(line: &str) -> Option<(usize, String)> {
    let line = key(line);
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = line.split_at_checked(digits)?;
    let number = number(digits)?;
    let rest = rest.trim_start_matches(|c: char| c == ' ' || ".):-–—>]".contains(c));
    Some((number, rest.to_owned())).filter(|(_, rest)| !rest.is_empty())
}

/// Whether `said` is `title`, or that and something else (its description, a price).
fn begins_with(said: &str, title: &str) -> bool {
    let rest = said.strip_prefix(title);
    !title.is_empty() && rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
