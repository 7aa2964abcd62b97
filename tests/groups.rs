//! Groups: who is answered, and how. A group is a chat like any other: every promise holds for it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{
    GroupAction, NoReplyReason, ReceiptStatus, SendMessage, SendReaction, SendTarget, SendText, send_message,
};
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::waproto::codec::message_to_vec;

use crate::support::{
    Addressing, BUSINESS, Customer, Layout, PATIENCE, Received, Role, Stage, eventually, warning,
};

const GROUP: &str = "120363000000000881@g.us";
const CHAT: &str = "group-120363000000000881";

/// A text that mentions people, or quotes a message.
pub fn said(text: &str, context: wa::ContextInfo) -> String {
    let text = wa::message::ExtendedTextMessage {
        text: Some(text.to_owned()),
        context_info: MessageField::some(context),
        ..Default::default()
    };
    let message = wa::Message { extended_text_message: MessageField::some(text), ..Default::default() };
    BASE64_STANDARD.encode(message_to_vec(&message))
}

pub fn mention(jid: &str) -> wa::ContextInfo {
    wa::ContextInfo { mentioned_jid: vec![jid.to_owned()], ..Default::default() }
}

fn quote(id: &str, author: &str, text: &str) -> wa::ContextInfo {
    let quoted = wa::Message { conversation: Some(text.to_owned()), ..Default::default() };
    wa::ContextInfo {
        stanza_id: Some(id.to_owned()),
        participant: Some(author.to_owned()),
        quoted_message: MessageField::some(quoted),
        ..Default::default()
    }
}

/// Writes into the group; returns the id.
async fn says(customer: &Customer, group: &str, text: &str) -> String {
    customer.write_with(json!({"text": text, "through": group})).await
}

/// What the business has written, on this phone, once there are so many.
async fn answers(customer: &Customer, count: usize) -> Vec<Received> {
    eventually(format!("{count} answers at {}", customer.phone()), PATIENCE, async || {
        let mut inbox = customer.inbox().await;
        inbox.retain(|received| received.more["from"] == BUSINESS);
        if inbox.len() >= count { Ok(inbox) } else { Err(format!("{}", inbox.len())) }
    })
    .await
}

fn texts(received: &[Received]) -> Vec<&str> {
    received.iter().map(|one| one.text.as_str()).collect()
}

/// Ana, by number, and Leo, by hidden id, in a group with the business.
async fn two(stage: &Stage, more: serde_json::Value) -> (Customer, Customer) {
    let ana = stage.simulator.customer("5491144440001", Addressing::Phone).await;
    let leo = stage.simulator.customer("5491144440002", Addressing::Lid).await;
    stage.simulator.group(GROUP, &[&ana, &leo], more).await;
    (ana, leo)
}

async fn reasons(stage: &Stage) -> Vec<NoReplyReason> {
    let outcomes = stage.streams().await.outcomes().await;
    let reason = |ending| match ending {
        Some(Ending::None(none)) => Some(none.reason()),
        _ => None,
    };
    outcomes.iter().filter_map(|entry| reason(entry.outcome().result)).collect()
}

#[tokio::test]
async fn a_mention_and_a_reply_are_answered_with_a_quote_that_all_members_read() {
    let stage = Stage::plan().setting("GROUPS", "mention").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    for addressing in ["lid", "pn"] {
        let group = format!("12036300000000077{}@g.us", addressing.len());
        let ana =
            stage.simulator.customer(&format!("549114444{}1", addressing.len()), Addressing::Phone).await;
        let leo = stage.simulator.customer(&format!("549114444{}2", addressing.len()), Addressing::Lid).await;
        stage.simulator.group(&group, &[&ana, &leo], json!({"addressing": addressing})).await;
        let says = async |customer: &Customer, text: &str, context: wa::ContextInfo| {
            customer.write_with(json!({"raw": said(text, context), "through": group})).await
        };
        let own = [format!("{BUSINESS}@s.whatsapp.net"), format!("{}@lid", stage.simulator.lid().await)];
        // @all and a word to somebody else are not meant for the business.
        let everybody = wa::ContextInfo { non_jid_mentions: Some(1), ..Default::default() };
        says(&ana, "a todos", everybody).await;
        says(&leo, "a Ana", mention(&format!("{}@s.whatsapp.net", ana.phone()))).await;
        let first = says(&ana, "por número", mention(&own[0])).await;
        let answer = answers(&leo, 1).await.remove(0);
        assert_eq!(answer.text, "eco: por número");
        assert_eq!((&answer.more["about"], &answer.more["group"]), (&json!(first), &json!(group)));
        assert_eq!(answer.more["quoted"]["text"], "por número");
        let author = answer.more["quoted"]["author"].as_str().unwrap_or_default();
        let by_lid = format!("{}@lid", ana.lid().await);
        let by_number = format!("{}@s.whatsapp.net", ana.phone());
        assert_eq!(author, if addressing == "lid" { by_lid } else { by_number });

        says(&leo, "por id", mention(&own[1])).await;
        answers(&ana, 2).await;
        says(&leo, "respondo", quote(&answer.id, &own[1], &answer.text)).await;
        says(&ana, "sobre Leo", quote("3EB0FF", &format!("{}@lid", leo.lid().await), "hola")).await;
        for phone in [&ana, &leo] {
            let shown = answers(phone, 3).await;
            assert_eq!(texts(&shown), ["eco: por número", "eco: por id", "eco: respondo"]);
            assert!(shown.iter().all(|one| one.copies == 1));
        }
    }
    stage.streams().await.settled(12).await;
    assert_eq!(reasons(&stage).await, [NoReplyReason::NotMentioned; 6]);
    assert_eq!(stage.simulator.counter("group_retries").await, 0);
}

#[tokio::test]
async fn the_assistant_gets_the_person_and_the_group() {
    let stage = Stage::plan().setting("GROUPS", "all").setting("GROUPS_NAME", "on").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({"ephemeral_s": 86_400})).await;
    let hidden = stage.simulator.customer("5491144440003", Addressing::Hidden).await;
    stage.simulator.change_group(GROUP, json!({"by": ana.phone(), "add": [hidden.phone()]})).await;
    for (number, customer) in [&ana, &leo, &hidden].into_iter().enumerate() {
        says(customer, GROUP, "hola").await;
        let shown = answers(&ana, number + 1).await;
        assert_eq!(shown[number].text, "eco: Ana: hola");
        assert_eq!(shown[number].expires_s, Some(86_400));
    }
    let calls = stage.backend.calls().await;
    let from: Vec<_> = calls.iter().map(|call| call.from_number.clone().unwrap_or_default()).collect();
    assert_eq!(from, [ana.phone(), leo.phone(), &format!("lid-{}", hidden.lid().await)]);
    assert!(calls.iter().all(|call| call.customer_id.as_deref() == Some(CHAT)), "{calls:?}");
    // In a direct chat nothing is new.
    ana.write("a solas").await;
    let shown = answers(&ana, 4).await;
    assert_eq!(shown[3].text, "eco: a solas");
    assert_eq!(stage.backend.calls().await[3].customer_id, None);
}

#[tokio::test]
async fn groups_are_silent_unless_they_are_wanted_and_allowed_numbers_are_of_persons() {
    for (groups, allowed, want) in [
        ("off", "", [Some(NoReplyReason::NotDirect); 2]),
        ("all", "5491144440001", [None, Some(NoReplyReason::NotAllowed)]),
    ] {
        let stage = Stage::plan().setting("GROUPS", groups).setting("ALLOWED_NUMBERS", allowed).set().await;
        let _product = stage.product(Layout::OneProcess).await;
        let (ana, leo) = two(&stage, json!({})).await;
        says(&ana, GROUP, "uno").await;
        stage.streams().await.settled(1).await;
        says(&leo, GROUP, "dos").await;
        stage.streams().await.settled(2).await;
        assert_eq!(reasons(&stage).await, want.into_iter().flatten().collect::<Vec<_>>(), "{groups}");
    }
}

#[tokio::test]
async fn one_group_is_one_lane_and_others_do_not_wait_for_it() {
    let stage = Stage::plan().setting("GROUPS", "all").backend("BACKEND_GATE", "1").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({})).await;
    let other = "120363000000000882@g.us";
    stage.simulator.group(other, &[&ana, &leo], json!({})).await;
    says(&ana, GROUP, "uno").await;
    says(&leo, GROUP, "dos").await;
    says(&ana, other, "tres").await;
    leo.write("cuatro").await;
    stage.streams().await.received(4).await;
    // One of each chat: the second question of the group waits.
    eventually("three calls under way", PATIENCE, async || {
        let calls = stage.backend.calls().await.len();
        if calls == 3 { Ok(()) } else { Err(format!("{calls}")) }
    })
    .await;
    stage.backend.open().await;
    let shown = answers(&leo, 4).await;
    let in_group: Vec<_> = shown
        .iter()
        .filter(|one| one.more.get("group").is_some_and(|group| group == GROUP))
        .map(|one| one.text.as_str())
        .collect();
    assert_eq!(in_group, ["eco: uno", "eco: dos"]);
    stage.streams().await.settled(4).await;
}

#[tokio::test]
async fn an_edge_that_is_killed_around_an_answer_in_a_group_answers_once() {
    for point in ["edge.after-puback", "edge.before-send", "edge.after-send", "edge.before-ack"] {
        let stage = Stage::plan().setting("GROUPS", "all").set().await;
        let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
        let (ana, leo) = two(&stage, json!({})).await;
        product.edge.process.kill();
        let mut doomed = stage.start_with(Role::Edge, &[("CRASH_AT", point)]).await;
        let first = says(&ana, GROUP, "uno").await;
        doomed.process.end_by_kill(PATIENCE).await;
        let second = says(&leo, GROUP, "dos").await;
        let _successor = stage.start(Role::Edge).await;
        for phone in [&ana, &leo] {
            let shown = answers(phone, 2).await;
            assert_eq!(texts(&shown), ["eco: uno", "eco: dos"], "{point}");
            let about: Vec<_> = shown.iter().map(|one| one.more["about"].clone()).collect();
            assert_eq!(about, [json!(first), json!(second)], "{point}");
            assert!(shown.iter().all(|one| one.altered == 0), "{point}");
        }
        stage.streams().await.settled(2).await;
        assert_eq!(stage.streams().await.messages().await.len(), 2, "{point}");
    }
}

#[tokio::test]
async fn a_group_in_which_only_admins_write_is_not_answered() {
    let stage = Stage::plan().setting("GROUPS", "all").set().await;
    stage.logs.may_have(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.customer().await;
    let more = json!({"members": [BUSINESS], "admins": [ana.phone()], "announce": true});
    stage.simulator.group(GROUP, &[], more).await;
    // The first one may come before anything is known of the group: then the edge stops the answer.
    says(&ana, GROUP, "uno").await;
    let streams = stage.streams().await;
    streams.settled(1).await;
    eventually("the group to be known", PATIENCE, async || {
        let before = streams.outcomes().await.len();
        says(&ana, GROUP, "dos").await;
        streams.settled(before + 1).await;
        match reasons(&stage).await.last() {
            Some(NoReplyReason::AdminsOnly) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for failed in streams.failed_sends().await {
        assert_eq!(failed.reason, "announce-only");
    }
    let request = SendMessage {
        to: GROUP.into(),
        content: Some(send_message::Content::Text(SendText { body: "Hola".into(), ..Default::default() })),
        ..SendMessage::default()
    };
    streams.send_to(CHAT, "aviso-1", &request).await;
    eventually("a report", PATIENCE, async || {
        let failed = streams.failed_sends().await;
        let reported = failed.iter().any(|one| one.request_id == "aviso-1" && one.reason == "announce-only");
        if reported { Ok(()) } else { Err(format!("{failed:?}")) }
    })
    .await;
    stage.logs.expects(warning::NOT_TAKEN);
    // The business becomes an admin.
    stage.simulator.change_group(GROUP, json!({"by": ana.phone(), "promote": [BUSINESS]})).await;
    streams.updated(1).await;
    eventually("an answer", PATIENCE, async || {
        says(&ana, GROUP, "tres").await;
        let shown = answers(&ana, 0).await;
        if shown.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn changes_of_a_group_are_updates() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({})).await;
    let by = ana.phone();
    for change in [
        json!({"by": by, "subject": "Mesa 4"}),
        json!({"by": by, "remove": [leo.phone()]}),
        json!({"by": by, "add": [leo.phone()]}),
        json!({"by": by, "announce": true}),
        json!({"by": by, "ephemeral_s": 604_800}),
    ] {
        let before = stage.streams().await.updates().await.len();
        stage.simulator.change_group(GROUP, change).await;
        stage.streams().await.updated(before + 1).await;
    }
    let updates = stage.streams().await.updates().await;
    let mut told = Vec::new();
    for entry in &updates {
        let message = entry.inbound();
        assert_eq!((entry.chat(), message.chat_jid.as_str()), (CHAT, GROUP));
        assert_eq!(message.sender.unwrap_or_default().phone, ana.phone());
        let Some(Content::GroupChange(change)) = message.content else { panic!("no change") };
        told.push((change.action(), change));
    }
    let actions: Vec<_> = told.iter().map(|(action, _)| *action).collect();
    use GroupAction::{Added, AnnounceOn, Removed, Subject, Timer};
    assert_eq!(actions, [Subject, Removed, Added, AnnounceOn, Timer]);
    assert_eq!((told[0].1.subject.as_str(), told[4].1.seconds), ("Mesa 4", 604_800));
    assert_eq!(told[1].1.people[0].phone, leo.phone());
}

#[tokio::test]
async fn who_cannot_read_an_answer_gets_it_again_and_the_next_one_at_once() {
    let stage = Stage::plan().setting("GROUPS", "all").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({})).await;
    says(&ana, GROUP, "uno").await;
    answers(&leo, 1).await;
    leo.loses_keys(GROUP).await;
    says(&ana, GROUP, "dos").await;
    assert_eq!(texts(&answers(&leo, 2).await), ["eco: uno", "eco: dos"]);
    assert_eq!(stage.simulator.counter("group_resends").await, 1);
    says(&ana, GROUP, "tres").await;
    assert_eq!(texts(&answers(&leo, 3).await), ["eco: uno", "eco: dos", "eco: tres"]);
    assert_eq!(stage.simulator.counter("group_retries").await, 1, "the next one came with the key");
    assert_eq!(texts(&answers(&ana, 3).await), ["eco: uno", "eco: dos", "eco: tres"]);
}

#[tokio::test]
async fn what_is_sent_into_a_group_has_states_of_the_first_member_that_tells() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let reader = stage.simulator.reader("5491144440004").await;
    let silent = stage.simulator.customer("5491144440005", Addressing::Lid).await;
    stage.simulator.group(GROUP, &[&reader, &silent], json!({})).await;
    let streams = stage.streams().await;
    let text = send_message::Content::Text(SendText { body: "Hola a todos".into(), ..Default::default() });
    let request = SendMessage { to: GROUP.into(), content: Some(text), ..SendMessage::default() };
    streams.send_to(CHAT, "saludo-1", &request).await;
    for phone in [&reader, &silent] {
        assert_eq!(texts(&answers(phone, 1).await), ["Hola a todos"]);
    }
    // Receipts come in any order: what comes after `READ` says nothing new.
    let told = eventually("the reader's receipt", PATIENCE, async || {
        let told: Vec<_> = streams.receipts().await.iter().map(|one| (one.rank, one.status())).collect();
        let is_over = [1, 4].iter().all(|rank| told.iter().any(|(one, _)| one == rank));
        if is_over { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    use ReceiptStatus::{Accepted, Delivered, Read};
    let of = |status| told.iter().filter(|(_, one)| *one == status).count();
    assert_eq!((of(Accepted), of(Read)), (1, 1), "{told:?}");
    assert!(of(Delivered) <= 1, "of two members: {told:?}");
    // A reaction to what somebody else has written names its writer.
    let id = says(&silent, GROUP, "gracias").await;
    let author = format!("{}@lid", silent.lid().await);
    let target = Some(SendTarget { message_id: id.clone(), author, ..SendTarget::default() });
    let reaction = send_message::Content::Reaction(SendReaction { target, emoji: "👍".into() });
    let request = SendMessage { to: GROUP.into(), content: Some(reaction), ..SendMessage::default() };
    streams.send_to(CHAT, "reaccion-1", &request).await;
    let shown = answers(&reader, 2).await;
    assert_eq!((shown[1].kind.as_str(), &shown[1].more["about"]), ("reaction", &json!(id)));
    for receipt in streams.receipts().await {
        assert_eq!((receipt.chat.as_str(), receipt.request_id.is_empty()), (CHAT, false));
    }
}

#[tokio::test]
async fn what_the_owner_writes_in_a_group_is_no_question() {
    let stage = Stage::plan().setting("GROUPS", "all").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, _leo) = two(&stage, json!({})).await;
    let own = stage.simulator.owner_says(GROUP, "yo me ocupo").await;
    let streams = stage.streams().await;
    streams.settled(1).await;
    let message = streams.messages().await.remove(0).inbound();
    assert_eq!((message.message_id, message.from_me, message.chat.as_str()), (own, true, CHAT));
    assert_eq!(reasons(&stage).await, [NoReplyReason::FromMe]);
    says(&ana, GROUP, "gracias").await;
    // On Ana's phone, the owner's message and the answer are both of the business.
    assert_eq!(texts(&answers(&ana, 2).await), ["yo me ocupo", "eco: gracias"]);
}

/// The library takes a device whose key could not be made for one that has it.
#[tokio::test]
async fn a_member_whose_device_got_no_key_reads_as_soon_as_it_can() {
    let stage = Stage::plan().setting("GROUPS", "all").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({})).await;
    stage.simulator.fault("no_keys", None).await;
    says(&ana, GROUP, "uno").await;
    let id = answers(&ana, 1).await.remove(0).id;
    eventually("Leo's phone to ask for it", PATIENCE, async || {
        match stage.simulator.counter("group_retries").await {
            0 => Err("it has not".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(answers(&leo, 0).await.len(), 0, "there is no key for it");
    stage.simulator.no_faults().await;
    leo.asks_again_in(GROUP, &id).await;
    assert_eq!(texts(&answers(&leo, 1).await), ["eco: uno"]);
    let asked = stage.simulator.counter("group_retries").await;
    says(&ana, GROUP, "dos").await;
    assert_eq!(texts(&answers(&leo, 2).await), ["eco: uno", "eco: dos"]);
    assert_eq!(stage.simulator.counter("group_retries").await, asked, "the next one came with the key");
}

/// What it asks for is older than all that the edge keeps.
#[tokio::test]
async fn a_member_that_asks_too_late_gets_the_key_with_the_next_message() {
    let stage = Stage::plan().setting("GROUPS", "all").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({})).await;
    says(&ana, GROUP, "uno").await;
    answers(&leo, 1).await;
    leo.asks_again_in(GROUP, "3EB0000000000000000000").await;
    // The edge hears of it beside the messages, so the next one may be too early.
    let mut keys = Vec::new();
    while keys.last() != Some(&3) && keys.len() < 20 {
        let before = stage.simulator.counter("sender_keys").await;
        says(&ana, GROUP, "otra vez").await;
        answers(&leo, keys.len() + 2).await;
        // The business's own phone gets it each time.
        keys.push(stage.simulator.counter("sender_keys").await - before);
    }
    assert_eq!(keys.last(), Some(&3), "{keys:?}");
    stage.streams().await.settled(keys.len() + 1).await;
}

#[tokio::test]
async fn a_number_that_was_removed_from_a_group_gives_up_and_other_chats_go_on() {
    let stage = Stage::plan().setting("GROUPS", "all").backend("BACKEND_GATE", "1").set().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, leo) = two(&stage, json!({})).await;
    says(&ana, GROUP, "uno").await;
    let streams = stage.streams().await;
    streams.received(1).await;
    stage.simulator.change_group(GROUP, json!({"by": ana.phone(), "remove": [BUSINESS]})).await;
    streams.updated(1).await;
    stage.backend.open().await;
    let failed = eventually("a report", PATIENCE, async || {
        streams.failed_sends().await.pop().ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!((failed.chat.as_str(), failed.reason.as_str()), (CHAT, "refused-403"));
    leo.write("dos").await;
    assert_eq!(texts(&answers(&leo, 1).await), ["eco: dos"]);
    streams.settled(2).await;
}

/// The command names what a member has written by its author, and so does a service.
#[tokio::test]
async fn the_command_reacts_to_what_a_member_has_written_and_takes_it_back() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.customer().await;
    let luis = stage.simulator.customer("5491155550088", Addressing::Phone).await;
    stage.simulator.group(GROUP, &[&ana, &luis], json!({"admins": [BUSINESS]})).await;
    let id = says(&ana, GROUP, "hola").await;
    stage.streams().await.received(1).await;
    let author = format!("{}@lid", ana.lid().await.trim_end_matches("@lid"));
    let about = ["--to", GROUP, "--about", &id, "--author", &author, "--wait", "accepted"];

    for kind in [&["--kind", "reaction", "--text", "👍"][..], &["--kind", "revoke"]] {
        let (told, code) = stage.send_command(&[&about[..], kind].concat()).await;
        assert_eq!((&told["state"], code), (&json!("accepted"), 0), "{told}");
    }

    let shown: Vec<_> = answers(&luis, 2).await;
    let shown: Vec<_> =
        shown.iter().map(|one| (one.kind.as_str(), &one.more["about"], &one.more["about_own"])).collect();
    assert_eq!(shown, [("reaction", &json!(id), &json!(false)), ("revoke", &json!(id), &json!(false))]);
}
