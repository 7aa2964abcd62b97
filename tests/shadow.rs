//! `BACKEND_MODE=shadow`: everything runs as ever, and nobody gets anything.

use async_nats::HeaderMap;
use prost::Message as _;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{DeadReason, NoReplyReason, SendMessage, SendText, send_message};

use crate::support::oracle::{Evidence, Written};
use crate::support::{Layout, Role, Stage, warning};

const SHADOW: (&str, &str) = ("BACKEND_MODE", "shadow");

/// What would have been the answers, in the order of their outcomes.
fn would_be(evidence: &Evidence) -> Vec<String> {
    let texts = evidence.outcomes.iter().map(|entry| match entry.outcome().result {
        Some(Ending::None(none)) => {
            assert_eq!(none.reason(), NoReplyReason::Shadow);
            none.would_be.map(|reply| reply.text).unwrap_or_default()
        }
        other => panic!("no outcome of shadow: {other:?}"),
    });
    texts.collect()
}

#[tokio::test]
async fn in_shadow_the_backend_is_called_in_order_and_nobody_gets_an_answer() {
    let stage = Stage::plan().setting(SHADOW.0, SHADOW.1).set().await;
    stage.logs.expects(warning::SHADOW);
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let texts = ["uno", "dos", "tres"];

    let mut written = Vec::new();
    for text in texts {
        written.push(Written::unanswered(customer.phone(), customer.write(text).await));
    }

    let evidence = stage.evidence(3, [&customer]).await;
    evidence.assert_kept(&written);
    let called: Vec<_> = evidence.calls.iter().filter_map(|call| call.message_id.clone()).collect();
    let wrote: Vec<_> = written.iter().map(|one| one.id.clone()).collect();
    assert_eq!(called, wrote, "once each, in order");
    assert_eq!(would_be(&evidence), texts.map(|text| format!("eco: {text}")));
    let states: Vec<_> = customer.sent().await.into_iter().map(|sent| sent.status).collect();
    assert_eq!(states, ["delivered"; 3], "the edge has got them, and nobody has read them");

    let forwarder = &product.forwarders[0];
    let log = forwarder.process.stderr();
    assert!(log.contains("shadow: nobody gets an answer"), "{log}");
    let counted = forwarder.metrics().await;
    assert!(counted.contains("wa_outcomes_total{class=\"none\",reason=\"shadow\"} 3"), "{counted}");
    let (status, said) = forwarder.readiness().await.expect("readiness");
    assert_eq!((status, said["notes"][0]["code"].as_str()), (200, Some("shadow")), "{said}");

    // What other services want to have sent goes out, which also shows that this phone would show an answer.
    let text =
        send_message::Content::Text(SendText { body: "Su mesa está lista.".into(), ..Default::default() });
    let request = SendMessage { to: customer.phone().into(), content: Some(text), ..SendMessage::default() };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "table-1");
    let subject = format!("wa.out.default.send.{}", customer.phone());
    let streams = stage.streams().await;
    let sent = streams.jetstream().publish_with_headers(subject, headers, request.encode_to_vec().into());
    sent.await.expect("a publish").await.expect("a PubAck");
    assert_eq!(customer.receives(1).await[0].text, "Su mesa está lista.");
}

#[tokio::test]
async fn in_shadow_a_dead_letter_has_its_copy_and_nobody_gets_a_word() {
    let stage = Stage::plan()
        .backend("BACKEND_FAIL", "1:422")
        .setting(SHADOW.0, SHADOW.1)
        .setting("FALLBACK_TEXT", "Ahora no puedo contestar.")
        .set()
        .await;
    stage.logs.expects(warning::SHADOW);
    stage.logs.expects(&warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let written = [Written::unanswered(customer.phone(), customer.write("esto no").await)];

    let evidence = stage.evidence(1, [&customer]).await;
    evidence.assert_kept(&written);
    match evidence.outcomes[0].outcome().result {
        Some(Ending::Dead(dead)) => {
            assert_eq!((dead.reason(), dead.fallback_text.as_str()), (DeadReason::Rejected, ""));
        }
        other => panic!("not given up on: {other:?}"),
    }
    assert_eq!(stage.streams().await.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn what_was_decided_in_shadow_stays_silent_after_the_switch() {
    let mut stage = Stage::plan().setting(SHADOW.0, SHADOW.1).set().await;
    stage.logs.expects(warning::SHADOW);
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let mut written = Vec::new();
    for text in ["uno", "dos"] {
        written.push(Written::unanswered(customer.phone(), customer.write(text).await));
    }
    would_be(&stage.evidence(2, [&customer]).await);
    product.edge.stop().await;

    stage.set("BACKEND_MODE", "answer");
    let mut again = stage.start(Role::Run).await;
    again.ready().await;
    written.push(Written::echoed(customer.phone(), customer.write("tres").await, "tres"));

    customer.receives(1).await;
    stage.evidence(3, [&customer]).await.assert_kept(&written);
    let (_, said) = again.readiness().await.expect("readiness");
    assert!(said["notes"].is_null(), "{said}");
}
