//! How fast the edge sends, and when it does not: what is over a rate is late and never lost, and a loop of
//! two bots is broken without touching anybody else.
//!
//! The stage of all other tests has these limits off; here each test sets its own.

use std::time::{Duration, Instant};

use whatsapp_connector::wire::v1::SessionState;

use crate::support::heart::Watch;
use crate::support::oracle::{Written, write_each};
use crate::support::{Customer, Layout, PATIENCE, Role, Stage, Streams, eventually, warning};

#[tokio::test]
async fn a_burst_in_one_chat_is_late_but_complete_and_in_order_and_nobody_else_waits() {
    const BURST: usize = 6;
    const AT_ONCE: usize = 3;
    let stage = Stage::plan().setting("SEND_PER_CHAT", "3/1h").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911880", 2).await;
    let (hasty, calm) = (&customers[0], &customers[1]);

    let mut written = write_many(hasty, BURST).await;
    let streams = stage.streams().await;
    streams.decided(BURST).await;
    written.extend(write_each(&customers[1..], 1).await);
    calm.receives(1).await;
    hasty.receives(AT_ONCE).await;
    eventually("the rest of the burst to wait", PATIENCE, async || {
        let found = streams.in_the_edges_hand().await;
        if found == BURST - AT_ONCE { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
    assert_eq!(hasty.inbox().await.len(), AT_ONCE, "more than the rate allows");

    product.edge.stop().await;
    let start = Instant::now();
    let _faster = stage.start_with(Role::Edge, &[("SEND_PER_CHAT", "3/9s")]).await;
    written.extend(write_many(hasty, BURST - AT_ONCE).await);
    hasty.receives(2 * BURST - AT_ONCE).await;

    // Three at once, and one each three seconds.
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(8), "six answers within {took:?} are more than 3/9s");
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// As many chats wait for tokens of their own as may be sent to at once.
#[tokio::test]
async fn chats_that_wait_for_their_own_tokens_take_no_place_from_others() {
    const PLACES: usize = 64;
    let stage = Stage::plan().setting("SEND_PER_CHAT", "1/1h").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911883", PLACES + 1).await;
    let (hasty, calm) = customers.split_at(PLACES);

    for number in [1, 2] {
        write_each(hasty, number).await;
    }
    let streams = stage.streams().await;
    streams.decided(2 * PLACES).await;
    eventually("every second answer to wait", PATIENCE, async || {
        let found = streams.in_the_edges_hand().await;
        if found == PLACES { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
    write_each(calm, 1).await;

    calm[0].receives(1).await;
    assert!(streams.in_the_edges_hand().await >= PLACES, "the others still wait");
}

/// One answer waits for its chat's token, and one for everybody's: both are given back at once.
#[tokio::test]
async fn a_stop_while_answers_wait_for_their_turn_is_quick_and_loses_none() {
    let stage = Stage::plan().setting("SEND_PER_CHAT", "1/1h").setting("SEND_TOTAL", "2/1h").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911881", 3).await;
    let (first_two, third) = customers.split_at(2);

    let mut written = write_each(first_two, 1).await;
    for customer in first_two {
        customer.receives(1).await;
    }
    written.extend(write_each(first_two, 2).await);
    written.extend(write_each(third, 1).await);
    let streams = stage.streams().await;
    streams.decided(written.len()).await;
    eventually("three answers to wait in the edge's hand", PATIENCE, async || {
        let found = streams.in_the_edges_hand().await;
        if found == 3 { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
    let stopping = Watch::start();
    product.edge.stop().await;
    stopping.within(Duration::from_secs(10), "a stop with nothing under way").await;
    let _successor = stage.start_with(Role::Edge, &[("SEND_PER_CHAT", "off"), ("SEND_TOTAL", "off")]).await;

    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&written);
    let copies = evidence.inboxes.values().flatten().map(|entry| entry.copies);
    assert_eq!(copies.max(), Some(1), "what waited had not been sent");
}

#[tokio::test]
async fn a_chat_that_loops_is_not_answered_until_it_has_slowed_down() {
    const LIMIT: usize = 3;
    const LOOP: usize = 7;
    let stage = Stage::plan().setting("LOOP_LIMIT", "3/6s").set().await;
    stage.logs.expects("a chat writes faster than LOOP_LIMIT");
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911882", 2).await;
    let (bot, person) = (&customers[0], &customers[1]);
    let streams = stage.streams().await;

    write_many(bot, LOOP).await;
    streams.settled(LOOP).await;
    person.write("¿hola?").await;
    person.receives(1).await;

    assert_eq!(bot.inbox().await.len(), LIMIT, "it goes on turning");
    let suppressed = streams.failed_sends().await;
    let outcomes = streams.outcomes().await;
    let over: Vec<_> = outcomes.iter().filter(|entry| entry.chat() == bot.phone()).skip(LIMIT).collect();
    assert_eq!(suppressed.len(), LOOP - LIMIT, "one receipt for each answer that was not sent");
    for (receipt, outcome) in suppressed.iter().zip(over) {
        assert_eq!((receipt.chat.as_str(), receipt.reason.as_str()), (bot.phone(), "loop-limit"));
        assert_eq!(Some(receipt.request_id.as_str()), outcome.header("ce-id"));
    }
    assert_eq!(told(&streams).await, [bot.phone()], "one event for the episode");
    let (status, _) = product.edge.readiness().await.expect("an answer");
    assert_eq!(status, 200, "the link is as it was");
    let log = product.edge.process.stderr();
    assert!(!log.contains(bot.phone()), "its number is in the log");

    // Slower than the limit, whatever was suppressed before.
    let recovered = eventually("the chat to be answered again", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        bot.write("¿sigue ahí?").await;
        let inbox = bot.inbox().await;
        if inbox.len() > LIMIT { Ok(inbox) } else { Err(format!("{} answers", inbox.len())) }
    })
    .await;
    assert_eq!(recovered[LIMIT].text, "eco: ¿sigue ahí?");
    assert_eq!(told(&streams).await.len(), 1);
}

/// All its answers leave within a moment, but they were asked for slowly.
#[tokio::test]
async fn a_backlog_after_an_outage_is_no_loop() {
    const MANY: usize = 6;
    let mut stage = Stage::plan().setting("LOOP_LIMIT", "2/2s").set().await;
    stage.logs.expects(&warning::held("unreachable"));
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    stage.backend.kill();

    let mut written = Vec::new();
    for number in 0..MANY {
        let text = format!("{number}");
        written.push(Written::echoed(customer.phone(), customer.write(&text).await, &text));
        // From one message's end to the next one's beginning: never faster, however slow the machine is.
        tokio::time::sleep(Duration::from_millis(1_600)).await;
    }
    product.forwarders[0].not_ready("unreachable").await;
    assert!(customer.inbox().await.is_empty(), "there was no outage");
    stage.backend.restart().await;

    customer.receives(MANY).await;
    stage.evidence(MANY, [&customer]).await.assert_kept(&written);
    let streams = stage.streams().await;
    assert!(streams.failed_sends().await.is_empty());
    assert!(told(&streams).await.is_empty());
}

/// As fast as the customer can.
async fn write_many(customer: &Customer, count: usize) -> Vec<Written> {
    let mut written = Vec::new();
    for number in 0..count {
        let text = format!("{number}");
        written.push(Written::echoed(customer.phone(), customer.write(&text).await, &text));
    }
    written
}

/// The chats that the session's events say are in a loop. None of them says that the link has changed.
async fn told(streams: &Streams) -> Vec<String> {
    let events = streams.session_events().await;
    let told = events.into_iter().filter(|event| event.code == "loop-broken");
    told.map(|event| {
        assert_eq!(event.state(), SessionState::Online);
        event.chat
    })
    .collect()
}
