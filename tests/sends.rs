//! Other services have all kinds of messages sent, and what can never be sent is told with a code.

use serde_json::{Value, json};
use whatsapp_connector::wire::id;
use whatsapp_connector::wire::v1::inbound_message::Content as Inbound;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{
    PollVote, Receipt, SendContact, SendContacts, SendEdit, SendLocation, SendMessage, SendPoll, SendQuoted,
    SendReaction, SendRevoke, SendTarget, SendText,
};

use crate::support::{
    Addressing, BUSINESS, Customer, Layout, PATIENCE, Received, Role, Stage, Streams, eventually, warning,
};

fn to(customer: &Customer, content: Content) -> SendMessage {
    SendMessage { to: customer.phone().to_owned(), content: Some(content), ..SendMessage::default() }
}

fn text(body: &str) -> Content {
    Content::Text(SendText { body: body.to_owned() })
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
    let copies = eventually("the poll to be sent again", PATIENCE, async || {
        let inbox = customer.inbox().await;
        if inbox[0].copies > 1 { Ok(inbox) } else { Err(format!("{inbox:?}")) }
    })
    .await;
    assert_eq!((copies.len(), copies[0].altered), (1, 0), "a copy with another secret");
    let poll = id::whatsapp("poll-1");
    customer.votes(&poll, &["mañana"]).await;
    assert_eq!(votes(&streams, 1).await, [picked(&poll, &["mañana"])]);
}

/// The receipts of failures, once there are so many.
async fn failures(streams: &Streams, count: usize) -> Vec<Receipt> {
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
