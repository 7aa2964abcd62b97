//! `TYPING`: who waits for an answer sees the assistant typing, and never for longer than somebody works on it.

use std::time::Duration;

use serde_json::json;
use whatsapp_connector::wire::TypingNote;

use crate::nats_accounts::Account;
use crate::nats_security::rounds;
use crate::support::heart::Watch;
use crate::support::{
    Addressing, Answer, Customer, GATE, Layout, PATIENCE, Role, Stage, Unwell, eventually, warning,
};

/// With a backend that answers when it is told to.
async fn gated() -> Stage {
    Stage::plan().backend(GATE.0, GATE.1).set().await
}

fn states(typed: &[crate::support::Typed]) -> Vec<&str> {
    typed.iter().map(|typed| typed.state.as_str()).collect()
}

/// Answered and told of to the end: nothing of it can follow.
async fn is_quiet(stage: &Stage, messages: usize, customer: &Customer, shown: &[&str]) {
    stage.streams().await.settled(messages).await;
    // Whoever types next is shown after all that came before.
    let probe = stage.simulator.customer("5491199998888", Addressing::Phone).await;
    let note = TypingNote {
        in_seq: 1_000_000,
        chat_jid: format!("{}@s.whatsapp.net", probe.phone()),
        until_ms: whatsapp_connector::wire::now_ms() + 60_000,
    };
    says(stage, probe.phone(), &note.to_bytes()).await;
    probe.is_shown(&["composing"]).await;
    assert_eq!(states(&customer.typed().await), shown);
}

/// What a forwarder would say.
async fn says(stage: &Stage, chat: &str, note: &[u8]) {
    let client = async_nats::connect(stage.nats.url()).await.expect("a connection");
    client.publish(format!("wa.live.default.typing.{chat}"), note.to_vec().into()).await.expect("said");
    client.flush().await.expect("flushed");
}

#[tokio::test]
async fn who_waits_sees_the_assistant_typing_until_the_answer_is_there() {
    for layout in [Layout::OneProcess, Layout::Split { forwarders: 2 }] {
        let stage = gated().await;
        let _product = stage.product(layout).await;
        let customer = stage.customer().await;
        customer.write("hola").await;
        customer.is_shown(&["composing"]).await;
        stage.backend.open().await;
        customer.receives(1).await;
        let watch = Watch::start();
        customer.is_shown(&["composing", "paused"]).await;
        watch.within(Duration::from_secs(3), "the end of the typing after the answer").await;
        is_quiet(&stage, 1, &customer, &["composing", "paused"]).await;
    }
}

/// Phones forget it after some 25 seconds.
#[tokio::test]
async fn a_long_wait_is_shown_again_and_again() {
    let stage = gated().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    let shown = customer.is_shown(&["composing", "composing", "composing"]).await;
    for pair in shown.windows(2) {
        let apart = pair[1].at_ms - pair[0].at_ms;
        assert!((8_500..15_000).contains(&apart), "{apart} ms");
    }
    stage.backend.open().await;
    customer.is_shown(&["composing", "paused"]).await;
}

#[tokio::test]
async fn the_end_without_a_word_is_shown_as_well() {
    let unwell = Unwell::start(|_| Answer::new(200, "{}").after(Duration::from_secs(2))).await;
    let stage = Stage::plan().setting("BACKEND_URL", unwell.url()).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.is_shown(&["composing", "paused"]).await;
    is_quiet(&stage, 1, &customer, &["composing", "paused"]).await;
    assert!(customer.inbox().await.is_empty());
}

/// Between two attempts nobody works on it.
#[tokio::test]
async fn a_message_that_only_waits_is_not_typed_for() {
    let unwell = Unwell::start(|_| Answer::new(500, "no").after(Duration::from_secs(1))).await;
    let stage =
        Stage::plan().setting("BACKEND_URL", unwell.url()).setting("BACKEND_RETRY_FOR", "1s").set().await;
    stage.logs.expects(&warning::retried("http-500"));
    stage.logs.expects(&warning::given_up("http-500"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    let shown = customer.is_shown(&["composing", "paused", "composing", "paused"]).await;
    assert!(shown.len() >= 4);
    stage.streams().await.settled(1).await;
    assert_eq!(states(&customer.typed().await).last(), Some(&"paused"));
}

#[tokio::test]
async fn a_killed_forwarders_typing_ends_in_time() {
    let stage = gated().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    let first = customer.is_shown(&["composing"]).await;
    product.forwarders[0].process.kill();
    let shown = eventually("the end", PATIENCE, async || {
        let shown = customer.typed().await;
        if shown.last().is_some_and(|last| last.state == "paused") {
            Ok(shown)
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await;
    let lasted = shown.last().expect("it").at_ms - first[0].at_ms;
    assert!(lasted < 45_000, "{lasted} ms");
}

#[tokio::test]
async fn what_was_shown_is_taken_back_after_a_loss_of_the_connection() {
    let stage = gated().await;
    stage.logs.may_have_broken_traffic();
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.is_shown(&["composing"]).await;
    stage.simulator.fault("drop_connection", Some(3_000)).await;
    product.edge.not_ready("offline").await;
    stage.backend.open().await;
    eventually("the outcome", PATIENCE, async || match stage.streams().await.outcomes().await.len() {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    product.edge.ready().await;
    customer.receives(1).await;
    customer.is_shown(&["paused"]).await;
}

#[tokio::test]
async fn an_edge_that_stops_takes_it_back() {
    let stage = gated().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.is_shown(&["composing"]).await;
    product.edge.stop().await;
    assert_eq!(states(&customer.typed().await), ["composing", "paused"]);
    // The next edge hears of it from the forwarder that still has it in hand.
    let mut next = stage.start(Role::Edge).await;
    next.ready().await;
    customer.is_shown(&["composing"]).await;
    stage.backend.open().await;
    customer.receives(1).await;
    customer.is_shown(&["paused"]).await;
}

#[tokio::test]
async fn nobody_is_seen_typing_in_shadow_or_if_it_is_off() {
    for (name, value) in [("BACKEND_MODE", "shadow"), ("TYPING", "off")] {
        let stage = Stage::plan().backend(GATE.0, GATE.1).setting(name, value).set().await;
        stage.logs.may_have(warning::SHADOW);
        let _product = stage.product(Layout::OneProcess).await;
        let client = async_nats::connect(stage.nats.url()).await.expect("a connection");
        let mut said = client.subscribe("wa.live.*.typing.*").await.expect("heard");
        client.flush().await.expect("flushed");
        let customer = stage.customer().await;
        customer.write("hola").await;
        stage.backend.under_way(1).await;
        stage.backend.open().await;
        stage.streams().await.settled(1).await;
        // All that was said has come before this.
        client.publish("wa.live.default.typing.end", "".into()).await.expect("said");
        let first = futures::StreamExt::next(&mut said).await.expect("something");
        assert_eq!(first.subject.as_str(), "wa.live.default.typing.end");
        assert!(customer.typed().await.is_empty());
    }
}

#[tokio::test]
async fn in_a_group_the_group_sees_it_when_it_is_answered_there() {
    const GROUP: &str = "120363000000000991@g.us";
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting("GROUPS", "mention").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.simulator.customer("5491144440001", Addressing::Phone).await;
    let leo = stage.simulator.customer("5491144440002", Addressing::Lid).await;
    stage.simulator.group(GROUP, &[&ana, &leo], json!({})).await;
    ana.write_with(json!({"text": "a nadie", "through": GROUP})).await;
    let own = format!("{}@s.whatsapp.net", crate::support::BUSINESS);
    let raw = crate::groups::said("¿y tú?", crate::groups::mention(&own));
    leo.write_with(json!({"raw": raw, "through": GROUP})).await;
    for phone in [&ana, &leo] {
        let shown = phone.is_shown(&["composing"]).await;
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].group.as_deref(), Some(GROUP));
    }
    stage.backend.open().await;
    ana.is_shown(&["composing", "paused"]).await;
}

/// What anybody says there may be anything.
#[tokio::test]
async fn hostile_notes_cost_nobody_a_message() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let client = async_nats::connect(stage.nats.url()).await.expect("a connection");
    for number in 0..20_000_u64 {
        let chat = format!("5491{number:09}");
        let note = match number % 4 {
            0 => {
                TypingNote { in_seq: number, chat_jid: format!("{chat}@s.whatsapp.net"), until_ms: i64::MAX }
                    .to_bytes()
            }
            1 => TypingNote { in_seq: u64::MAX, chat_jid: "status@broadcast".into(), until_ms: i64::MAX }
                .to_bytes(),
            2 => TypingNote { in_seq: 0, chat_jid: "@@".into(), until_ms: i64::MIN }.to_bytes(),
            _ => vec![0xff; 2_000],
        };
        client.publish(format!("wa.live.default.typing.{chat}"), note.into()).await.expect("said");
    }
    client.flush().await.expect("flushed");
    let watch = Watch::start();
    customer.write("hola").await;
    customer.receives(1).await;
    watch.within(Duration::from_secs(5), "an answer beside a flood").await;
    let counted = product.edge.metrics().await;
    assert!(counted.contains("wa_courtesies_total"), "{counted}");
}

/// The users of an earlier version.
#[tokio::test]
async fn without_the_permission_nobody_is_seen_typing_and_everything_else_works() {
    let account = Account::with(|accounts| {
        let before =
            accounts.replace("\"wa.live.default.typing.*\"", "").replace("\"wa.live.*.typing.*\"", "");
        assert_ne!(before, accounts);
        before
    });
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    stage.logs.expects("nats-server refuses that this edge hears when the assistant types");
    stage.logs.expects("nats-server refuses that people see the assistant typing");
    account.output(&stage, &["provision"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let mut forwarder = account.start(&stage, Role::Forwarder).await;
    forwarder.ready().await;
    let customers = stage.customers("54911998", 2).await;
    let written = rounds(&customers, 1..=2).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    for process in [&edge.process, &forwarder.process] {
        let said = process.stderr();
        let refused = said.lines().filter(|line| line.contains("nats-server refuses")).count();
        assert_eq!(refused, 1, "{said}");
    }
}
