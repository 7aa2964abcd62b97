//! Many accounts on a few edges without a disk: edges take accounts, give them back, and go on with each other's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{SendMedia, SendMediaKind, SendMessage};

use crate::sends_files::{bytes, put};
use crate::session_on_bus::KEY;
use crate::support::heart::{Watch, stalled, stalls, unix_seconds};
use crate::support::oracle::Written;
use crate::support::shops::{Shop, names};
use crate::support::{Connector, Customer, PATIENCE, Plan, Role, Stage, eventually, warning};

/// The accounts that an edge has, and the state of each.
async fn has(edge: &Connector) -> BTreeMap<String, String> {
    let metrics = edge.metrics().await;
    let online = |line: &str| {
        let rest = line.strip_prefix("wa_link_state{account=\"")?;
        let (account, rest) = rest.split_once("\",state=\"")?;
        let (state, value) = rest.split_once("\"} ")?;
        (value == "1").then(|| (account.to_owned(), state.to_owned()))
    };
    metrics.lines().filter_map(online).collect()
}

/// Waits until an edge has so many accounts, and all are online.
async fn has_online(edge: &Connector, count: usize) -> Vec<String> {
    eventually(format!("an edge with {count} accounts online"), PATIENCE, async || {
        let has = has(edge).await;
        let is_so = has.len() == count && has.values().all(|state| state == "online");
        if is_so { Ok(has.into_keys().collect()) } else { Err(format!("{has:?}")) }
    })
    .await
}

/// So many shops, each with one customer; edges and a forwarder are to come.
struct Street {
    stage: Stage,
    shops: Vec<Shop>,
    customers: Vec<Customer>,
    written: Vec<Written>,
    said: usize,
}

fn plan() -> Plan {
    Stage::plan()
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", KEY)
        .setting("SESSION_UNSAFE_SYNC", "on")
        .setting("WHATSAPP_AUTH_DIR", "/proc/nowhere")
        .setting("SERVICE", "on")
}

impl Street {
    async fn of(count: usize) -> Self {
        let mut stage = plan().set().await;
        let shops = stage.simulator.shops(count).await;
        stage.set("WHATSAPP_ACCOUNTS", &names(&shops));
        let mut customers = Vec::new();
        for (number, shop) in shops.iter().enumerate() {
            customers.push(stage.simulator.customer_of(shop, &format!("54911700{number:05}")).await);
        }
        Self { stage, shops, customers, written: Vec::new(), said: 0 }
    }

    /// Each shop's phone scans its code.
    async fn link(&self) {
        for shop in &self.shops {
            self.stage.link_shop(shop).await;
        }
    }

    /// Each customer writes.
    async fn write(&mut self) {
        self.said += 1;
        for customer in &self.customers {
            let text = format!("{} de {}", self.said, customer.phone());
            let id = customer.write(&text).await;
            self.written.push(Written::echoed(customer.phone(), id, &text));
        }
    }

    /// Each customer writes, and is answered.
    async fn talk(&mut self) {
        self.write().await;
        self.answered().await;
    }

    async fn answered(&self) {
        for customer in &self.customers {
            customer.receives(self.said).await;
        }
    }

    /// Since this time (in unix seconds), each account that went offline was online again soon. A [`Watch`] must be running.
    async fn was_offline_at_most(&self, promised: Duration, from: f64) {
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        let stalls = stalls(from);
        let mut times = 0;
        for shop in &self.shops {
            let visits = self.stage.simulator.visits_of(shop).await;
            for (before, after) in visits.iter().zip(&visits[1..]) {
                let (gone, back) = (before.until.map_or(0.0, seconds), seconds(after.since));
                if gone < from {
                    continue;
                }
                times += 1;
                let offline = back - gone - stalled(&stalls, gone, back);
                assert!(offline <= promised.as_secs_f64(), "{} was offline for {offline:.1} s", shop.name);
            }
        }
        assert!(times > 0, "no account has changed its edge");
    }

    async fn kept(&self) {
        let evidence = self.stage.evidence(self.written.len(), &self.customers).await;
        evidence.assert_kept(&self.written);
    }
}

/// What an edge says when a task of one account panics.
const BROKEN: &str = "a task that the account depends on panicked; its edge begins anew";
const PANICKED: &str = "panicked at src/crash.rs";

/// The accounts that an edge does not start, as it says.
async fn parked(edge: &Connector) -> String {
    eventually("an account to be parked", PATIENCE, async || {
        let (_, ready) = edge.readiness().await?;
        let notes = ready["notes"].as_array().into_iter().flatten();
        let parked: Vec<_> =
            notes.filter(|note| note["code"] == "parked").map(|note| note["detail"].to_string()).collect();
        if parked.len() == 1 { Ok(parked[0].clone()) } else { Err(ready.to_string()) }
    })
    .await
}

/// The account `shop-001` cannot be started by anybody. Nobody else notices.
#[tokio::test]
async fn an_account_that_panics_each_time_is_parked_and_the_others_go_on() {
    let mut street = Street::of(3).await;
    street.stage.set("PANIC_AT", "account@shop-001");
    street.stage.logs.expects(PANICKED);
    street.stage.logs.expects(BROKEN);
    street.stage.logs.expects("the account does not start here and is parked");
    let edge = street.stage.start(Role::Edge).await;
    let _forwarder = street.stage.start(Role::Forwarder).await;
    street.shops.remove(1);
    street.customers.remove(1);
    street.link().await;
    assert!(parked(&edge).await.contains("shop-001"));
    street.talk().await;
    assert_eq!(has_online(&edge, 2).await, ["shop-000", "shop-002"]);
    assert_eq!(edge.readiness().await.expect("an answer").0, 200, "the process is of use to the others");
    street.kept().await;
}

/// A session that nobody can read is no number that is not linked, and no reason to stop.
#[tokio::test]
async fn a_session_that_cannot_be_read_is_parked_and_no_code_is_shown_for_it() {
    let mut street = Street::of(2).await;
    street.stage.logs.expects("the session cannot be taken over from the bus");
    street.stage.logs.expects("the account does not start here and is parked");
    let streams = {
        let edge = street.stage.start_with(Role::Edge, &[("WHATSAPP_ACCOUNTS", "shop-000")]).await;
        has(&edge).await;
        street.stage.link_shop(&street.shops[0]).await;
        edge.stop().await;
        street.stage.streams().await
    };
    streams.publish("wa.session.shop-001.0", b"no record").await;
    let edge = street.stage.start(Role::Edge).await;
    let _forwarder = street.stage.start(Role::Forwarder).await;
    assert!(parked(&edge).await.contains("shop-001"));
    street.shops.truncate(1);
    street.customers.truncate(1);
    street.talk().await;
    let (link, code) = street.stage.command(&["link", "--account", "shop-001"]).await;
    assert!(link["qr"].is_null() && code != 0, "{link}");
    street.kept().await;
}

/// One account begins anew, and the process goes on.
#[tokio::test]
async fn a_panic_of_what_an_account_depends_on_ends_that_accounts_term_only() {
    for task in ["lease renewal", "edge heartbeat", "session store"] {
        let mut street = Street::of(2).await;
        street.stage.set("PANIC_AT", task);
        street.stage.logs.expects(PANICKED);
        street.stage.logs.expects(BROKEN);
        street.stage.logs.may_have_broken_traffic();
        street.stage.logs.may_have("the session cannot be written");
        let edge = street.stage.start(Role::Edge).await;
        let _forwarder = street.stage.start(Role::Forwarder).await;
        street.link().await;
        has_online(&edge, 2).await;
        street.talk().await;
        assert!(edge.process.stderr().contains(BROKEN), "{task}");
        street.kept().await;
    }
}

/// Four files of one account never end. They take little memory, and another account's file goes.
#[tokio::test]
async fn the_long_files_of_one_account_hold_up_no_other_account() {
    let mut street = Street::of(2).await;
    street.stage.set("MEDIA", "all");
    let edge = street.stage.start(Role::Edge).await;
    street.link().await;
    has_online(&edge, 2).await;
    let (streams, simulator) = (street.stage.streams().await, &street.stage.simulator);
    let send = async |shop: usize, customer: &Customer, key: &str, length: usize| {
        put(&streams, key, &bytes(length, 1)).await;
        let file =
            SendMedia { key: key.to_owned(), kind: SendMediaKind::Image.into(), ..SendMedia::default() };
        let to = customer.phone().to_owned();
        let request = SendMessage { to, content: Some(Content::Media(file)), ..SendMessage::default() };
        streams.send_as(&street.shops[shop].name, customer.phone(), key, &request).await;
    };
    let before = edge.process.peak_memory();
    simulator.fault_as(json!({"kind": "upload_slow", "attributes": {"from_bytes": "1000000"}})).await;
    for number in 0..4 {
        let slow = simulator.customer_of(&street.shops[0], &format!("5491180000{number}")).await;
        send(0, &slow, &format!("long{number}"), (8 << 20) + number).await;
    }
    eventually("four uploads", PATIENCE, async || {
        let begun = simulator.counter("media_uploads").await;
        if begun == 4 { Ok(()) } else { Err(begun.to_string()) }
    })
    .await;
    send(1, &street.customers[1], "short", 1_000).await;
    assert_eq!(street.customers[1].receives(1).await[0].kind, "image");
    let more = edge.process.peak_memory().saturating_sub(before);
    assert!(more < 24 << 20, "{} MiB more for 32 MiB of files", more >> 20);
    simulator.no_faults().await;
}

/// While the bus is away no edge of a pool knows what the others do.
#[tokio::test]
async fn an_outage_of_the_bus_parks_nobody_and_all_accounts_come_back() {
    let mut street = Street::of(4).await;
    street.stage.logs.expects_an_outage_of_the_bus();
    street.stage.logs.may_have_broken_traffic();
    street.stage.logs.may_have("the lease cannot be renewed");
    street.stage.logs.may_have("the account cannot be started yet");
    // Nobody has waited for it, so a kill would have cost it, too.
    street.stage.logs.may_have("a change of the session's store that nobody waits for is lost");
    street.stage.logs.may_have("the session cannot be taken over from the bus yet");
    let edges = [street.stage.start(Role::Edge).await, street.stage.start(Role::Edge).await];
    let _forwarder = street.stage.start(Role::Forwarder).await;
    street.link().await;
    street.talk().await;
    street.stage.nats.kill();
    street.write().await;
    // "stopped" is told on the bus before it is gone.
    eventually("the edges to give up their leases", PATIENCE, async || {
        let has = [has(&edges[0]).await, has(&edges[1]).await];
        let is_over = has.iter().flat_map(BTreeMap::values).all(|state| state == "stopped");
        if is_over { Ok(()) } else { Err(format!("{has:?}")) }
    })
    .await;
    street.stage.nats.restart().await;
    let back = Watch::start();
    eventually("all accounts to be online", PATIENCE, async || {
        let has = [has(&edges[0]).await, has(&edges[1]).await];
        let online = has.iter().flat_map(BTreeMap::values).filter(|state| *state == "online").count();
        if online == 4 { Ok(()) } else { Err(format!("{has:?}")) }
    })
    .await;
    back.within(Duration::from_secs(35), "the accounts' return").await;
    street.answered().await;
    for edge in &edges {
        let (_, ready) = edge.readiness().await.expect("an answer");
        assert!(!ready.to_string().contains("parked"), "{ready}");
    }
    street.kept().await;
}

#[tokio::test]
async fn two_edges_share_the_accounts_and_each_conversation_goes_on_when_one_is_killed() {
    let mut street = Street::of(4).await;
    let mut first = street.stage.start(Role::Edge).await;
    let second = street.stage.start(Role::Edge).await;
    let _forwarder = street.stage.start(Role::Forwarder).await;
    street.link().await;
    has_online(&first, 2).await;
    has_online(&second, 2).await;
    street.talk().await;
    let metrics = first.metrics().await;
    for line in
        ["wa_pool_accounts{state=\"held\"} 2", "wa_pool_links{state=\"online\"} 2", "wa_pool_capacity 100"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    street.stage.logs.may_have(warning::SENT_AGAIN);
    first.process.kill();
    let (_beats, killed) = (Watch::start(), unix_seconds() - 1.0);
    street.write().await;
    has_online(&second, 4).await;
    // The term of the lease, and two seconds.
    street.was_offline_at_most(Duration::from_secs(32), killed).await;
    street.answered().await;
    street.talk().await;
    street.kept().await;
}

#[tokio::test]
async fn an_edge_that_stops_hands_its_accounts_over_and_a_new_one_takes_its_share() {
    let mut street = Street::of(4).await;
    let first = street.stage.start(Role::Edge).await;
    let _forwarder = street.stage.start(Role::Forwarder).await;
    street.link().await;
    has_online(&first, 4).await;
    street.talk().await;
    let (_beats, joined) = (Watch::start(), unix_seconds());
    let second = street.stage.start(Role::Edge).await;
    has_online(&second, 2).await;
    has_online(&first, 2).await;
    street.talk().await;
    street.stage.logs.may_have(warning::SENT_AGAIN);
    street.write().await;
    first.stop().await;
    has_online(&second, 4).await;
    street.was_offline_at_most(Duration::from_secs(2), joined).await;
    street.answered().await;
    street.kept().await;
}

/// Somebody may be scanning the code: a number that moves in the middle of that has to be linked once more.
#[tokio::test]
async fn an_account_that_shows_a_code_is_not_given_to_a_new_edge() {
    let street = Street::of(4).await;
    let first = street.stage.start(Role::Edge).await;
    let (linked, unlinked) = street.shops.split_at(3);
    for shop in linked {
        street.stage.link_shop(shop).await;
    }
    let shown = &unlinked[0];
    let second = street.stage.start(Role::Edge).await;
    eventually("the new edge to have its share", PATIENCE, async || {
        let has = has(&second).await;
        let is_so = !has.is_empty() && has.values().all(|state| state == "online");
        if is_so { Ok(()) } else { Err(format!("{has:?}")) }
    })
    .await;
    let said = first.process.stderr();
    let given: Vec<&str> = said.lines().filter(|line| line.contains("an emptier edge gets")).collect();
    assert!(!given.is_empty() && !given.iter().any(|line| line.contains(&shown.name)), "{given:?}");
    street.stage.link_shop(shown).await;
}
