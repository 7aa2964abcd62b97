//! A connection to the backend that nobody has used for a while is left before the backend closes it.

use std::time::Duration;

use crate::support::{Answer, Layout, Question, Stage, Unwell};

/// gunicorn closes an idle connection after two seconds, without a word.
const IDLE: Duration = Duration::from_millis(1_800);
/// A customer's pause that is a little longer.
const PAUSE: Duration = Duration::from_millis(2_000);

/// A call that goes over such a connection while it is being closed has no answer. It would be made again, after a
/// warning that this test does not announce.
#[tokio::test]
async fn calls_a_little_further_apart_than_the_backend_keeps_connections_all_succeed() {
    let echo = |question: &Question| Answer::text(&format!("eco: {}", question.text));
    let backend = Unwell::start_with(IDLE, echo).await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    for count in 1..=3 {
        customer.write("Hola").await;
        customer.receives(count).await;
        tokio::time::sleep(PAUSE).await;
    }
}
