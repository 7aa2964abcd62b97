//! Other services have all kinds of messages sent, and what can never be sent is told with a code.

use prost::Message as _;
use serde_json::{Value, json};
use whatsapp_connector::wire::v1::inbound_message::Content as Inbound;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{
    PollVote, Receipt, ReceiptStatus, SendContact, SendContacts, SendEdit, SendLocation, SendMessage,
    SendPoll, SendQuoted, SendReaction, SendRevoke, SendTarget, SendText,
};
use whatsapp_connector::wire::{id, now_ms};

use crate::support::{
    Addressing, BUSINESS, Customer, Layout, PATIENCE, Received, Role, Stage, Streams, eventually, warning,
};

pub fn to(customer: &Customer, content: Content) -> SendMessage {
    SendMessage { to: customer.phone().to_owned(), content: Some(content), ..SendMessage::default() }
}

pub fn text(body: &str) -> Content {
    Content::Text(SendText { body: body.to_owned(), ..Default::default() })
}

fn by_request(id: &str) -> Option<SendTarget> {
    Some(SendTarget { request_id: id.to_owned(), ..SendTarget::default() })
}

fn poll(selectable: u32) -> Content {
    let options = vec!["hoy".to_owned(), "mañana".to_owned()];
    Content::Poll(SendPoll { question: "¿Cuándo?".to_owned(), options, selectable })
}

/// What the phone shows of each, in the order of the requests.
fn shown(inbox: &[Received]) -> Vec<Value> {
    let one = |received: &Received| {
        let mut shown = json!({"kind": received.kind, "text": received.text});
        let fields = ["about", "about_own", "quoted", "mentions", "choices", "at_degrees"];
        for field in fields.iter().filter(|field| received.more.contains_key(**field)) {
            shown[*field] = received.more[*field].clone();
        }
        shown
    };
    inbox.iter().map(one).collect()
}

#[tokio::test]
async fn every_kind_comes_to_the_phone_as_it_was_asked_for() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    let asked = customer.write("¿a qué hora?").await;
    customer.receives(1).await;

    let quoted = SendQuoted { text: "¿a qué hora?".to_owned(), ..SendQuoted::default() };
    let mentions = vec!["5491155550001".to_owned()];
    let answer = SendMessage {
        quoted_message_id: asked.clone(),
        quoted: Some(quoted),
        mentions,
        ..to(&customer, text("A las 21, con @5491155550001."))
    };
    let heart = SendReaction {
        target: Some(SendTarget { message_id: asked.clone(), ..SendTarget::default() }),
        emoji: "❤️".to_owned(),
    };
    let edit = SendEdit { target: by_request("answer"), body: "A las 22.".to_owned() };
    let place = SendLocation {
        latitude: -34.5,
        longitude: -58.25,
        name: "Restaurante".to_owned(),
        ..SendLocation::default()
    };
    let card = |name: &str| SendContact {
        display_name: name.to_owned(),
        phone: "5491155550001".to_owned(),
        ..SendContact::default()
    };
    let cards = |names: &[&str]| {
        Content::Contacts(SendContacts { contacts: names.iter().map(|name| card(name)).collect() })
    };
    let revoke = SendRevoke { target: by_request("answer") };
    for (id, request) in [
        ("answer", answer),
        ("heart", to(&customer, Content::Reaction(heart))),
        ("edit", to(&customer, Content::Edit(edit))),
        ("place", to(&customer, Content::Location(place))),
        ("card", to(&customer, cards(&["Luis"]))),
        ("cards", to(&customer, cards(&["Luis", "Marta"]))),
        ("poll", to(&customer, poll(1))),
        ("revoke", to(&customer, Content::Revoke(revoke))),
    ] {
        assert!(!streams.send(id, &request).await);
    }

    let inbox = customer.receives(9).await;
    let ids: Vec<_> = inbox[1..].iter().map(|received| received.id.clone()).collect();
    let requests = ["answer", "heart", "edit", "place", "card", "cards", "poll", "revoke"];
    assert_eq!(ids, requests.map(id::whatsapp), "the WhatsApp id derives from the request's");
    let vcard = |name: &str| {
        let card = format!("BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\n");
        json!({"id": card + "TEL;type=CELL;waid=5491155550001:+5491155550001\nEND:VCARD", "title": name})
    };
    let theirs = format!("{}@s.whatsapp.net", customer.phone());
    let target = id::whatsapp("answer");
    let wanted = [
        json!({"kind": "text", "text": "A las 21, con @5491155550001.", "about": asked,
            "quoted": {"author": theirs, "text": "¿a qué hora?"},
            "mentions": ["5491155550001@s.whatsapp.net"]}),
        json!({"kind": "reaction", "text": "❤️", "about": asked, "about_own": false}),
        json!({"kind": "edit", "text": "A las 22.", "about": target, "about_own": true}),
        json!({"kind": "location", "text": "Restaurante", "at_degrees": [-34.5, -58.25]}),
        json!({"kind": "contact", "text": "Luis", "choices": [vcard("Luis")]}),
        json!({"kind": "contacts", "text": "Luis", "choices": [vcard("Luis"), vcard("Marta")]}),
        json!({"kind": "poll", "text": "¿Cuándo?",
            "choices": [{"id": "1", "title": "hoy"}, {"id": "2", "title": "mañana"}]}),
        json!({"kind": "revoke", "text": "", "about": target, "about_own": true}),
    ];
    assert_eq!(shown(&inbox[1..]), wanted);
}

/// The votes on the bus, in their order.
async fn votes(streams: &Streams, count: usize) -> Vec<PollVote> {
    streams.updated(count).await;
    let vote = |content| match content {
        Some(Inbound::PollVote(vote)) => vote,
        other => panic!("no vote: {other:?}"),
    };
    streams.updates().await.into_iter().map(|entry| vote(entry.inbound().content)).collect()
}

fn picked(poll: &str, options: &[&str]) -> PollVote {
    PollVote {
        target_message_id: poll.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        decrypted: true,
        reason: String::new(),
    }
}

#[tokio::test]
async fn votes_on_our_polls_are_read_by_the_sort_of_address_that_the_voter_uses() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let streams = stage.streams().await;
    let ana = stage.simulator.customer("5491155550021", Addressing::Phone).await;
    let luis = stage.simulator.customer("5491155550022", Addressing::Lid).await;
    let mut wanted = Vec::new();
    for (customer, request) in [(&ana, "for-ana"), (&luis, "for-luis")] {
        streams.send(request, &to(customer, poll(0))).await;
        customer.receives(1).await;
        let poll = id::whatsapp(request);
        for options in [&["hoy", "mañana"][..], &[]] {
            customer.votes(&poll, options).await;
            wanted.push(picked(&poll, options));
            assert_eq!(votes(&streams, wanted.len()).await, wanted);
        }
    }
}

/// A poll is sent again under the same id, by an edge that knows nothing of the first time: with the same secret, or
/// the phone that has the first copy could vote and nobody could read it.
#[tokio::test]
async fn a_poll_that_is_sent_again_after_a_kill_has_the_same_secret() {
    let stage = Stage::plan().set().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    stage.simulator.fault("mute_acks", None).await;
    streams.send("poll-1", &to(&customer, poll(1))).await;
    customer.receives(1).await;
    product.edge.process.kill();
    stage.simulator.no_faults().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let copies = customer.receives_copies(2).await;
    assert_eq!((copies.len(), copies[0].altered), (1, 0), "a copy with another secret");
    let poll = id::whatsapp("poll-1");
    customer.votes(&poll, &["mañana"]).await;
    assert_eq!(votes(&streams, 1).await, [picked(&poll, &["mañana"])]);
}

/// The receipts of failures, once there are so many.
pub async fn failures(streams: &Streams, count: usize) -> Vec<Receipt> {
    eventually(format!("{count} failures"), PATIENCE, async || {
        let failed = streams.failed_sends().await;
        if failed.len() >= count { Ok(failed) } else { Err(format!("{failed:?}")) }
    })
    .await
}

#[tokio::test]
async fn what_can_never_be_sent_fails_with_a_code_and_the_chat_goes_on() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let long = "x".repeat(65_537);
    let nothing = Content::Revoke(SendRevoke::default());
    let far = SendLocation { latitude: 91.0, ..SendLocation::default() };
    let one = SendPoll { question: "¿?".to_owned(), options: vec!["sí".to_owned()], selectable: 0 };
    let word = SendReaction { target: by_request("a"), emoji: "ok".to_owned() };
    let quoted = Some(SendQuoted::default());
    let rows = [
        ("text-empty", to(&customer, text(" \n "))),
        ("text-too-long", to(&customer, text(&long))),
        ("target", to(&customer, nothing)),
        ("location", to(&customer, Content::Location(far))),
        ("contacts", to(&customer, Content::Contacts(SendContacts::default()))),
        ("poll", to(&customer, Content::Poll(one))),
        ("emoji", to(&customer, Content::Reaction(word))),
        ("quote", SendMessage { quoted, ..to(&customer, text("a")) }),
        ("mentions", SendMessage { mentions: vec!["Ana".to_owned()], ..to(&customer, text("@Ana")) }),
    ];
    for (code, request) in &rows {
        streams.send(code, request).await;
    }
    streams.send("good", &to(&customer, text("Hola"))).await;
    assert_eq!(customer.receives(1).await[0].text, "Hola");
    let failed: Vec<_> = failures(&streams, rows.len())
        .await
        .into_iter()
        .map(|receipt| (receipt.request_id, receipt.reason, receipt.detail, receipt.rank))
        .collect();
    let wanted = rows.map(|(code, _)| (code.to_owned(), "invalid-request".to_owned(), code.to_owned(), 2));
    assert_eq!(failed, wanted);
    assert_eq!(customer.inbox().await.len(), 1, "{BUSINESS} has sent what cannot be shown");
}

/// The states of one request, as they came: status, rank, and the message's WhatsApp id.
async fn states(streams: &Streams, request: &str, count: usize) -> Vec<(ReceiptStatus, u32, Vec<String>)> {
    eventually(format!("{count} states of {request}"), PATIENCE, async || {
        let told = streams.receipts().await.into_iter().filter(|receipt| receipt.request_id == request);
        let mut states: Vec<_> =
            told.map(|receipt| (receipt.status(), receipt.rank, receipt.message_ids)).collect();
        // They come in any order.
        states.sort_by_key(|(_, rank, _)| *rank);
        if states.len() >= count { Ok(states) } else { Err(format!("{states:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_request_and_an_answer_are_accepted_delivered_read_and_played_under_their_ids() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.reader("5491155550031").await;
    let streams = stage.streams().await;
    let known = streams.send("order-77", &to(&customer, text("Su mesa está lista."))).await;
    assert!(!known);
    let id = customer.receives(1).await[0].id.clone();
    let wanted = [(ReceiptStatus::Accepted, 1), (ReceiptStatus::Delivered, 3), (ReceiptStatus::Read, 4)];
    let wanted = |id: &str| wanted.map(|(status, rank)| (status, rank, vec![id.to_owned()]));
    assert_eq!(states(&streams, "order-77", 3).await, wanted(&id));

    customer.plays(&id).await;
    assert_eq!(states(&streams, "order-77", 4).await[3], (ReceiptStatus::Played, 5, vec![id]));

    customer.write("gracias").await;
    let answer = customer.receives(2).await[1].id.clone();
    let outcomes = streams.outcomes().await;
    let cause = outcomes[0].header("ce-id").expect("an id");
    assert_eq!(states(&streams, cause, 3).await, wanted(&answer));
    // The states are of one trace with what was sent.
    let accepted = streams.all_receipts().await.into_iter().find(|entry| {
        entry.receipt().request_id == cause && entry.receipt().status() == ReceiptStatus::Accepted
    });
    assert_eq!(accepted.expect("it is accepted").trace_id(), outcomes[0].trace_id());
    // The same request again is the same message, and its states are told once.
    assert!(streams.send("order-77", &to(&customer, text("Su mesa está lista."))).await);
    assert_eq!(customer.inbox().await.len(), 2);
}

/// A caller that dies waits for what the next edge tells.
#[tokio::test]
async fn an_edge_that_is_killed_before_it_told_that_whatsapp_has_a_message_leaves_that_to_the_next_one() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    product.edge.stop().await;
    let mut edge = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.before-ack")]).await;
    edge.ready().await;
    streams.send("order-77", &to(&customer, text("Su mesa está lista."))).await;
    edge.process.end_by_kill(PATIENCE).await;
    assert!(streams.receipts().await.iter().all(|told| told.status() != ReceiptStatus::Accepted));
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    // The phone's word may come first.
    eventually("the next edge to tell", PATIENCE, async || {
        let told = states(&streams, "order-77", 1).await;
        let is_told = told.iter().any(|(status, ..)| *status == ReceiptStatus::Accepted);
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(customer.inbox().await.len(), 1);
}

#[tokio::test]
async fn what_is_too_late_is_never_sent() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let until = |not_after_ms, words| SendMessage { not_after_ms, ..to(&customer, text(words)) };
    streams.send("past", &until(now_ms() - 1, "tarde")).await;
    streams.send("future", &until(now_ms() + 600_000, "a tiempo")).await;
    assert_eq!(customer.receives(1).await[0].text, "a tiempo");
    // It was in time when it came, and WhatsApp is away until it is too late.
    stage.logs.may_have("WhatsApp cannot be reached");
    stage.simulator.fault("drop_connection", Some(600_000)).await;
    product.edge.not_ready("offline").await;
    let deadline = now_ms() + 300;
    streams.send("waits", &until(deadline, "muy tarde")).await;
    eventually("the time to be over", PATIENCE, async || {
        if now_ms() > deadline { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    stage.simulator.no_faults().await;
    let failed = failures(&streams, 2).await;
    let told: Vec<_> = failed
        .iter()
        .map(|one| (one.request_id.as_str(), one.reason.as_str(), one.detail.as_str()))
        .collect();
    assert_eq!(told, [("past", "expired", ""), ("waits", "expired", "")]);
    assert_eq!(customer.inbox().await.len(), 1);
}

/// JetStream takes the reply subject of a publish for itself: who makes a request hears that it is stored, and where.
#[tokio::test]
async fn a_request_with_a_reply_subject_is_answered_with_its_place_in_the_stream() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let client = async_nats::connect(stage.nats.url()).await.expect("a connection");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "order-77");
    let payload = to(&customer, text("Hola")).encode_to_vec();
    let subject = format!("wa.out.default.send.{}", customer.phone());
    let answer = client.request_with_headers(subject, headers, payload.into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!((&answer["stream"], &answer["seq"]), (&json!("WA_OUT"), &json!(1)));
    assert_eq!(states(&streams, "order-77", 1).await[0].0, ReceiptStatus::Accepted);
}

#[tokio::test]
async fn the_command_sends_and_says_what_became_of_it() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let to = ["--to", customer.phone()];
    let sends = async |arguments: &[&str]| stage.send_command(&[&to[..], arguments].concat()).await;
    let id = id::whatsapp("order-77");
    let (told, code) =
        sends(&["--text", "Su mesa está lista.", "--id", "order-77", "--wait", "delivered"]).await;
    let wanted = json!({"id": "order-77", "whatsapp_id": id, "sequence": 1, "state": "delivered"});
    assert_eq!((told, code), (wanted, 0));
    // Once more: the same message, whose states were told before.
    let (told, code) =
        sends(&["--text", "Su mesa está lista.", "--id", "order-77", "--wait", "accepted"]).await;
    assert_eq!((&told["duplicate"], code), (&json!(true), 0));
    assert!(["accepted", "delivered"].contains(&told["state"].as_str().expect("a state")), "{told}");
    let (told, code) =
        sends(&["--kind", "poll", "--text", "¿?", "--option", "sí", "--wait", "accepted"]).await;
    assert_eq!(
        (&told["state"], &told["reason"], &told["detail"]),
        (&json!("failed"), &json!("invalid-request"), &json!("poll"))
    );
    assert_eq!(code, 1);
    let (told, code) = sends(&["--text", "¿Está ahí?", "--wait", "read", "--timeout", "0s"]).await;
    assert_ne!(told["state"], "read");
    assert_eq!(code, 1, "nobody has read it");
    let edit =
        ["--kind", "edit", "--about-request", "order-77", "--text", "Lo esperamos.", "--wait", "accepted"];
    assert_eq!(sends(&edit).await.1, 0);
    let (told, code) = sends(&["--text", "Chau"]).await;
    assert_eq!((&told["state"], code), (&json!("stored"), 0));
    let inbox = customer.receives(4).await;
    let texts: Vec<_> = inbox.iter().map(|received| received.text.as_str()).collect();
    assert_eq!(texts, ["Su mesa está lista.", "¿Está ahí?", "Lo esperamos.", "Chau"]);
}
