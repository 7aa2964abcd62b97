//! `REPLY_FORMAT=markdown`: what a model writes is what a phone shows, and what is on the bus is what is sent.

use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::oracle::Written;
use crate::support::{Layout, Stage};

#[tokio::test]
async fn markdown_comes_to_the_phone_in_whatsapps_own_marks() {
    let stage = Stage::plan().setting("REPLY_FORMAT", "markdown").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let written = "**Menú** de [hoy](https://a.example)\n* pan\n* ~~vino~~";
    let shown = "eco: *Menú* de hoy (https://a.example)\n\n- pan\n- ~vino~";
    let id = customer.write(written).await;
    customer.receives(1).await;
    let evidence = stage.evidence(1, [&customer]).await;
    let answer = Some(shown.to_owned());
    evidence.assert_kept(&[Written { answer, ..Written::unanswered(customer.phone(), id) }]);
    let Some(Ending::Reply(reply)) = evidence.outcomes[0].outcome().result else { panic!("no reply") };
    assert_eq!(reply.text, shown);
}
