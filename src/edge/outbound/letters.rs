//! What must be sent → WhatsApp's messages for it: a long text is several ([`parts`]), everything else is one. Pure.

use super::job::{Job, address};
use super::parts::{Parts, parts};
use super::request::{Content, Flaw, Quote};
use crate::wire::id;

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter<'a> {
    /// Its WhatsApp id.
    pub id: String,
    /// What it says.
    pub content: Content,
    /// What it quotes.
    pub quote: Option<&'a Quote>,
}

/// The messages of one job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letters<'a> {
    /// In their order; at least one.
    pub all: Vec<Letter<'a>>,
    /// It is longer than that, and the rest is missing.
    pub cut_off: bool,
}

/// The messages for what must be sent. Only an answer is cut off: who asks for a text can ask for a shorter one.
///
/// With `native`, options are buttons and lists of WhatsApp's own if they fit. That is one message, and so is its text.
pub(super) fn letters(job: &Job, native: bool) -> Result<Letters<'_>, Flaw> {
    let (content, quote) = job.content.as_ref().map_err(|flaw| *flaw)?;
    let one = |content| {
        let letter = Letter { id: id::whatsapp(&job.cause), content, quote: quote.as_ref() };
        Letters { all: vec![letter], cut_off: false }
    };
    let Content::Text { body, mentions } = content else { return Ok(one(content.clone())) };
    let Parts { texts, cut_off } = parts(body, job.menu);
    if cut_off && job.answers.is_none() {
        return Err(Flaw::TextTooLong);
    }
    let all = texts.iter().enumerate().map(|(number, text)| Letter {
        id: id::whatsapp_part(&job.cause, number),
        content: Content::Text { body: text.clone(), mentions: mentioned(mentions, &texts, number) },
        quote: quote.as_ref().filter(|_| number == 0),
    });
    let mut all: Vec<_> = all.collect();
    if let ([only], Some(menu), true) = (all.as_mut_slice(), &job.native, native) {
        only.content = Content::Menu(Box::new(menu.clone()));
    }
    Ok(Letters { all, cut_off })
}

/// Whom a part mentions: those whose `@` it has. The first one has those that none names.
fn mentioned(mentions: &[String], texts: &[String], number: usize) -> Vec<String> {
    let names = |text: &String, person: &String| {
        address(person).is_some_and(|jid| text.contains(&format!("@{}", jid.user)))
    };
    let belongs = |person: &&String| match texts.get(number) {
        Some(text) if names(text, person) => true,
        _ => number == 0 && !texts.iter().any(|text| names(text, person)),
    };
    mentions.iter().filter(belongs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::Target;
    use super::*;

    fn job(body: &str, mentions: &[&str], answers: Option<i64>) -> Job {
        let mentions = mentions.iter().map(|person| (*person).to_owned()).collect();
        let target = Target { id: "ABC".to_owned(), own: false, author: String::new() };
        let quote = Quote { target, author: String::new(), text: String::new() };
        Job {
            to: "5491112345678".to_owned(),
            content: Ok((Content::Text { body: body.to_owned(), mentions }, Some(quote))),
            menu: 0,
            offer: crate::edge::addressing::offer::Offer::default(),
            native: None,
            not_after_ms: None,
            cause: "order-77".to_owned(),
            first_contact: answers.is_none(),
            answers,
            asked_ms: answers,
            times: None,
            disappears_after_s: None,
        }
    }

    #[test]
    fn a_long_text_quotes_once_mentions_where_it_names_and_has_ids_of_its_own() {
        let long = "x".repeat(4_000);
        let body = format!("@54911 {long} @54922 {long}");
        let short = job("Hola", &["54911"], None);
        let all = letters(&short, false).unwrap().all;
        assert_eq!((all.len(), all[0].id.as_str()), (1, id::whatsapp("order-77").as_str()));

        let job = job(&body, &["54922", "54911", "54933", "54944@lid"], None);
        let Letters { all, cut_off } = letters(&job, false).unwrap();
        let mentions: Vec<_> = all
            .iter()
            .map(|letter| match &letter.content {
                Content::Text { mentions, .. } => mentions.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(!cut_off);
        assert_eq!(mentions, [vec!["54922", "54911", "54933", "54944@lid"], vec![]]);
        let quotes: Vec<_> = all.iter().map(|letter| letter.quote.is_some()).collect();
        assert_eq!(quotes, [true, false]);
        assert_eq!(all[0].id, id::whatsapp("order-77"));
        assert_ne!(all[1].id, all[0].id);
    }

    #[test]
    fn only_an_answer_is_cut_off() {
        let body = "x".repeat(65_537);
        assert_eq!(letters(&job(&body, &[], None), false), Err(Flaw::TextTooLong));
        let job = job(&body, &[], Some(1));
        let cut = letters(&job, false).unwrap();
        assert_eq!((cut.all.len(), cut.cut_off), (16, true));
    }

    #[test]
    fn what_is_no_text_is_one_message_and_a_flaw_stays_one() {
        let target = Target { id: "ABC".to_owned(), own: true, author: String::new() };
        let revoke = Content::Revoke { target };
        let revoke = Job { content: Ok((revoke, None)), ..job("", &[], None) };
        assert_eq!(letters(&revoke, false).unwrap().all[0].id, id::whatsapp("order-77"));
        let flaw = Job { content: Err(Flaw::Emoji), ..job("", &[], None) };
        assert_eq!(letters(&flaw, false), Err(Flaw::Emoji));
    }
}
