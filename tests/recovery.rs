//! What a backend that is away or fails costs those whom it does not concern, and how fast everybody goes on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{
    Answer, Customer, Layout, PATIENCE, Question, Role, Stage, Unwell, eventually, warning,
};

/// How many chats wait.
const CHATS: usize = 120;
/// The first one that waits.
const FIRST: &str = "5491199900000";
/// How long the backend takes for its refusals: two of them at a time would be seen.
const SLOWLY: Duration = Duration::from_millis(200);
/// How soon after the backend's return the last of them is asked.
const FULL_SPEED: Duration = Duration::from_secs(2);

/// With nothing beside them: what they promise is a matter of two seconds.
mod alone {
    use super::*;

    /// Three seconds of failing would be the end of a message here. The backend is away for longer than that, and
    /// the first message fails once before and once after.
    #[tokio::test]
    #[ignore = "its time counts: `make test-rust` runs it with nothing beside it"]
    async fn an_outage_longer_than_every_retry_uses_nothing_up_and_ends_at_once() {
        let failing_once = |then: fn(&Question) -> Answer| {
            let failed = AtomicBool::new(false);
            move |question: &Question| {
                let fails = question.from_number == FIRST && !failed.swap(true, Ordering::Relaxed);
                if fails { Answer::new(500, "") } else { then(question) }
            }
        };
        let backend = Unwell::start(failing_once(|_| Answer::new(503, "").after(SLOWLY))).await;
        let stage = Stage::plan()
            .setting("BACKEND_URL", backend.url())
            .setting("BACKEND_RETRY_FOR", "3s")
            .set()
            .await;
        stage.logs.expects(&warning::held("http-503"));
        stage.logs.expects(&warning::retried("http-500"));
        let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
        let customers = stage.customers("54911999", CHATS).await;
        let began = Instant::now();
        assert_eq!(customers[0].phone(), FIRST);
        let mut written = vec![write(&customers[0]).await];
        product.forwarders[0].not_ready("http-503").await;
        let before = backend.asked().len();

        written.extend(join_all(customers[1..].iter().map(write)).await);
        let streams = stage.streams().await;
        streams.received(CHATS).await;
        let probes = eventually("five seconds of outage and some probes", PATIENCE, async || {
            let probes = backend.asked().split_off(before);
            let enough = probes.len() >= 3 && began.elapsed() > Duration::from_secs(5);
            if enough { Ok(probes) } else { Err(format!("{probes:?}")) }
        })
        .await;
        assert!(probes.iter().all(|probe| probe.at_once == 1), "one probe at a time: {probes:?}");
        assert_eq!(streams.outcomes().await.len(), 0, "nothing is decided while nobody can be asked");
        let (back, returned) = (Watch::start(), Instant::now());
        backend.set(failing_once(echo));

        eventually("every chat to be asked about", PATIENCE, async || {
            let since = backend.asked().into_iter().filter(|asked| asked.at > returned);
            let chats: BTreeSet<String> = since.map(|asked| asked.from_number).collect();
            if chats.len() == CHATS { Ok(()) } else { Err(format!("{}", chats.len())) }
        })
        .await;
        let last = back.took().await;

        eprintln!("{CHATS} chats wait: the last is asked about {last} after the backend's return");
        let evidence = stage.evidence(CHATS, &customers).await;
        evidence.assert_kept(&written);
        assert_eq!(streams.dead_letters().await.len(), 0);
        product.forwarders[0].ready().await;
        assert!(last.own() < FULL_SPEED, "the last chat was asked about {last} after the backend's return");
    }
}

/// One call at a time, and many chats whose calls hang: one that is asked about for the first time does
/// not stand behind all of their retries.
#[tokio::test]
async fn first_attempts_do_not_starve_behind_retries() {
    const FAILING: usize = 10;
    let backend = Unwell::start(|question| {
        if question.from_number.starts_with("54911222") {
            Answer::raw("").then_hang()
        } else {
            echo(question)
        }
    })
    .await;
    let stage = Stage::plan()
        .setting("BACKEND_URL", backend.url())
        .setting("BACKEND_CONCURRENCY", "1")
        .setting("BACKEND_TIMEOUT", "1s")
        .set()
        .await;
    stage.logs.expects(&warning::retried("timeout"));
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let failing = stage.customers("54911222", FAILING).await;
    let mut written = join_all(failing.iter().map(write)).await;
    let healthy = stage.customer().await;
    eventually("everybody to be tried again", PATIENCE, async || {
        let asked: Vec<_> = failing.iter().map(|customer| backend.asked_by(customer.phone())).collect();
        if asked.iter().all(|asked| *asked > 1) { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;

    for number in 1..=3 {
        let asked = Watch::start();
        written.push(write(&healthy).await);
        healthy.receives(number).await;
        let waited = asked.took().await;
        eprintln!("a first attempt among {FAILING} failing chats is answered after {waited}");
        assert!(waited.own() < Duration::from_secs(5), "a first attempt waited {waited}");
    }

    backend.set(echo);
    let evidence = stage.evidence(written.len(), failing.iter().chain([&healthy])).await;
    evidence.assert_kept(&written);
    let at_once = backend.asked().iter().map(|asked| asked.at_once).max();
    assert!(at_once <= Some(2), "one call at a time, and one that it gave up on a moment ago: {at_once:?}");
}

async fn write(customer: &Customer) -> Written {
    Written::echoed(customer.phone(), customer.write("hola").await, "hola")
}

fn echo(question: &Question) -> Answer {
    Answer::text(&format!("eco: {}", question.text))
}

/// `kill -9` while one message waits for the backend's return, and the next one for its turn.
#[tokio::test]
async fn forwarder_killed_while_messages_wait() {
    let backend = Unwell::start(|_| Answer::new(500, "")).await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).set().await;
    stage.logs.expects(&warning::retried("http-500"));
    stage.logs.expects(&warning::held("http-503"));
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let written = [write(&customer).await, write(&customer).await];
    stage.streams().await.received(2).await;
    eventually("a retry", PATIENCE, async || match backend.asked().len() {
        asked @ 0..2 => Err(format!("{asked}")),
        _ => Ok(()),
    })
    .await;
    backend.set(|_| Answer::new(503, ""));
    product.forwarders[0].not_ready("http-503").await;

    product.forwarders[0].process.kill();
    assert_eq!(stage.streams().await.outcomes().await.len(), 0, "nothing is decided");
    backend.set(echo);
    let _successor = stage.start(Role::Forwarder).await;

    customer.receives(2).await;
    stage.evidence(2, [&customer]).await.assert_kept(&written);
}
