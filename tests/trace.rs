//! One trace from the WhatsApp stanza to the sent reply, across every process.

use std::collections::BTreeSet;

use crate::support::{Layout, Stage, trace_id};

#[tokio::test]
async fn message_call_and_outcome_are_of_one_trace() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("uno").await;
    customer.write("dos").await;
    customer.receives(2).await;

    let evidence = stage.evidence(2, [&customer]).await;

    let mut traces = BTreeSet::new();
    for (message, outcome) in evidence.messages.iter().zip(&evidence.outcomes) {
        let id = message.inbound().message_id;
        let call = evidence.calls.iter().find(|call| call.message_id.as_ref() == Some(&id)).expect("a call");
        let called = call.traceparent.as_deref().unwrap_or_else(|| panic!("the call has no traceparent"));
        assert_eq!(trace_id(called), message.trace_id(), "the call is of another trace than the message");
        assert_eq!(
            outcome.trace_id(),
            message.trace_id(),
            "the outcome is of another trace than the message"
        );
        traces.insert(message.trace_id());
    }
    assert_eq!(traces.len(), 2, "each message has a trace of its own");
}
