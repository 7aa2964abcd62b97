//! Votes and answers reach readers as what was picked, whoever has made the poll, and also after a kill.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::{EventAnswer, EventAnswerWord, PollVote};
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::wacore::event::encrypt_event_response_with_secret;
use whatsapp_rust::wacore::poll::{compute_option_hash, encrypt_poll_vote_with_secret};
use whatsapp_rust::waproto::codec::message_to_vec;

use crate::support::{Addressing, BUSINESS, Customer, Layout, Role, Stage};

const GROUP: &str = "120363000000000779@g.us";
const SECRET: [u8; 32] = [11; 32];

fn raw(message: &wa::Message) -> String {
    BASE64_STANDARD.encode(message_to_vec(message))
}

/// With the secret that votes and answers are sealed with.
fn with_secret(message: wa::Message) -> wa::Message {
    let context = wa::MessageContextInfo { message_secret: Some(SECRET.to_vec()), ..Default::default() };
    wa::Message { message_context_info: MessageField::some(context), ..message }
}

fn poll() -> wa::Message {
    use wa::message::PollCreationMessage;
    use wa::message::poll_creation_message::Option as Choice;
    let option = |name: &str| Choice { option_name: Some(name.to_owned()), ..Default::default() };
    let poll = PollCreationMessage {
        name: Some("¿Cuándo?".to_owned()),
        options: vec![option("hoy"), option("mañana")],
        ..Default::default()
    };
    with_secret(wa::Message { poll_creation_message_v3: MessageField::some(poll), ..Default::default() })
}

fn key(id: &str) -> MessageField<wa::MessageKey> {
    MessageField::some(wa::MessageKey { id: Some(id.to_owned()), ..Default::default() })
}

fn vote(poll: &str, options: &[&str], creator: &str, voter: &str) -> wa::Message {
    use wa::message::{PollEncValue, PollUpdateMessage};
    let hashes: Vec<_> = options.iter().map(|option| compute_option_hash(option).to_vec()).collect();
    let (payload, iv) =
        encrypt_poll_vote_with_secret(&hashes, &SECRET, poll, creator, voter).expect("a vote");
    let vote = PollEncValue { enc_payload: Some(payload), enc_iv: Some(iv.to_vec()) };
    let update = PollUpdateMessage {
        poll_creation_message_key: key(poll),
        vote: MessageField::some(vote),
        ..Default::default()
    };
    wa::Message { poll_update_message: MessageField::some(update), ..Default::default() }
}

fn phone_of(number: &str) -> String {
    format!("{number}@s.whatsapp.net")
}

async fn lid_of(customer: &Customer) -> String {
    format!("{}@lid", customer.lid().await.trim_end_matches("@lid"))
}

/// The updates' contents, in the order of the bus.
async fn updates(stage: &Stage, count: usize) -> Vec<Content> {
    let streams = stage.streams().await;
    streams.updated(count).await;
    streams.updates().await.iter().filter_map(|entry| entry.inbound().content).collect()
}

#[tokio::test]
async fn a_vote_for_the_owners_poll_is_read_also_by_the_edge_after_the_one_that_was_killed() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let id = stage.simulator.owner_sends(&customer, &raw(&poll())).await;
    stage.streams().await.received(1).await;
    product.edge.process.kill();
    let (own, theirs) = (phone_of(BUSINESS), phone_of(customer.phone()));
    let sends = async |message: wa::Message| customer.write_with(json!({"raw": raw(&message)})).await;
    sends(vote(&id, &["mañana"], &own, &theirs)).await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    updates(&stage, 1).await;
    sends(vote(&id, &[], &own, &theirs)).await;
    updates(&stage, 2).await;
    sends(vote("3EB0FEED", &["hoy"], &own, &theirs)).await;
    updates(&stage, 3).await;
    // Sealed by somebody else than who sends it.
    sends(vote(&id, &["hoy"], &own, &phone_of("5491155559999"))).await;

    let of = |options: &[&str], target: &str, reason: &str| {
        Content::PollVote(PollVote {
            target_message_id: target.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            decrypted: reason.is_empty(),
            reason: reason.to_owned(),
        })
    };
    let wanted = [
        of(&["mañana"], &id, ""),
        of(&[], &id, ""),
        of(&[], "3EB0FEED", "unknown"),
        of(&[], &id, "unreadable"),
    ];
    assert_eq!(updates(&stage, 4).await, wanted);
}

#[tokio::test]
async fn in_a_group_votes_and_answers_are_read_by_hidden_ids() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.simulator.customer("5491155550021", Addressing::Lid).await;
    let luis = stage.simulator.customer("5491155550022", Addressing::Lid).await;
    let (creator, voter) = (lid_of(&ana).await, lid_of(&luis).await);
    let sends = async |customer: &Customer, message: wa::Message| {
        customer.write_with(json!({"raw": raw(&message), "through": GROUP})).await
    };
    let event = wa::message::EventMessage { name: Some("Cata".to_owned()), ..Default::default() };
    let event = wa::Message { event_message: MessageField::some(event), ..Default::default() };
    let poll = sends(&ana, poll()).await;
    let event = sends(&ana, with_secret(event)).await;
    stage.streams().await.received(2).await;
    sends(&luis, vote(&poll, &["hoy", "mañana"], &creator, &voter)).await;
    updates(&stage, 1).await;
    let said = wa::message::EventResponseMessage {
        response: Some(wa::message::event_response_message::EventResponseType::Going),
        extra_guest_count: Some(1),
        ..Default::default()
    };
    let (payload, iv) =
        encrypt_event_response_with_secret(&said, &SECRET, &event, &creator, &voter).expect("an answer");
    let answer = wa::message::EncEventResponseMessage {
        event_creation_message_key: key(&event),
        enc_payload: Some(payload),
        enc_iv: Some(iv.to_vec()),
    };
    let answer = wa::Message { enc_event_response_message: MessageField::some(answer), ..Default::default() };
    sends(&luis, answer).await;

    let wanted = [
        Content::PollVote(PollVote {
            target_message_id: poll,
            options: vec!["hoy".to_owned(), "mañana".to_owned()],
            decrypted: true,
            ..PollVote::default()
        }),
        Content::EventAnswer(EventAnswer {
            target_message_id: event,
            answer: EventAnswerWord::Going.into(),
            extra_guests: 1,
            decrypted: true,
            ..EventAnswer::default()
        }),
    ];
    assert_eq!(updates(&stage, 2).await, wanted);
}
