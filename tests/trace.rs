//! One trace from the WhatsApp stanza to the sent reply, across every process.

use std::collections::BTreeSet;

use crate::support::oracle::{Evidence, Written, write_each};
use crate::support::{Layout, Stage, trace_id};

#[tokio::test]
async fn each_message_its_call_and_its_outcome_are_of_one_trace() {
    let stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-100").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911888", 8).await;

    let mut written = write_each(&customers, 1).await;
    written.extend(write_each(&customers, 2).await);

    let evidence = stage.evidence(written.len(), &customers).await;
    assert_one_trace_each(&evidence, &written);
}

/// After a reconnect the client library may hand messages over in the middle of somebody else's send.
#[tokio::test]
async fn messages_that_come_with_a_reconnect_have_traces_of_their_own() {
    let stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-100").set().await;
    stage.logs.may_have_broken_traffic();
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911999", 40).await;

    let mut written = write_each(&customers, 1).await;
    stage.streams().await.decided(10).await;
    stage.simulator.fault("drop_connection", Some(300)).await;
    written.extend(write_each(&customers, 2).await);

    let evidence = stage.evidence(written.len(), &customers).await;
    assert_one_trace_each(&evidence, &written);
}

fn assert_one_trace_each(evidence: &Evidence, written: &[Written]) {
    let mut traces = BTreeSet::new();
    for message in &evidence.messages {
        let id = message.inbound().message_id;
        let call = evidence.calls.iter().find(|call| call.message_id.as_ref() == Some(&id));
        let called = call.and_then(|call| call.traceparent.as_deref()).expect("a call with a traceparent");
        assert_eq!(trace_id(called), message.trace_id(), "the call is of another trace than the message");
        let outcome = evidence.outcome_of(message).expect("an outcome");
        assert_eq!(
            outcome.trace_id(),
            message.trace_id(),
            "the outcome is of another trace than the message"
        );
        traces.insert(message.trace_id());
    }
    assert_eq!(traces.len(), written.len(), "different messages must not share a trace");
}
