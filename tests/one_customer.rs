//! A refusal is everybody's matter only if everybody is refused. And a message that was heard is not asked about again.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{
    Addressing, Answer, Customer, Layout, PATIENCE, Question, Stage, Unwell, eventually, warning,
};

/// Whom the backend refuses.
const REFUSED: &str = "5491177700000";
/// Everybody else is answered within this.
const NOT_HELD_UP: Duration = Duration::from_secs(2);

/// The backend refuses one customer in this way, and echoes to the others.
fn refusing(answer: impl Fn() -> Answer + Send + 'static) -> impl Fn(&Question) -> Answer + Send + 'static {
    move |question| if question.from_number == REFUSED { answer() } else { echo(question) }
}

fn echo(question: &Question) -> Answer {
    Answer::text(&format!("eco: {}", question.text))
}

async fn refused_one(stage: &Stage) -> Customer {
    stage.simulator.customer(REFUSED, Addressing::Phone).await
}

/// With nothing beside them: what they promise is a matter of two seconds.
mod alone {
    use super::*;

    /// Nobody was answered before, so the first refusal holds everything, until somebody else writes.
    #[tokio::test]
    #[ignore = "its time counts: `make test-rust` runs it with nothing beside it"]
    async fn a_customer_who_is_refused_alone_holds_nobody_up_and_is_given_up_on() {
        let too_many = || Answer::head(429, &[("Retry-After", "1"), ("Content-Length", "0")]);
        let backend = Unwell::start(refusing(too_many)).await;
        let stage = Stage::plan()
            .setting("BACKEND_URL", backend.url())
            .setting("BACKEND_RETRY_FOR", "5s")
            .set()
            .await;
        stage.logs.expects(&warning::held("http-429"));
        stage.logs.expects(&warning::retried("http-429"));
        stage.logs.expects(&warning::given_up("http-429"));
        let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
        let refused = refused_one(&stage).await;
        refused.write("¿hola?").await;
        product.forwarders[0].not_ready("http-429").await;

        let others = stage.customers("54911888", 5).await;
        for other in &others {
            let asked = Watch::start();
            other.write("hola").await;
            other.receives(1).await;
            asked.within(NOT_HELD_UP, "an answer beside a customer who is refused").await;
        }
        product.forwarders[0].ready().await;
        let streams = stage.streams().await;
        streams.decided(others.len() + 1).await;
        let letters = streams.dead_letters().await;
        assert_eq!(letters.iter().map(|letter| letter.chat()).collect::<Vec<_>>(), [REFUSED]);
        // What it asked for is honoured once it was found to be this customer's own.
        let asked: Vec<_> = backend.asked().into_iter().filter(|one| one.from_number == REFUSED).collect();
        let pauses = asked.windows(2).map(|pair| pair[1].at - pair[0].at);
        let early = pauses.skip(1).filter(|pause| *pause < Duration::from_millis(900)).count();
        assert!(early <= 1, "{asked:?}");

        // The next message of the same customer holds nobody up from the start.
        let held = product.forwarders[0].metrics().await;
        assert!(held.contains("\nwa_backend_held 0\n"), "{held}");
        refused.write("¿y ahora?").await;
        backend.set(echo);
        refused.receives(1).await;
    }
}

/// However much the refused one writes, and although only one call is made at a time.
#[tokio::test]
async fn a_flood_of_a_refused_customer_keeps_nobody_waiting() {
    const FLOOD: usize = 1_100;
    let backend = Unwell::start(refusing(|| Answer::new(403, ""))).await;
    let stage =
        Stage::plan().setting("BACKEND_URL", backend.url()).setting("BACKEND_CONCURRENCY", "1").set().await;
    stage.logs.expects(&warning::held("http-403"));
    stage.logs.expects(&warning::retried("http-403"));
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let refused = refused_one(&stage).await;
    for number in 0..FLOOD {
        refused.write(&format!("{number}")).await;
    }
    stage.streams().await.received(FLOOD).await;
    product.forwarders[0].not_ready("http-403").await;

    let customer = stage.customer().await;
    for number in 1..=3 {
        let asked = Watch::start();
        customer.write("hola").await;
        customer.receives(number).await;
        asked.within(Duration::from_secs(4), "an answer behind a flood that is refused").await;
    }
    product.forwarders[0].ready().await;
}

/// A proxy that has no backend says so with a page, for longer than any message is retried.
#[tokio::test]
async fn a_proxy_without_a_backend_is_an_outage() {
    let page = "<html><h1>Bad Gateway</h1></html>";
    let backend = Unwell::start(move |_| Answer::new(502, page)).await;
    let stage =
        Stage::plan().setting("BACKEND_URL", backend.url()).setting("BACKEND_RETRY_FOR", "1s").set().await;
    stage.logs.expects(&warning::held("http-502"));
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911888", 3).await;
    let written: Vec<_> = join_all(
        customers
            .iter()
            .map(async |customer| Written::echoed(customer.phone(), customer.write("hola").await, "hola")),
    )
    .await;
    product.forwarders[0].not_ready("http-502").await;
    for (number, status) in [521, 522, 523, 525, 526, 530].into_iter().enumerate() {
        let before = backend.asked().len();
        backend.set(move |_| Answer::new(status, page));
        eventually("one more probe", PATIENCE, async || match backend.asked().len() {
            asked if asked > before + 1 => Ok(()),
            asked => Err(format!("{asked} of {before}, {number}")),
        })
        .await;
    }
    assert_eq!(stage.streams().await.outcomes().await.len(), 0, "nothing is decided");
    backend.set(echo);

    join_all(customers.iter().map(|customer| customer.receives(1))).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    assert_eq!(stage.streams().await.dead_letters().await.len(), 0);
    product.forwarders[0].ready().await;
}

#[tokio::test]
async fn a_retry_after_may_be_a_date() {
    let backend = Unwell::start(|_| {
        let until = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(5));
        Answer::head(503, &[("Retry-After", &until), ("Content-Length", "0")])
    })
    .await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).set().await;
    stage.logs.expects(&warning::held("http-503"));
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;

    let asked = eventually("a second call", PATIENCE, async || match backend.asked() {
        asked if asked.len() >= 2 => Ok(asked),
        asked => Err(format!("{asked:?}")),
    })
    .await;

    // Dates are whole seconds.
    assert!(asked[1].at - asked[0].at > Duration::from_secs(3), "{asked:?}");
    backend.set(echo);
    customer.receives(1).await;
}

/// Each is one call, and no dead letter.
#[tokio::test]
async fn every_2xx_is_heard() {
    const JSON: &str = r#"{"response_text":"Hola"}"#;
    let answers = [
        (201, JSON, true),
        (203, JSON, true),
        (200, "", false),
        (201, "", false),
        (202, "", false),
        (202, "accepted", false),
        (202, r#"{"job_id":"7"}"#, false),
        (200, r#"{"response_text":null}"#, false),
    ];
    let backend = Unwell::start(move |question| {
        let number: usize = question.from_number.trim_start_matches("54911888").parse().expect("a number");
        match answers.get(number) {
            Some((status, body, _)) => Answer::new(*status, body),
            None => Answer::head(204, &[]),
        }
    })
    .await;
    let stage =
        Stage::plan().setting("BACKEND_URL", backend.url()).setting("BACKEND_RETRY_FOR", "1s").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911888", answers.len() + 1).await;
    join_all(customers.iter().map(|customer| customer.write("hola"))).await;

    let streams = stage.streams().await;
    streams.decided(customers.len()).await;
    let outcomes = streams.outcomes().await;
    for (number, customer) in customers.iter().enumerate() {
        let is_answer = answers.get(number).is_some_and(|(_, _, is_answer)| *is_answer);
        let outcome = outcomes.iter().find(|entry| entry.chat() == customer.phone()).expect("an outcome");
        match outcome.outcome().result {
            Some(Ending::Reply(reply)) if is_answer => assert_eq!(reply.text, "Hola"),
            Some(Ending::None(_)) if !is_answer => {}
            other => panic!("{number}: {other:?}"),
        }
        assert_eq!(backend.asked_by(customer.phone()), 1, "{number}");
    }
}
