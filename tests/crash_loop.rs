//! A message that kills every forwarder that touches it is given up on by its tenth delivery, and nothing
//! else is: not what was in the air at the same moments, not what was given back or held however often.

use whatsapp_connector::wire::v1::DeadReason;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::oracle::{Written, write_each};
use crate::support::{Connector, GATE, Layout, PATIENCE, Product, Role, Stage, eventually, warning};

const FALLBACK: &str = "Ahora no puedo contestar.";
/// One more than a message that kills gets.
const OFTEN: usize = 11;

#[tokio::test]
async fn a_message_that_kills_each_forwarder_is_given_up_on_by_its_tenth_delivery_and_no_other_is() {
    let stage = Stage::plan()
        // Longer than a life: those that are begun before the one that kills are there at each death.
        .backend("BACKEND_DELAY_MS", "1500")
        .setting("FORWARDER_ACK_WAIT", "1s")
        .setting("FALLBACK_TEXT", FALLBACK)
        .set()
        .await;
    stage.logs.expects(&warning::given_up("deaths-"));
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let others = stage.customers("54911666", 5).await;
    let streams = stage.streams().await;
    let mut written = write_each(&others, 1).await;
    streams.received(others.len()).await;
    let poison = customer.write("veneno").await;
    let next = customer.write("y esto?").await;
    streams.received(others.len() + 2).await;
    let place =
        streams.messages().await.iter().find(|entry| entry.inbound().message_id == poison).unwrap().sequence;

    let crash_at = format!("forwarder.before-call@{poison}");
    let doomed = async || stage.start_with(Role::Forwarder, &[("CRASH_AT", &crash_at)]).await;
    let mut forwarder = doomed().await;
    let mut deaths = 0;
    while died(&mut forwarder, &stage).await {
        deaths += 1;
        assert!(deaths < 10, "it is given up on by its tenth delivery");
        let counted = streams.deaths().await;
        let innocent = counted.iter().filter(|(sequence, _)| **sequence != place).map(|(_, deaths)| *deaths);
        assert!(innocent.max().unwrap_or(0) <= 5, "{place} kills, and not the others: {counted:?}");
        if deaths <= 3 {
            written.extend(write_each(&others, 1 + deaths).await);
        }
        forwarder = doomed().await;
    }
    assert_eq!(deaths, 9, "so often it is tried");

    let mut fallback = Written::unanswered(customer.phone(), poison.clone());
    fallback.answer = Some(FALLBACK.to_owned());
    written.extend([fallback, Written::echoed(customer.phone(), next, "y esto?")]);
    customer.receives(2).await;
    let mut everybody = others;
    everybody.push(customer);
    let evidence = stage.evidence(written.len(), &everybody).await;
    evidence.assert_kept(&written);
    let letters = streams.dead_letters().await;
    let found: Vec<_> =
        letters.iter().map(|letter| (letter.inbound().message_id, letter.header("Wa-Dead-Reason"))).collect();
    assert_eq!(found, [(poison, Some("crash-loop"))]);
    let dead = evidence.outcomes.iter().filter_map(|entry| match entry.outcome().result {
        Some(Ending::Dead(dead)) => Some(dead.reason()),
        _ => None,
    });
    assert_eq!(dead.collect::<Vec<_>>(), [DeadReason::CrashLoop]);
    let listed = stage.output(&["dlq", "list", "--reason", "crash-loop"]).await;
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

/// The control: the same message without the count goes on killing.
#[tokio::test]
async fn without_the_count_a_message_goes_on_killing() {
    let stage = Stage::plan()
        .setting("FORWARDER_ACK_WAIT", "1s")
        .setting("WITHOUT_GUARD", "attempts")
        .setting("CRASH_AT", "forwarder.before-call")
        .set()
        .await;
    let _edge = edge_only(&stage).await;
    stage.customer().await.write("veneno").await;

    for _ in 0..OFTEN {
        let mut forwarder = stage.start(Role::Forwarder).await;
        assert!(died(&mut forwarder, &stage).await, "it was given up on");
    }
}

/// Each stop finds the call under way, and gives the message back: no fault of its own.
#[tokio::test]
async fn a_message_that_is_given_back_again_and_again_is_answered_in_the_end() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting("SHUTDOWN_GRACE", "1s").set().await;
    stage.logs.expects(warning::GIVEN_BACK);
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let id = customer.write("¿hola?").await;

    for round in 1..=OFTEN {
        let forwarder = stage.start(Role::Forwarder).await;
        eventually(format!("call {round}"), PATIENCE, async || match stage.backend.calls().await.len() {
            calls if calls == round => Ok(()),
            calls => Err(calls.to_string()),
        })
        .await;
        forwarder.stop().await;
    }
    stage.backend.open().await;
    let _forwarder = stage.start(Role::Forwarder).await;

    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "¿hola?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
    assert_eq!(stage.streams().await.dead_letters().await.len(), 0);
}

/// An outage in which forwarders are killed, not stopped: what is held is not being worked on.
#[tokio::test]
async fn a_message_that_is_held_while_forwarders_are_killed_is_answered_in_the_end() {
    let mut stage = Stage::plan().setting("FORWARDER_ACK_WAIT", "1s").set().await;
    stage.logs.expects(&warning::held("unreachable"));
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    stage.backend.kill();
    let id = customer.write("¿hay alguien?").await;

    for _ in 0..OFTEN {
        let mut forwarder = stage.start(Role::Forwarder).await;
        forwarder.not_ready("unreachable").await;
        forwarder.process.kill();
    }
    stage.backend.restart().await;
    let _forwarder = stage.start(Role::Forwarder).await;

    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "¿hay alguien?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
    assert_eq!(stage.streams().await.dead_letters().await.len(), 0);
}

/// The edge alone, linked; the streams' and the consumer's maker has gone again.
async fn edge_only(stage: &Stage) -> Connector {
    let Product { edge, .. } = stage.product(Layout::Split { forwarders: 0 }).await;
    edge
}

/// Waits until the forwarder is killed; says `false` if the message is given up on instead.
async fn died(forwarder: &mut Connector, stage: &Stage) -> bool {
    let streams = stage.streams().await;
    eventually("a death or a dead letter", PATIENCE, async || {
        if forwarder.process.ended().is_some() {
            forwarder.process.end_by_kill(PATIENCE).await;
            return Ok(true);
        }
        match streams.dead_letters().await.len() {
            0 => Err("neither".to_owned()),
            _ => Ok(false),
        }
    })
    .await
}
