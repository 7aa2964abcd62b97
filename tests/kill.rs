//! `kill -9` at every await that matters, and in the middle of traffic: one answer, nothing lost, in
//! order.

use crate::support::oracle::{Written, write_each};
use crate::support::{
    Connector, Customer, GATE, Layout, PATIENCE, Product, Role, Stage, eventually, warning,
};

/// Something that a process leaves behind that died at a crash point. It shows that the point is where its
/// name says.
#[derive(Debug, Clone, Copy)]
enum Left {
    /// So many messages that WhatsApp was not told to be received.
    WithWhatsApp(usize),
    /// So many messages in `WA_IN`.
    Stored(usize),
    /// So many calls of the backend.
    Called(usize),
    /// So many outcomes in `WA_OUT`.
    Decided(usize),
    /// So many messages on the customer's phone.
    Shown(usize),
}
use Left::{Called, Decided, Shown, Stored, WithWhatsApp};

/// A test per crash point: what its victim leaves (where others are still at work nobody can say), and
/// how often the backend is called for the message in all: twice only where the first answer is lost.
macro_rules! killed_at {
    ($($name:ident: $role:ident $point:literal leaves [$($left:expr),*], called $calls:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                killed_at(Role::$role, $point, &[$($left),*], $calls).await;
            }
        )*
    };
}

killed_at! {
    edge_killed_before_the_publish:
        Edge "edge.before-publish"
        leaves [WithWhatsApp(1), Stored(0), Called(0), Decided(0), Shown(0)], called 1;
    edge_killed_after_the_puback_before_whatsapps_ack:
        Edge "edge.after-puback"
        leaves [WithWhatsApp(1), Stored(1)], called 1;
    edge_killed_before_the_send:
        Edge "edge.before-send"
        leaves [Stored(1), Called(1), Decided(1), Shown(0)], called 1;
    edge_killed_after_the_send_before_the_bus_ack:
        Edge "edge.after-send"
        leaves [Stored(1), Called(1), Decided(1)], called 1;
    edge_killed_before_the_bus_ack_of_an_accepted_send:
        Edge "edge.before-ack"
        leaves [Stored(1), Called(1), Decided(1), Shown(1)], called 1;
    forwarder_killed_before_the_call:
        Forwarder "forwarder.before-call"
        leaves [Stored(1), Called(0), Decided(0)], called 1;
    forwarder_killed_after_the_call:
        Forwarder "forwarder.after-call"
        leaves [Stored(1), Called(1), Decided(0)], called 2;
    forwarder_killed_before_the_outcome:
        Forwarder "forwarder.before-outcome"
        leaves [Stored(1), Called(1), Decided(0)], called 2;
    forwarder_killed_after_the_outcome_before_the_ack:
        Forwarder "forwarder.after-outcome"
        leaves [Stored(1), Called(1), Decided(1)], called 1;
    forwarder_killed_before_the_ack:
        Forwarder "forwarder.before-ack"
        leaves [Stored(1), Called(1), Decided(1)], called 1;
}

/// The first message kills `role` at `point`; a second one comes while it is dead; a new process takes
/// over.
async fn killed_at(role: Role, point: &str, leaves: &[Left], calls: usize) {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let mut doomed = take_over(&stage, product, role, &[("CRASH_AT", point)]).await;
    let customer = stage.customer().await;

    let first = customer.write("primero").await;
    doomed.dying.process.end_by_kill(PATIENCE).await;
    for left in leaves {
        assert_left(&stage, &customer, *left).await;
    }
    let second = customer.write("segundo").await;
    let _successor = stage.start(role).await;

    let written = [
        Written::echoed(customer.phone(), first.clone(), "primero"),
        Written::echoed(customer.phone(), second, "segundo"),
    ];
    customer.receives(2).await;
    let evidence = stage.evidence(2, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls_of(&first), calls, "{:?}", evidence.calls);
}

/// The product, with one process that is going to die.
struct Doomed {
    dying: Connector,
    _other: Connector,
}

/// Replaces the process of `role` by one with `settings`.
async fn take_over(stage: &Stage, product: Product, role: Role, settings: &[(&str, &str)]) -> Doomed {
    let Product { edge, mut forwarders } = product;
    let forwarder = forwarders.pop().expect("a forwarder");
    let (old, other) = match role {
        Role::Forwarder => (forwarder, edge),
        Role::Edge | Role::Run => (edge, forwarder),
    };
    old.stop().await;
    let mut dying = stage.start_with(role, settings).await;
    dying.ready().await;
    Doomed { dying, _other: other }
}

async fn assert_left(stage: &Stage, customer: &Customer, left: Left) {
    let streams = stage.streams().await;
    let (want, found) = match left {
        WithWhatsApp(want) => (want, stage.simulator.unreceived().await),
        Stored(want) => (want, streams.messages().await.len()),
        Called(want) => (want, stage.backend.calls().await.len()),
        Decided(want) => (want, streams.outcomes().await.len()),
        Shown(want) => (want, customer.inbox().await.len()),
    };
    assert_eq!(found, want, "it died somewhere else: it was to leave {left:?}");
}

/// The dead letter's copy is stored, the outcome is not.
#[tokio::test]
async fn forwarder_killed_after_the_dead_letter() {
    let mut stage = Stage::plan()
        .backend("BACKEND_FAIL", "1:422")
        .setting("FALLBACK_TEXT", "Ahora no puedo contestar.")
        .set()
        .await;
    stage.logs.expects(&warning::given_up("http-422"));
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let mut doomed =
        take_over(&stage, product, Role::Forwarder, &[("CRASH_AT", "forwarder.after-dead-letter")]).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;

    let rejected = customer.write("esto no").await;
    doomed.dying.process.end_by_kill(PATIENCE).await;
    assert_eq!((streams.dead_letters().await.len(), streams.outcomes().await.len()), (1, 0));
    let _successor = stage.start(Role::Forwarder).await;
    streams.decided(1).await;
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "");
    stage.backend.restart().await;
    let accepted = customer.write("esto sí").await;

    let mut fallback = Written::echoed(customer.phone(), rejected, "");
    fallback.answer = Some("Ahora no puedo contestar.".to_owned());
    let written = [fallback, Written::echoed(customer.phone(), accepted, "esto sí")];
    customer.receives(2).await;
    stage.evidence(2, [&customer]).await.assert_kept(&written);
    assert_eq!(streams.dead_letters().await.len(), 1, "one copy, however often it was made");
}

/// The edge has told WhatsApp "received", and WhatsApp did not hear it: the message is answered long since
/// when it is handed over again, and nobody can decrypt it a second time.
#[tokio::test]
async fn edge_killed_after_an_ack_that_whatsapp_did_not_hear() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    stage.simulator.fault("mute_receipts", None).await;

    let first = customer.write("primero").await;
    customer.receives(1).await;
    product.edge.process.kill();
    assert_eq!(stage.simulator.unreceived().await, 1, "WhatsApp has heard it");
    stage.simulator.no_faults().await;
    let second = customer.write("segundo").await;
    let _successor = stage.start(Role::Edge).await;
    eventually("WhatsApp to hear it", PATIENCE, async || match stage.simulator.unreceived().await {
        0 => Ok(()),
        left => Err(format!("{left} are not received")),
    })
    .await;

    customer.receives(2).await;
    let written = [
        Written::echoed(customer.phone(), first.clone(), "primero"),
        Written::echoed(customer.phone(), second, "segundo"),
    ];
    let evidence = stage.evidence(2, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls_of(&first), 1, "{:?}", evidence.calls);
}

/// WhatsApp has refused an answer for good, and that is on the bus; the answer is not acknowledged there.
#[tokio::test]
async fn edge_killed_after_the_receipt_of_a_refusal() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let mut doomed = take_over(&stage, product, Role::Edge, &[("CRASH_AT", "edge.after-receipt")]).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    stage.simulator.fault("nack", None).await;

    let refused = customer.write("primero").await;
    doomed.dying.process.end_by_kill(PATIENCE).await;
    assert_eq!(streams.failed_sends().await.len(), 1, "it died before the receipt was stored");
    let _successor = stage.start(Role::Edge).await;
    eventually("the outcome to be acknowledged", PATIENCE, async || streams.left().await).await;
    stage.simulator.no_faults().await;
    let taken = customer.write("segundo").await;

    customer.receives(1).await;
    let mut first = Written::echoed(customer.phone(), refused, "primero");
    first.answer = None;
    let written = [first, Written::echoed(customer.phone(), taken, "segundo")];
    let broken = stage.evidence(2, [&customer]).await.violations(&written);
    assert_eq!(broken.len(), 1, "only that WhatsApp did not take what the backend answered: {broken:?}");
    assert_eq!(streams.failed_sends().await.len(), 1, "it was refused a second time under the same id");
}

/// Not a crash point but the real thing: the backend is working on the answer.
#[tokio::test]
async fn forwarder_killed_while_the_backend_works_on_the_answer() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;

    let first = customer.write("primero").await;
    let second = customer.write("segundo").await;
    stage.backend.under_way(1).await;
    product.forwarders[0].process.kill();
    stage.backend.open().await;
    assert_eq!(stage.streams().await.outcomes().await.len(), 0, "nobody heard the answer");
    let _successor = stage.start(Role::Forwarder).await;

    let written = [
        Written::echoed(customer.phone(), first.clone(), "primero"),
        Written::echoed(customer.phone(), second, "segundo"),
    ];
    customer.receives(2).await;
    let evidence = stage.evidence(2, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls_of(&first), 2, "the first call's answer is lost with the forwarder");
}

/// Of two forwarders one is killed; the other one takes over what it had in hand.
#[tokio::test]
async fn a_killed_forwarders_messages_go_to_the_other_one() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).set().await;
    let mut product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911333", 8).await;

    let mut written = write_each(&customers, 1).await;
    stage.backend.under_way(customers.len()).await;
    let calls = async |forwarder: &Connector| {
        let metrics = forwarder.metrics().await;
        let calling = metrics.lines().find_map(|line| line.strip_prefix("wa_turns{state=\"calling\"} "));
        calling.is_some_and(|count| count != "0")
    };
    // Nobody can say which of them has taken what.
    let doomed = usize::from(!calls(&product.forwarders[0]).await);
    product.forwarders[doomed].process.kill();
    written.extend(write_each(&customers, 2).await);
    stage.backend.open().await;

    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&written);
    assert!(evidence.calls.len() > written.len(), "it had nothing in hand: {:?}", evidence.calls);
}

/// The bus dies with answers and messages in the air, customers go on writing, and it comes back with
/// what was on its disk.
#[tokio::test]
async fn nats_server_killed_and_restarted_in_the_middle_of_traffic() {
    let mut stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-300").set().await;
    stage.logs.expects_an_outage_of_the_bus();
    let mut product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911333", 8).await;

    let mut written = write_each(&customers, 1).await;
    written.extend(write_each(&customers, 2).await);
    stage.streams().await.decided(4).await;
    stage.nats.kill();
    written.extend(write_each(&customers, 3).await);
    product.edge.not_ready("not-writable").await;
    stage.nats.restart().await;

    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&written);
    product.edge.ready().await;
}

/// What a customer writes turns the ratchet of both sides. The client library writes that to the disk a moment later
/// (here: never), and would answer before. So the edge has it written before it sends.
#[tokio::test]
async fn an_edge_killed_after_an_answer_goes_on_where_the_phone_is() {
    let stage = Stage::plan().set().await;
    assert_eq!(
        killed_after_an_answer(&stage, "write-behind").await,
        0,
        "each side can read the other at once"
    );
}

/// The same for what comes between that and the encryption: its ratchet is written before the frame leaves.
#[tokio::test]
async fn what_turns_the_ratchet_in_the_last_moment_is_on_the_disk_before_the_answer_leaves() {
    let stage = Stage::plan().set().await;
    let without = "write-behind,ratchet-first";
    assert_eq!(killed_after_an_answer(&stage, without).await, 0, "each side can read the other at once");
}

/// The control: nobody can read the next message. The phone then gives its keys, as phones do when they have asked for a
/// message once already, and the edge answers under a new session.
#[tokio::test]
async fn without_the_ratchet_on_the_disk_an_answer_can_only_be_read_when_it_comes_anew() {
    let stage = Stage::plan().set().await;
    // Which side is the first to see it depends on who speaks first.
    stage.logs.may_have("a message could not be decrypted; its sender is asked to send it again");
    let without = "write-behind,ratchet-first,frames-wait";
    assert!(killed_after_an_answer(&stage, without).await > 0, "the guards do nothing");
}

/// An edge dies when WhatsApp has its answer. Returns how often one side could not read the other after that.
async fn killed_after_an_answer(stage: &Stage, without: &str) -> u64 {
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut written = Vec::new();
    let write =
        async |text: &'static str| Written::echoed(customer.phone(), customer.write(text).await, text);
    written.push(write("primero").await);
    customer.receives(1).await;

    let settings = [("CRASH_AT", "edge.before-ack@3EB0AA03"), ("WITHOUT_GUARD", without)];
    let mut doomed = take_over(stage, product, Role::Edge, &settings).await;
    // The first answer of an edge writes everything, since no key may be used twice. The second one does not.
    written.push(write("segundo").await);
    customer.receives(2).await;
    customer.write_as("3EB0AA03", "tercero").await;
    written.push(Written::echoed(customer.phone(), "3EB0AA03".to_owned(), "tercero"));
    doomed.dying.process.end_by_kill(PATIENCE).await;
    let _successor = stage.start(Role::Edge).await;
    written.push(write("cuarto").await);
    customer.receives(4).await;
    stage.evidence(4, [&customer]).await.assert_kept(&written);
    stage.simulator.counter("undecryptable").await + stage.simulator.counter("retry_requests").await
}
