//! The people whom a message names. Pure.

use crate::edge::addressing::identity;
use crate::wire::v1::{Context, Identity, inbound_message::Content};

/// Adds what is known of the people whom a message names, and whether the linked number is one of them. `known` is the
/// linked number, and who else is known by both addresses.
pub(super) fn complete(content: &mut Content, mut context: Option<&mut Context>, known: &[Identity]) {
    for person in people(content, context.as_deref_mut()) {
        identity::complete(person, known);
    }
    if let (Some(context), Some(own)) = (context, known.first()) {
        context.mentions_us = mentions(context, own);
    }
}

/// The person with both addresses, if they are known.
pub(super) fn with_both(person: &Identity, known: &[Identity]) -> Identity {
    let mut person = person.clone();
    identity::complete(&mut person, known);
    person
}

/// Is the linked number mentioned, or a message of it quoted?
fn mentions(context: &Context, own: &Identity) -> bool {
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let quoted = context.quoted.as_ref().and_then(|quoted| quoted.author.as_ref());
    let mut named = context.mentions.iter().chain(quoted);
    named.any(|one| same(&one.phone, &own.phone) || same(&one.lid, &own.lid))
}

/// Everybody whom a message names.
fn people<'a>(
    content: &'a mut Content,
    context: Option<&'a mut Context>,
) -> impl Iterator<Item = &'a mut Identity> {
    let of_content: &mut [Identity] = match content {
        Content::Revoke(revoke) => revoke.author.as_mut_slice(),
        Content::GroupChange(change) => &mut change.people,
        _ => &mut [],
    };
    let named = context.into_iter().flat_map(|context| {
        let quoted = context.quoted.as_mut().and_then(|quoted| quoted.author.as_mut());
        quoted.into_iter().chain(&mut context.mentions)
    });
    of_content.iter_mut().chain(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::Quoted;

    #[test]
    fn who_is_named_or_quoted_is_mentioned_by_either_address_and_everybody_is_nobody() {
        let person =
            |phone: &str, lid: &str| Identity { phone: phone.into(), lid: lid.into(), jid: "x".into() };
        let own = person("15551", "77");
        let named = |people: Vec<Identity>| Context { mentions: people, ..Context::default() };
        let quoted =
            |author| Context { quoted: Some(Quoted { author, ..Quoted::default() }), ..Context::default() };
        for (context, want) in [
            (named(vec![person("15551", "")]), true),
            (named(vec![person("", "77")]), true),
            (named(vec![person("54911", "987"), person("15551", "77")]), true),
            (named(vec![person("54911", "987")]), false),
            // The same digits of the other sort are somebody else.
            (named(vec![person("77", "15551")]), false),
            (named(vec![person("", "")]), false),
            (quoted(Some(person("", "77"))), true),
            (quoted(Some(person("54911", ""))), false),
            (quoted(None), false),
            (Context { mentions_all: true, ..Context::default() }, false),
        ] {
            assert_eq!(mentions(&context, &own), want, "{context:?}");
        }
        assert!(!mentions(&named(vec![person("", "")]), &Identity::default()), "nobody is linked");
    }
}
