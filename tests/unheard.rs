//! The bus stores something, and its word for that never arrives: nobody who waits for it can tell whether
//! it was stored. Asking again tells, and so does whoever comes after a `kill -9`.

use crate::support::oracle::{Evidence, Written};
use crate::support::{
    Connector, Customer, Deaf, Layout, PATIENCE, Product, Role, Stage, Streams, eventually, warning,
};

/// A stage, the product with `role` on a line that loses words, and a customer.
struct Scene {
    stage: Stage,
    line: Deaf,
    deaf: Connector,
    _other: Connector,
    customer: Customer,
    streams: Streams,
}

impl Scene {
    async fn set(role: Role, settings: &[(&str, &str)], status: &str) -> Self {
        let mut plan = Stage::plan().backend("BACKEND_FAIL", status);
        for (name, value) in settings {
            plan = plan.setting(name, value);
        }
        let stage = plan.set().await;
        let Product { edge, mut forwarders } = stage.product(Layout::Split { forwarders: 1 }).await;
        let forwarder = forwarders.pop().expect("a forwarder");
        let (old, other) = if role == Role::Edge { (edge, forwarder) } else { (forwarder, edge) };
        old.stop().await;
        let line = Deaf::start(stage.settings()["NATS_URL"].as_str()).await;
        let mut deaf = stage.start_with(role, &[("NATS_URL", line.url())]).await;
        deaf.ready().await;
        let (customer, streams) = (stage.customer().await, stage.streams().await);
        Self { stage, line, deaf, _other: other, customer, streams }
    }

    /// Waits until `stream` has what `count` counts, and nobody has heard of it.
    async fn stored_unheard(&self, what: &str, count: impl AsyncFn() -> usize) {
        eventually(format!("{what}, unheard"), PATIENCE, async || {
            match (count().await, self.line.unheard()) {
                (1, 1..) => Ok(()),
                (stored, unheard) => Err(format!("{stored} stored, {unheard} unheard")),
            }
        })
        .await;
    }

    /// A second message goes the same way, and no promise is broken.
    async fn ends(&self, first: String, answer: &str) -> Evidence {
        let second = self.customer.write("segundo").await;
        self.customer.receives(2).await;
        let mut before = Written::echoed(self.customer.phone(), first, "primero");
        before.answer = Some(answer.to_owned());
        let written = [before, Written::echoed(self.customer.phone(), second, "segundo")];
        let evidence = self.stage.evidence(2, [&self.customer]).await;
        evidence.assert_kept(&written);
        evidence
    }
}

#[tokio::test]
async fn edge_killed_after_the_publish_with_the_puback_unheard() {
    let mut scene = Scene::set(Role::Edge, &[], "").await;
    scene.line.to(Some("WA_IN"));
    let first = scene.customer.write("primero").await;
    scene.stored_unheard("a message", async || scene.streams.messages().await.len()).await;
    assert_eq!(scene.stage.simulator.unreceived().await, 1, "WhatsApp was told that it is received");

    scene.deaf.process.kill();
    let _successor = scene.stage.start(Role::Edge).await;

    scene.ends(first, "eco: primero").await;
}

#[tokio::test]
async fn forwarder_killed_after_the_outcomes_publish_with_the_puback_unheard() {
    let mut scene = Scene::set(Role::Forwarder, &[], "").await;
    scene.line.to(Some("WA_OUT"));
    let first = scene.customer.write("primero").await;
    scene.stored_unheard("an outcome", async || scene.streams.outcomes().await.len()).await;

    scene.deaf.process.kill();
    let _successor = scene.stage.start(Role::Forwarder).await;

    let evidence = scene.ends(first.clone(), "eco: primero").await;
    assert_eq!(evidence.calls_of(&first), 1, "its outcome was there: {:?}", evidence.calls);
}

#[tokio::test]
async fn forwarder_killed_after_the_dead_letters_publish_with_the_puback_unheard() {
    let settings = [("FALLBACK_TEXT", "Ahora no puedo contestar.")];
    let mut scene = Scene::set(Role::Forwarder, &settings, "1:422").await;
    scene.stage.logs.expects(&warning::given_up("http-422"));
    scene.line.to(Some("WA_DLQ"));
    let first = scene.customer.write("primero").await;
    scene.stored_unheard("a dead letter", async || scene.streams.dead_letters().await.len()).await;
    assert_eq!(scene.streams.outcomes().await.len(), 0, "the copy comes first");

    scene.deaf.process.kill();
    let _successor = scene.stage.start(Role::Forwarder).await;
    scene.streams.decided(1).await;
    scene.stage.backend.kill();
    scene.stage.backend.set("BACKEND_FAIL", "");
    scene.stage.backend.restart().await;

    scene.ends(first, "Ahora no puedo contestar.").await;
    assert_eq!(scene.streams.dead_letters().await.len(), 1, "one copy, however often it was made");
}

/// Nobody dies: what is asked again was stored already, and is recognised.
#[tokio::test]
async fn a_puback_that_is_lost_is_asked_for_again() {
    for (role, stream) in [(Role::Edge, "WA_IN"), (Role::Forwarder, "WA_OUT")] {
        let scene = Scene::set(role, &[], "").await;
        scene.line.to(Some(stream));
        let first = scene.customer.write("primero").await;
        let stored = async || match role {
            Role::Edge => scene.streams.messages().await.len(),
            _ => scene.streams.outcomes().await.len(),
        };
        scene.stored_unheard(stream, stored).await;

        scene.line.to(None);

        let evidence = scene.ends(first.clone(), "eco: primero").await;
        assert_eq!(evidence.calls_of(&first), 1, "{:?}", evidence.calls);
    }
}
