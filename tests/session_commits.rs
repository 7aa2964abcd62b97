//! What a message costs the session's store while many come: one transaction is shared.

use futures::future::join_all;

use crate::session_on_bus::KEY;
use crate::support::{Connector, Layout, PATIENCE, Role, Stage, eventually};

/// So many people, and so many messages of each.
const PEOPLE: usize = 100;
const EACH: usize = 5;

/// The sum of what the edge has counted under this name.
async fn counted(edge: &Connector, name: &str) -> usize {
    let metrics = edge.metrics().await;
    let counts = metrics.lines().filter(|line| line.starts_with(name)).map(|line| line.rsplit(' ').next());
    counts.map(|count| count.and_then(|count| count.parse::<usize>().ok()).unwrap_or_default()).sum()
}

/// With FULL sync in a file, and on the bus. Each message has a copy and the copy's end: two, if each were written alone.
#[tokio::test]
async fn while_many_messages_come_each_costs_less_than_one_transaction() {
    for own in [&[][..], &[("SESSION_STORE", "nats"), ("SESSION_KEY", KEY), ("SESSION_UNSAFE_SYNC", "on")]] {
        let plan = own.iter().fold(Stage::plan(), |plan, (name, value)| plan.setting(name, value));
        let stage = plan.set().await;
        let product = stage.product(Layout::Split { forwarders: 1 }).await;
        let people = stage.customers("54911900", PEOPLE).await;
        // The first message of each makes a Signal session.
        join_all(people.iter().map(|person| person.write("hola"))).await;
        join_all(people.iter().map(|person| person.receives(1))).await;
        product.edge.stop().await;
        for forwarder in product.forwarders {
            forwarder.stop().await;
        }
        for number in 0..EACH {
            let text = number.to_string();
            join_all(people.iter().map(|person| person.write(&text))).await;
        }
        // All of them come at once, and nobody answers: answers come as the backend gives them.
        let (edge, messages) = (stage.start(Role::Edge).await, PEOPLE * EACH);
        eventually("all messages", PATIENCE, async || {
            let came = counted(&edge, "wa_messages_total{direction=\"in\"").await;
            if came == messages { Ok(()) } else { Err(came.to_string()) }
        })
        .await;
        let took = counted(&edge, "wa_session_commits_total").await;
        println!("{took} transactions for {messages} messages: {:.2} each", took as f64 / messages as f64);
        assert!((1..messages).contains(&took), "{took} transactions for {messages} messages");
    }
}
