//! Who wants nothing unasked: which words say so, and which of several holds. Pure.
//!
//! Only times of WhatsApp and of the stream are compared, which come with the messages: so an old "stop" that WhatsApp hands
//! over late, or again, changes nothing after a newer "start".

use std::collections::HashSet;

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup, Script};
use icu_properties::{CodePointMapData, CodePointMapDataBorrowed};

use super::v1::inbound_message::Content;
use super::v1::{OptOut, OptOutCause, OptOutState};
use super::visible;

/// What a list of words takes.
pub const TAKES: &str = "words or short sentences, separated by commas: 100 at most, each with a letter and of at most 64 characters";

/// No word is longer, in characters as they are compared.
pub const LONGEST: usize = 64;
/// So many words of each sort.
pub const MOST: usize = 100;
/// No text longer than this (in bytes) is compared.
const LONGEST_TEXT: usize = 1_024;
/// So many words of one second are told apart.
const OF_ONE_SECOND: usize = 16;

/// The words of `OPT_OUT_WORDS` and `OPT_IN_WORDS`, as they are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    out: HashSet<String>,
    back: HashSet<String>,
}

impl Words {
    /// Words to opt out with, and to opt in with. `None`: one is in both.
    pub fn new(out: HashSet<String>, back: HashSet<String>) -> Option<Self> {
        out.is_disjoint(&back).then_some(Self { out, back })
    }

    /// What somebody says who writes this and nothing else.
    pub fn say(&self, text: &str) -> Option<OptOutState> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        let said = folded(text);
        if self.out.contains(&said) {
            Some(OptOutState::Out)
        } else if self.back.contains(&said) {
            Some(OptOutState::In)
        } else {
            None
        }
    }
}

/// A list of words, separated by commas, as they are compared. `None`: one has nothing to compare, or is too long, or there are
/// too many.
pub fn words(list: &str) -> Option<HashSet<String>> {
    let words = list.split(',').filter(|word| !word.trim().is_empty());
    let words: Vec<String> = words.map(folded).collect();
    let legal = |word: &String| (1..=LONGEST).contains(&word.chars().count());
    (words.len() <= MOST && words.iter().all(legal)).then(|| words.into_iter().collect())
}

/// A text as far as it matters for a comparison: without case, accents, punctuation, WhatsApp's marks (`*bold*`) and what nobody
/// sees, in the form that Unicode calls NFKD.
pub fn folded(text: &str) -> String {
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd();
    let scripts = CodePointMapData::<Script>::new();
    let categories = CodePointMapData::<GeneralCategory>::new();
    // There and back: `ß` and its capital are `ss`, and the Turkish `ı` is `i`, as those who write in capitals have it.
    let one_case: String = decomposed
        .normalize(text)
        .chars()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    let kept = |c: &char| {
        c.is_whitespace() || (visible::is_visible(*c) && !is_accent(*c, scripts) && !is_mark(*c, categories))
    };
    let plain: String = decomposed.normalize(&one_case).chars().filter(kept).collect();
    // Once more: what a removed character kept apart stands side by side now, and the marks of one letter have an order.
    decomposed.normalize(&plain).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Does it stand over or under letters of whatever script? The vowels of Hindi or Thai are letters of theirs, and the two marks of
/// Japanese make other letters.
fn is_accent(c: char, scripts: CodePointMapDataBorrowed<'_, Script>) -> bool {
    let is_combining = CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::NonspacingMark;
    let of_any_script = matches!(scripts.get(c), Script::Inherited | Script::Common | Script::Hebrew);
    is_combining && of_any_script && !matches!(c, '\u{3099}' | '\u{309a}')
}

fn is_mark(c: char, categories: CodePointMapDataBorrowed<'_, GeneralCategory>) -> bool {
    matches!(c, '~' | '`') || GeneralCategoryGroup::Punctuation.contains(categories.get(c))
}

/// What a person has written, pressed or written below a file. `None`: nothing that could be such a word.
pub fn written(content: &Content) -> Option<&str> {
    let text = match content {
        Content::Text(text) => &text.body,
        Content::ButtonReply(pressed) => &pressed.text,
        Content::ListReply(picked) => &picked.title,
        Content::Image(file) | Content::Video(file) | Content::Document(file) => &file.caption,
        _ => return None,
    };
    Some(text.as_str()).filter(|text| !text.is_empty())
}

impl OptOut {
    /// The same with its time, if it counts from when the stream stored it.
    pub fn resolved(self, stored_at_ms: i64) -> Self {
        let at_ms = if self.at_ms == 0 { stored_at_ms } else { self.at_ms };
        Self { at_ms, ..self }
    }
}

/// A person has written such a word at this time. Returns what holds from then on. `None`: it changes nothing.
pub fn said(before: Option<&OptOut>, state: OptOutState, at_ms: i64, message_id: &str) -> Option<OptOut> {
    let said = |before_ids| OptOut {
        state: state.into(),
        cause: OptOutCause::Person.into(),
        at_ms,
        message_id: message_id.to_owned(),
        before_ids,
        ..OptOut::default()
    };
    let Some(before) = before else { return Some(said(Vec::new())) };
    if before.cause() == OptOutCause::Operator {
        // WhatsApp's times are whole seconds, and who wants to be left alone has the benefit of the doubt.
        let second = before.at_ms.saturating_sub(before.at_ms.rem_euclid(1_000));
        let is_later = if state == OptOutState::Out { at_ms >= second } else { at_ms > before.at_ms };
        return is_later.then(|| said(Vec::new()));
    }
    if at_ms != before.at_ms {
        return (at_ms > before.at_ms).then(|| said(Vec::new()));
    }
    // Within one second, what comes later was written later, unless it comes again.
    let known = before.message_id == message_id || before.before_ids.iter().any(|id| id == message_id);
    let ids: Vec<String> = before.before_ids.iter().chain([&before.message_id]).cloned().collect();
    let first = ids.len().saturating_sub(OF_ONE_SECOND);
    (!known).then(|| said(ids.into_iter().skip(first).collect()))
}

/// An operator has asked for it, from when the stream stores this.
pub fn asked_for(state: OptOutState) -> OptOut {
    OptOut { state: state.into(), cause: OptOutCause::Operator.into(), ..OptOut::default() }
}

/// Of what holds for each of one person's addresses, the newest counts; at the same time, that nothing is wanted.
pub fn is_out<'a>(held: impl Iterator<Item = &'a OptOut>) -> bool {
    let newest = held.max_by_key(|one| (one.at_ms, one.state() == OptOutState::Out));
    newest.is_some_and(|one| one.state() == OptOutState::Out)
}

#[cfg(test)]
#[path = "opt_out_tests.rs"]
mod tests;
