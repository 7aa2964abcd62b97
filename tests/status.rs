//! `status`: what a running system says of itself, and what of it needs a person.

use serde_json::{Value, json};

use crate::support::{Layout, PATIENCE, Role, Stage, eventually, spawn_command, warning};

/// The exit code and the report.
async fn status(stage: &Stage) -> (Option<i32>, Value) {
    let mut process = spawn_command(&["status", "--json"], stage.settings(), stage.dir());
    let code = process.end(PATIENCE).await.code();
    let printed = process.stdout();
    (code, serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}{}", process.stderr())))
}

/// Waits until it wants exactly this.
async fn wants(stage: &Stage, want: &[(&str, &str)]) -> Value {
    wants_of(stage, want, |_| true).await
}

/// The same, of those processes: who is too busy to answer a question at once is not in its report.
async fn wants_of(stage: &Stage, want: &[(&str, &str)], all_answered: impl Fn(&Value) -> bool) -> Value {
    eventually(format!("status to want {want:?}"), PATIENCE, async || {
        let (code, report) = status(stage).await;
        let all = report["wants"].as_array().expect("what it wants");
        let found: Vec<_> = all
            .iter()
            .map(|one| (one["about"].as_str().unwrap_or(""), one["code"].as_str().unwrap_or("")))
            .collect();
        assert_eq!(code, Some(i32::from(!found.is_empty())), "{report}");
        assert_eq!(report["well"], found.is_empty());
        let is_it = |(found, want): (&(&str, &str), &(&str, &str))| {
            found.1 == want.1 && (found.0 == want.0 || want.0 == "*")
        };
        if found.len() == want.len() && found.iter().zip(want).all(is_it) && all_answered(&report) {
            return Ok(report.clone());
        }
        Err(report.to_string())
    })
    .await
}

fn of_role<'a>(report: &'a Value, role: &str) -> Vec<&'a Value> {
    let all = report["processes"].as_array().expect("processes");
    all.iter().filter(|process| process["role"] == role).collect()
}

#[tokio::test]
async fn a_healthy_system_is_well_and_who_dies_answers_no_more() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.receives(1).await;
    stage.streams().await.settled(1).await;

    let pids = |report: &Value| -> Vec<i64> {
        of_role(report, "forwarder").iter().filter_map(|process| process["pid"].as_i64()).collect()
    };
    let mut both: Vec<_> = product.forwarders.iter().map(|one| i64::from(one.process.pid())).collect();
    both.sort_unstable();
    let report = wants_of(&stage, &[], |report| pids(report) == both).await;

    let [account] = &report["accounts"].as_array().expect("accounts")[..] else { panic!("{report}") };
    assert_eq!((&account["account"], &account["link"]), (&json!("default"), &json!("online")));
    assert!(account["since"].is_string() && account["lease"].is_string() && account["live"] == true);
    let nothing = |name: &str| json!({ "name": name, "lag": 0, "in_flight": 0, "oldest_at": null });
    assert_eq!(account["consumer"], nothing("edge-default"));
    assert_eq!(report["forwarders"], nothing("forwarder"));
    assert_eq!(report["dead_letters"], json!([]));
    let [edge] = of_role(&report, "edge")[..] else { panic!("{report}") };
    let sides = json!({ "account": "default", "state": "online", "action": "none", "sending": 0 });
    assert_eq!((&edge["ready"], &edge["edge"]), (&json!(true), &sides));
    assert_eq!(edge["pid"], product.edge.process.pid());
    for secret in [customer.phone(), "5678", "hola"] {
        assert!(!report.to_string().contains(secret), "{report}");
    }
    eventually("status to tell people that all is well", PATIENCE, async || {
        let mut shown = spawn_command(&["status"], stage.settings(), stage.dir());
        let well = shown.end(PATIENCE).await.success();
        let shown = shown.stdout();
        let says = shown.contains("default: online since") && shown.ends_with("all is well\n");
        if well && says { Ok(()) } else { Err(shown) }
    })
    .await;

    product.forwarders[0].process.kill();
    let left = [i64::from(product.forwarders[1].process.pid())];
    wants_of(&stage, &[], |report| pids(report) == left).await;
    product.forwarders[1].process.kill();
    wants(&stage, &[("forwarder", "no-forwarder")]).await;
    product.edge.process.kill();
    let report = wants(&stage, &[("default", "no-edge"), ("forwarder", "no-forwarder")]).await;
    assert_eq!(
        (&report["accounts"][0]["link"], &report["accounts"][0]["live"]),
        (&json!("online"), &json!(false))
    );
}

#[tokio::test]
async fn with_the_backend_away_it_names_the_hold_and_what_waits() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects(&warning::held("unreachable"));
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    stage.backend.kill();
    customer.write("¿hay alguien?").await;
    product.forwarders[0].not_ready("unreachable").await;

    let report = wants(&stage, &[("*", "backend/unreachable")]).await;

    let [forwarder] = of_role(&report, "forwarder")[..] else { panic!("{report}") };
    assert_eq!(
        (&forwarder["forwarder"]["hold"], &forwarder["ready"]),
        (&json!("unreachable"), &json!(false))
    );
    assert_eq!(
        report["wants"][0]["about"],
        format!("{}/{}", forwarder["host"].as_str().unwrap(), forwarder["pid"])
    );
    eventually("the held message to be counted", PATIENCE, async || {
        let (_, report) = status(&stage).await;
        let turns = of_role(&report, "forwarder").first().map_or(&Value::Null, |one| &one["forwarder"]);
        let in_hand =
            turns["held"].as_u64().zip(turns["calling"].as_u64()).map(|(held, calling)| held + calling);
        let consumer = &report["forwarders"];
        match (in_hand, &consumer["in_flight"], consumer["oldest_at"].is_string()) {
            (Some(1), in_flight, true) if *in_flight == 1 => Ok(()),
            _ => Err(report.to_string()),
        }
    })
    .await;
    stage.backend.restart().await;
    customer.receives(1).await;
    wants(&stage, &[]).await;
}

#[tokio::test]
async fn an_unlinked_number_wants_somebody_with_its_phone() {
    let stage = Stage::plan().set().await;
    let edge = stage.start(Role::Edge).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    edge.shows_a_code().await;
    let secret = edge.link_state().await["qr"].as_str().expect("a code").to_owned();

    let report = wants(&stage, &[("default", "scan-qr")]).await;

    assert_eq!(report["accounts"][0]["link"], "qr-ready");
    assert!(!report.to_string().contains(&secret), "whoever has the code can link the number");
}

#[tokio::test]
async fn dead_letters_are_counted_by_their_reason() {
    let mut stage = Stage::plan().backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    for customer in stage.customers("54911333", 2).await {
        customer.write("esto no").await;
    }
    stage.streams().await.settled(2).await;

    let report = wants(&stage, &[("dead letters", "dead-letters")]).await;

    assert_eq!(report["dead_letters"], json!([{ "account": "default", "reason": "rejected", "count": 2 }]));
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "");
    stage.backend.restart().await;
    stage.output(&["dlq", "drop", "--all"]).await;
    let report = wants(&stage, &[]).await;
    let [run] = of_role(&report, "run")[..] else { panic!("it is one process") };
    assert!(run["edge"].is_object() && run["forwarder"].is_object());
}

/// Whoever may ask may name any subject for the answer.
#[tokio::test]
async fn no_answer_goes_into_a_stream() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let client = stage.streams().await.jetstream().client();
    let ask = async |reply: &str| {
        client.publish_with_reply("wa.live.status", reply.to_owned(), "".into()).await.expect("asked");
    };
    let mut answers = client.subscribe("answers").await.expect("a subscription");
    let count = async || {
        stage.streams().await.jetstream().get_stream("WA_OUT").await.expect("it").cached_info().state.messages
    };
    let before = count().await;

    for reply in ["wa.out.default.send.5491112345678", "$KV.WA_LEASES.default", "answers"] {
        ask(reply).await;
    }

    // Each process answers in the order of the questions: with this one, the others are dealt with.
    for _ in 0..2 {
        let answer = tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut answers)).await;
        let answer = answer.expect("in time").expect("an answer");
        assert!(serde_json::from_slice::<Value>(&answer.payload).expect("JSON")["ready"].is_boolean());
    }
    assert_eq!(count().await, before);
    let lease = stage.streams().await.jetstream().get_key_value("WA_LEASES").await.expect("the leases");
    let holder = lease.get("default").await.expect("a look").expect("a holder");
    assert!(!holder.starts_with(b"{"), "{holder:?}");
    drop(product);
}
