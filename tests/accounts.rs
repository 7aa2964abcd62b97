//! `accounts`: an operator puts accounts into a pool, sees them, pauses them and takes them out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::session_on_bus::KEY;
use crate::support::shops::Shop;
use crate::support::{PATIENCE, Plan, Role, Stage, eventually, spawn_command};

pub fn plan() -> Plan {
    Stage::plan()
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", KEY)
        .setting("SESSION_UNSAFE_SYNC", "on")
        .setting("WHATSAPP_AUTH_DIR", "/proc/nowhere")
        .setting("WHATSAPP_ACCOUNTS", "*")
        .setting("SERVICE", "on")
}

/// The accounts by their names, as `accounts list --json` has them.
async fn listed(stage: &Stage) -> BTreeMap<String, Value> {
    let printed = stage.output(&["accounts", "list", "--json"]).await;
    let all = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.map(|one| (one["account"].as_str().expect("a name").to_owned(), one)).collect()
}

/// Waits until the list says this of an account.
async fn lists(stage: &Stage, shop: &Shop, what: &str, is_so: impl Fn(&Value) -> bool) {
    eventually(format!("{} to be {what}", shop.name), PATIENCE, async || {
        let all = listed(stage).await;
        let one = all.get(&shop.name).ok_or_else(|| format!("it is not in {all:?}"))?;
        if is_so(one) { Ok(()) } else { Err(one.to_string()) }
    })
    .await;
}

fn is_online(one: &Value) -> bool {
    one["link"] == "online" && one["live"] == true && one["pool"]["edge"].is_string()
}

fn is_let_go(one: &Value) -> bool {
    one["pool"]["paused"] == true && one["pool"]["edge"].is_null() && one["lease"].is_null()
}

/// Settings with which a command logs nothing: it says why it fails.
fn quiet(stage: &Stage) -> BTreeMap<String, String> {
    let mut settings = stage.settings().clone();
    settings.remove("RUST_LOG");
    settings
}

/// Runs a command that is to fail; its exit code, and what it says.
async fn refusal(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let mut process = spawn_command(arguments, &quiet(stage), stage.dir());
    let code = process.end(PATIENCE).await.code().expect("a code");
    (code, process.stderr())
}

/// What needs a person about this account, as `status` says.
async fn wants(stage: &Stage, shop: &Shop) -> Vec<String> {
    let (report, _) = stage.command(&["status", "--json"]).await;
    let all = report["wants"].as_array().unwrap_or_else(|| panic!("no wants in {report}"));
    let of_it = all.iter().filter(|want| want["about"] == shop.name.as_str());
    of_it.map(|want| want["code"].as_str().expect("a code").to_owned()).collect()
}

#[tokio::test]
async fn an_account_is_added_linked_seen_paused_and_removed() {
    let stage = plan().set().await;
    let shop = stage.simulator.shops(1).await.remove(0);
    let name = shop.name.as_str();
    // Before the first edge.
    let (added, code) = stage.command(&["accounts", "add", name, "--send-total", "20/1s"]).await;
    assert_eq!((added["done"].as_str(), code), (Some("added"), 0), "{added}");
    let (again, _) = stage.command(&["accounts", "add", name]).await;
    assert_eq!((again["done"].as_str(), again["send_total"].as_str()), (Some("unchanged"), Some("20/1s")));
    let free = listed(&stage).await.remove(name).expect("the account");
    assert!(free["pool"]["edge"].is_null() && free["lease"].is_null() && free["live"] == false, "{free}");

    let _edge = stage.start(Role::Edge).await;
    stage.link_shop(&shop).await;
    lists(&stage, &shop, "online", is_online).await;
    let customer = stage.simulator.customer_of(&shop, "5491170000001").await;
    let _forwarder = stage.start(Role::Forwarder).await;
    customer.write("hola").await;
    assert_eq!(customer.receives(1).await[0].text, "eco: hola");
    let table = stage.output(&["accounts", "list"]).await;
    assert!(table.starts_with("ACCOUNT ") && table.contains(" online "), "{table}");

    let (paused, _) = stage.command(&["accounts", "pause", name]).await;
    assert_eq!((paused["done"].as_str(), paused["paused"].as_bool()), (Some("changed"), Some(true)));
    lists(&stage, &shop, "let go", is_let_go).await;
    assert!(!stage.simulator.shop_is_online(&shop).await, "its edge has let it go");
    assert_eq!(wants(&stage, &shop).await, [""; 0], "somebody wants it so");

    // Its session has stayed.
    stage.command(&["accounts", "resume", name]).await;
    lists(&stage, &shop, "online again", is_online).await;
    customer.write("otra vez").await;
    customer.receives(2).await;

    let (removed, code) = stage.command(&["accounts", "remove", name]).await;
    assert_eq!((removed["was_there"].as_bool(), code), (Some(true), 0), "{removed}");
    assert!(removed["still_held_by"].is_null() && removed["stays"]["session"].is_string(), "{removed}");
    assert!(!stage.simulator.shop_is_online(&shop).await, "its edge has let it go");
    assert!(listed(&stage).await.is_empty());
    assert_eq!(wants(&stage, &shop).await, [""; 0], "nobody misses it");
    let streams = stage.streams().await;
    let leases = streams.jetstream().get_key_value("WA_LEASES").await.expect("the bucket");
    assert!(leases.entry(name).await.expect("an answer").is_none(), "its lease is gone");
    let (again, _) = stage.command(&["accounts", "remove", name]).await;
    assert_eq!(again["was_there"], false, "{again}");
    stage.command(&["accounts", "add", name]).await;
    lists(&stage, &shop, "online without a new link", is_online).await;
}

#[tokio::test]
async fn an_account_that_is_added_with_link_says_how_once_an_edge_has_it_and_unlinks_when_it_goes() {
    let stage = plan().set().await;
    let shop = stage.simulator.shops(1).await.remove(0);
    let _edge = stage.start(Role::Edge).await;
    let said = stage.output(&["accounts", "add", &shop.name, "--link"]).await;
    let [added, link] = said.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {said}") };
    assert!(added.contains("\"done\":\"added\""), "{added}");
    let link: Value = serde_json::from_str(link).expect("JSON");
    let qr = link["qr"].as_str().unwrap_or_else(|| panic!("no code in {link}"));
    stage.simulator.shop_scans(&shop, qr).await.expect("a scan");
    lists(&stage, &shop, "online", is_online).await;
    let (link, _) = stage.command(&["accounts", "link", &shop.name]).await;
    assert_eq!(link["state"], "online", "{link}");
    let (removed, code) = stage.command(&["accounts", "remove", &shop.name, "--unlink"]).await;
    assert_eq!((removed["was_there"].as_bool(), code), (Some(true), 0), "{removed}");
    // No edge has it now.
    let (code, said) = refusal(&stage, &["accounts", "remove", &shop.name, "--unlink"]).await;
    assert!(code == 69 && said.contains("nothing is removed"), "{code}: {said}");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_words_that_help() {
    let stage = plan().set().await;
    let none = refusal(&stage, &["accounts", "list"]).await;
    assert!(none.0 == 69 && none.1.contains("`accounts add` makes it"), "{none:?}");
    for (arguments, word, code) in [
        (&["add", "My Shop"][..], "a-z, 0-9", 2),
        (&["add", "shop", "--send-per-chat", "20"], "such as 20/10s", 2),
        (&["add", "shop", "--send-total", "fast"], "such as 20/10s", 2),
        (&["add", "shop", "--pair-phone", "Ana"], "country code", 2),
    ] {
        let (ended, said) = refusal(&stage, &[&["accounts"], arguments].concat()).await;
        assert!(ended == code && said.contains(word), "{arguments:?}: {ended} {said}");
    }
    let mut settings = quiet(&stage);
    settings.insert("NATS_PROVISION".to_owned(), "verify".to_owned());
    let mut process = spawn_command(&["accounts", "add", "shop"], &settings, stage.dir());
    assert_eq!(process.end(PATIENCE).await.code(), Some(69));
    assert!(process.stderr().contains("provision --account shop"), "{}", process.stderr());

    let said = stage.output(&["provision", "--account", "shop"]).await;
    assert!(said.contains("ready for the edges of a pool") && said.contains("the edge of `shop`"), "{said}");
    for command in ["pause", "resume"] {
        let (code, said) = refusal(&stage, &["accounts", command, "shop"]).await;
        assert!(code == 1 && said.contains("no account `shop`"), "{code}: {said}");
    }
    let mut process = spawn_command(&["accounts", "add", "shop"], &settings, stage.dir());
    assert_eq!(process.end(PATIENCE).await.code(), Some(0), "{}", process.stderr());
}

/// The findings of `check edge`: a code and an account or a word of each.
async fn checked(stage: &Stage, own: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut settings = stage.settings().clone();
    settings.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut process = spawn_command(&["check", "edge", "--json"], &settings, stage.dir());
    process.end(PATIENCE).await;
    let report: Value = serde_json::from_str(&process.stdout()).expect("JSON");
    let all = report["findings"].as_array().expect("findings");
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    all.iter().map(|one| (text(one, "code"), text(one, "what"))).collect()
}

#[tokio::test]
async fn an_account_that_does_not_start_is_parked_and_a_pool_is_checked_before_and_after() {
    const OTHER: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
    let stage = plan().set().await;
    let has = |found: &[(String, String)], code: &str, word: &str| {
        let is_it = |(found, what): &(String, String)| found == code && what.contains(word);
        assert!(found.iter().any(is_it), "no {code} with `{word}` in {found:?}");
    };
    has(&checked(&stage, &[]).await, "stream-missing", "WA_ACCOUNTS");
    let shops = stage.simulator.shops(2).await;
    let (shop, other) = (&shops[0], &shops[1]);
    stage.command(&["accounts", "add", &shop.name]).await;
    has(&checked(&stage, &[]).await, "session-none", &shop.name);
    let edge = stage.start(Role::Edge).await;
    stage.link_shop(shop).await;
    has(&checked(&stage, &[]).await, "session-kept", &shop.name);
    has(&checked(&stage, &[]).await, "pool", "1 accounts");
    has(&checked(&stage, &[("SESSION_KEY", OTHER)]).await, "session-unreadable", "SESSION_KEY");
    has(&checked(&stage, &[("WHATSAPP_ACCOUNTS", "nobody")]).await, "account-unknown", "nobody");
    edge.stop().await;

    stage.logs.expects("the account does not start here and is parked");
    stage.logs.may_have("a key that SESSION_KEY does not have");
    stage.logs.may_have("the account cannot be started");
    stage.logs.may_have("the session cannot be taken over from the bus");
    let _wrong = stage.start_with(Role::Edge, &[("SESSION_KEY", OTHER)]).await;
    eventually("the account to be parked", PATIENCE, async || {
        let wants = wants(&stage, shop).await;
        if wants == ["parked"] { Ok(()) } else { Err(format!("{wants:?}")) }
    })
    .await;
    // The others go on.
    stage.command(&["accounts", "add", &other.name]).await;
    stage.link_shop(other).await;
    let (report, code) = stage.command(&["status", "--json"]).await;
    let pool = &report["pool"];
    assert_eq!(
        (pool["edges"].as_u64(), pool["accounts"].as_u64(), pool["held"].as_u64()),
        (Some(1), Some(2), Some(1))
    );
    assert_eq!(code, 1, "{report}");
    let screen = {
        let mut process = spawn_command(&["status"], stage.settings(), stage.dir());
        process.end(PATIENCE).await;
        process.stdout()
    };
    assert!(
        screen.contains("1 of 100 accounts, 1 parked") && screen.contains("parked: It does not start"),
        "{screen}"
    );
    let table = stage.output(&["accounts", "list"]).await;
    assert!(table.contains(" parked ") && table.contains(" online "), "{table}");
}
