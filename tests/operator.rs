//! What an operator does to a running system: new credentials, and a restart of one process after the other. Under
//! load, split, with TLS and the least privileges, and with nothing lost.

use std::cell::Cell;
use std::path::PathBuf;

use crate::nats_accounts::Account;
use crate::nats_security::text;
use crate::support::oracle::{Written, write_each};
use crate::support::{Connector, Customer, PATIENCE, Role, Stage, eventually};

/// One role's processes, with a password that is in a file.
struct Deployment<'a> {
    account: &'a Account,
    stage: &'a Stage,
    user: &'static str,
    inbox: &'static str,
    role: Role,
    password: PathBuf,
}

impl<'a> Deployment<'a> {
    fn new(
        account: &'a Account,
        stage: &'a Stage,
        role: Role,
        user: &'static str,
        inbox: &'static str,
    ) -> Self {
        let password = stage.dir().join(format!("password-of-{user}"));
        let deployment = Self { account, stage, user, inbox, role, password };
        deployment.has_password("first");
        deployment
    }

    fn has_password(&self, password: &str) {
        std::fs::write(&self.password, format!("{password}-of-{}\n", self.user)).expect("a password");
    }

    async fn start(&self) -> Connector {
        let file = text(&self.password);
        let mut settings: Vec<_> = self.account.settings(self.user, self.inbox);
        settings.retain(|(name, _)| name != "NATS_PASSWORD");
        settings.push(("NATS_PASSWORD_FILE".to_owned(), file));
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut started = self.stage.start_with(self.role, &settings).await;
        if self.role == Role::Forwarder {
            started.ready().await;
        }
        started
    }

    /// nats-server has the new password already.
    fn rotate(&self) {
        self.account.change_password(self.user, &format!("second-of-{}", self.user));
        self.has_password("second");
    }
}

/// Everybody writes, one message after the other, until told to stop.
async fn chatter(customers: &[Customer], stop: &Cell<bool>) -> Vec<Written> {
    let mut written = Vec::new();
    let mut number = 0;
    while !stop.get() {
        number += 1;
        written.extend(write_each(customers, number).await);
        for customer in customers {
            customer.receives_within(number, 2 * PATIENCE).await;
        }
    }
    written
}

#[tokio::test]
async fn rotation_and_rolling_restarts_under_load_lose_nothing_with_the_least_privileges() {
    let account = Account::new();
    for user in ["edge", "forwarder"] {
        account.change_password(user, &format!("first-of-{user}"));
    }
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    stage.logs.expects_an_outage_of_the_bus();
    stage.logs.may_have("cannot log in to nats-server");
    account.output(&stage, &["provision"], "provisioner").await;
    let edges = Deployment::new(&account, &stage, Role::Edge, "edge", "_INBOX_edge_default");
    let forwarders = Deployment::new(&account, &stage, Role::Forwarder, "forwarder", "_INBOX_forwarder");
    let mut edge = edges.start().await;
    let mut running = vec![forwarders.start().await, forwarders.start().await];
    edge.link(&stage.simulator).await;
    let customers = stage.customers("54911999", 4).await;
    let stop = Cell::new(false);
    let stored = async || stage.streams().await.outcomes().await.len();
    let goes_on = async |what: &str| {
        let before = stored().await;
        eventually(what, PATIENCE, async || {
            let now = stored().await;
            if now > before + customers.len() { Ok(()) } else { Err(format!("{now} after {before}")) }
        })
        .await;
    };
    let operating = async {
        goes_on("a beginning").await;

        for deployment in [&edges, &forwarders] {
            deployment.rotate();
        }
        stage.nats.reload().await;
        eventually("the old passwords to be of no use", PATIENCE, async || {
            let thrown_out = |one: &Connector| one.process.stderr().contains("nats-server is away");
            if running.iter().chain([&edge]).all(thrown_out) { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        goes_on("answers with the new passwords").await;
        assert!(
            edge.process.ended().is_none() && running.iter_mut().all(|one| one.process.ended().is_none())
        );

        for _ in 0..running.len() {
            let next = forwarders.start().await;
            running.remove(0).stop().await;
            running.push(next);
            goes_on("answers after a forwarder's restart").await;
        }
        edge.stop().await;
        let mut edge = edges.start().await;
        edge.ready().await;
        goes_on("answers after the edge's restart").await;

        stop.set(true);
        // They run until all is answered.
        (edge, running)
    };
    let (written, _running) = tokio::join!(chatter(&customers, &stop), operating);
    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&evidence.as_it_came(written));
}
