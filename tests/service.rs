//! The NATS micro service of each process: others see it, and have its edge do something.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};
use whatsapp_connector::wire::now_ms;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{SendMessage, SendText, TakeoverCause, TakeoverState};

use crate::lease::two_edges_on;
use crate::support::{BUSINESS, Connector, Layout, PATIENCE, Role, Stage, eventually, spawn_command};

/// A refusal, or the answer.
type Answer = Result<Value, (u16, Value)>;

/// Another service.
struct Asker(async_nats::Client);

impl Asker {
    async fn of(stage: &Stage) -> Self {
        Self(async_nats::connect(stage.nats.url()).await.expect("a connection"))
    }

    /// Asks the edge of the account `default`, once there is one.
    async fn ask(&self, act: &str, request: impl ToString) -> Answer {
        let (subject, request) = (format!("wa.svc.default.{act}"), request.to_string());
        let answer = eventually("an edge that answers", PATIENCE, async || {
            let request = async_nats::Request::new().payload(request.clone().into()).timeout(Some(PATIENCE));
            self.0.send_request(subject.clone(), request).await.map_err(|error| error.to_string())
        })
        .await;
        let said = |name| answer.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        let body: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        match said("Nats-Service-Error-Code") {
            None => Ok(body),
            Some(code) => {
                assert_eq!(said("Nats-Service-Error").as_deref(), body["error"].as_str());
                Err((code.parse().expect("a number"), body))
            }
        }
    }

    /// Why it is refused: the number and the code.
    async fn refused(&self, act: &str, request: impl ToString) -> (u16, String) {
        let (number, body) = self.ask(act, request).await.expect_err(act);
        (number, body["code"].as_str().expect("a code").to_owned())
    }

    /// The answers of all who answer, until there are no more for a while.
    async fn everybody(&self, subject: &str, request: &str) -> Vec<Value> {
        let inbox = self.0.new_inbox();
        let mut answers = self.0.subscribe(inbox.clone()).await.expect("a subscription");
        self.0
            .publish_with_reply(subject.to_owned(), inbox, request.to_owned().into())
            .await
            .expect("a question");
        let mut all = Vec::new();
        while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_millis(700), answers.next()).await {
            if answer.status.is_none() {
                all.push(serde_json::from_slice(&answer.payload).expect("JSON"));
            }
        }
        all
    }

    /// The processes, as soon as they are so many.
    async fn processes(&self, verb: &str, count: usize) -> Vec<Value> {
        eventually(format!("{count} answers to {verb}"), PATIENCE, async || {
            let all = self.everybody(&format!("$SRV.{verb}"), "").await;
            if all.len() == count { Ok(all) } else { Err(format!("{all:?}")) }
        })
        .await
    }
}

fn text_to(number: &str) -> SendMessage {
    let content = Some(Content::Text(SendText { body: "su pedido".to_owned(), options: None }));
    SendMessage { to: number.to_owned(), content, ..SendMessage::default() }
}

fn endpoints(info: &Value) -> Vec<&str> {
    info["endpoints"].as_array().expect("endpoints").iter().filter_map(|one| one["name"].as_str()).collect()
}

fn of_role<'a>(all: &'a [Value], role: &str) -> &'a Value {
    all.iter().find(|one| one["metadata"]["role"] == role).unwrap_or_else(|| panic!("no {role} in {all:?}"))
}

#[tokio::test]
async fn each_process_is_one_service_with_its_version_and_counts_what_it_does() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let asker = Asker::of(&stage).await;
    let pings = asker.processes("PING", 2).await;
    for ping in &pings {
        assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
        assert_eq!(
            (&ping["name"], &ping["version"]),
            (&"whatsapp-connector".into(), &env!("CARGO_PKG_VERSION").into())
        );
    }
    let edge = of_role(&pings, "edge");
    assert_eq!(edge["metadata"]["account"], "default");
    let id = edge["id"].as_str().expect("an id");
    assert_ne!(pings[0]["id"], pings[1]["id"]);
    assert_eq!(asker.processes("PING.whatsapp-connector", 2).await.len(), 2);
    assert_eq!(asker.processes(&format!("PING.whatsapp-connector.{id}"), 1).await[0]["id"], id);

    let infos = asker.processes("INFO", 2).await;
    assert_eq!(endpoints(of_role(&infos, "forwarder")), ["status"]);
    let all = ["status", "link", "unlink", "check-number", "takeover", "resume"];
    assert_eq!(endpoints(of_role(&infos, "edge")), all);
    let link = &of_role(&infos, "edge")["endpoints"][1];
    assert_eq!((&link["subject"], &link["queue_group"]), (&"wa.svc.default.link".into(), &"edge".into()));

    asker.ask("link", "").await.expect("an answer");
    assert_eq!(asker.refused("check-number", json!({"number": "x"})).await, (422, "not-a-number".to_owned()));
    assert_eq!(asker.everybody("wa.live.status", "").await.len(), 2);
    let stats = asker.processes("STATS", 2).await;
    let counted = |role, name: &str| {
        let all = of_role(&stats, role)["endpoints"].as_array().expect("endpoints").clone();
        let one = all.into_iter().find(|one| one["name"] == name).expect("it");
        assert!(one["processing_time"].as_u64() > Some(0), "{one}");
        (one["num_requests"].as_u64(), one["num_errors"].as_u64(), one["last_error"].clone())
    };
    assert_eq!(counted("edge", "link"), (Some(1), Some(0), "".into()));
    assert_eq!(counted("edge", "check-number"), (Some(1), Some(1), "422:not-a-number".into()));
    assert_eq!(counted("forwarder", "status"), (Some(1), Some(0), "".into()));
}

#[tokio::test]
async fn without_service_nobody_is_seen_or_asked_and_status_works() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let asker = Asker::of(&stage).await;
    assert_eq!(asker.everybody("$SRV.PING", "").await, Vec::<Value>::new());
    assert_eq!(asker.everybody("wa.svc.default.link", "").await, Vec::<Value>::new());
    assert_eq!(asker.everybody("wa.live.status", "").await.len(), 1);
}

#[tokio::test]
async fn a_phone_links_with_what_the_service_says_and_is_unlinked_by_whoever_is_sure() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.shows_a_code().await;
    let asker = Asker::of(&stage).await;
    eventually("a phone that links", PATIENCE, async || {
        let said = asker.ask("link", "{}").await.expect("how to link");
        let page = edge.link_state().await;
        if said["qr"] != page["qr"] {
            return Err(format!("{said} and {page}"));
        }
        stage.simulator.scan(said["qr"].as_str().expect("a code")).await
    })
    .await;
    edge.ready().await;
    let linked = asker.ask("link", "").await.expect("the state");
    assert_eq!(
        (&linked["state"], &linked["qr"], &linked["phone"]),
        (&"online".into(), &Value::Null, &BUSINESS.into())
    );
    assert!(linked.get("qr").is_none(), "{linked}");
    assert_eq!(asker.refused("link", json!({"phone": BUSINESS})).await, (409, "linked".to_owned()));

    for unsure in ["", "{}", r#"{"account":"other"}"#] {
        assert_eq!(asker.refused("unlink", unsure).await, (400, "unsure".to_owned()));
    }
    edge.ready().await;
    assert_eq!(asker.ask("unlink", json!({"account": "default"})).await, Ok(json!({"done": "unlinked"})));
    edge.not_ready("qr-ready").await;
    assert_eq!(asker.refused("unlink", json!({"account": "default"})).await, (409, "not-online".to_owned()));

    assert_eq!(asker.refused("link", json!({"phone": "x"})).await, (422, "not-a-number".to_owned()));
    let given = asker.ask("link", json!({"phone": "+54 9 11 0000-0000"})).await.expect("a code");
    assert!(given["code_expires_in_s"].as_u64() > Some(100), "{given}");
    assert_eq!(asker.refused("link", json!({"phone": BUSINESS})).await, (429, "too-soon".to_owned()));
    assert_eq!(asker.ask("link", "").await.expect("the same")["code"], given["code"]);
    stage.simulator.type_code(given["code"].as_str().expect("a code")).await.expect("a valid code");
    edge.ready().await;
}

#[tokio::test]
async fn a_number_is_on_whatsapp_or_not_and_a_send_does_not_ask_again() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let dialled = "541112345678";
    customer.is_dialled(dialled).await;
    let asker = Asker::of(&stage).await;
    let number = |number: &str| json!({"number": number});
    let there = json!({"on_whatsapp": true, "number": customer.phone()});
    for _ in 0..2 {
        assert_eq!(asker.ask("check-number", number("+54 11 1234-5678")).await, Ok(there.clone()));
    }
    assert_eq!(stage.simulator.counter("lookups").await, 1, "it is remembered");
    let nobody = json!({"on_whatsapp": false, "number": ""});
    assert_eq!(asker.ask("check-number", number("5491199990000")).await, Ok(nobody));

    stage.streams().await.send("order-77", &text_to(dialled)).await;
    assert_eq!(customer.receives(1).await[0].text, "su pedido");
    assert_eq!(stage.simulator.counter("lookups").await, 2, "the send asks for nothing that is known");

    for (act, request, refusal) in [
        ("check-number", String::new(), (422, "not-a-number")),
        ("check-number", "54911".to_owned(), (400, "bad-request")),
        ("check-number", number(&"9".repeat(5_000)).to_string(), (413, "too-long")),
        ("check-number", number("'; DROP TABLE").to_string(), (422, "not-a-number")),
        ("takeover", json!({"chat": customer.phone()}).to_string(), (409, "takeover-off")),
        ("resume", json!({"chat": "a.b"}).to_string(), (400, "bad-request")),
        ("buy", String::new(), (404, "no-endpoint")),
    ] {
        assert_eq!(asker.refused(act, request).await, (refusal.0, refusal.1.to_owned()), "{act}");
    }
}

/// WhatsApp wants to be left alone for a minute.
async fn refuse_look_ups(stage: &Stage) {
    let fault = json!({"kind": "refuse_lookups", "account": BUSINESS, "attributes": {"backoff": "60"}});
    stage.simulator.fault_as(fault).await;
}

#[tokio::test]
async fn look_ups_that_whatsapp_refuses_are_told_and_not_tried_again_at_once() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    stage.logs.expects("WhatsApp answers no look-ups");
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let asker = Asker::of(&stage).await;
    refuse_look_ups(&stage).await;
    for number in 0..3 {
        let refused = asker.refused("check-number", json!({"number": format!("549118000000{number}")})).await;
        assert_eq!(refused, (503, "no-look-ups".to_owned()));
    }
    assert_eq!(stage.simulator.counter("lookups_refused").await, 1);
    // A send asks for itself.
    stage.simulator.no_faults().await;
    stage.streams().await.send("order-77", &text_to(customer.phone())).await;
    assert_eq!(customer.receives(1).await[0].text, "su pedido");
}

#[tokio::test]
async fn a_send_that_waits_to_ask_goes_first() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    stage.logs.expects("WhatsApp answers no look-ups");
    let _product = stage.product(Layout::OneProcess).await;
    let asker = Asker::of(&stage).await;
    refuse_look_ups(&stage).await;
    stage.streams().await.send("order-77", &text_to("5491180000001")).await;
    eventually("the send to be refused", PATIENCE, async || {
        match stage.simulator.counter("lookups_refused").await {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    let refused = asker.refused("check-number", json!({"number": "5491180000002"})).await;
    assert_eq!(refused, (429, "busy".to_owned()));
    assert_eq!(stage.simulator.counter("lookups_refused").await, 1);
}

#[tokio::test]
async fn a_takeover_and_its_end_decide_about_the_next_message() {
    let stage = Stage::plan().setting("SERVICE", "on").setting("TAKEOVER", "30m").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let asker = Asker::of(&stage).await;
    let chat = json!({"chat": customer.phone()});
    assert_eq!(asker.ask("resume", &chat).await, Ok(json!({"state": "none"})));
    for wrong in ["0s", "13h", "soon"] {
        let request = json!({"chat": customer.phone(), "for": wrong});
        assert_eq!(asker.refused("takeover", request).await, (400, "bad-request".to_owned()));
    }
    let taken = asker.ask("takeover", json!({"chat": customer.phone(), "for": "2h"})).await.expect("it");
    assert_eq!(taken["state"], "began");
    customer.write("hola").await;
    streams.settled(1).await;
    assert_eq!(customer.inbox().await.len(), 0);
    assert_eq!(asker.ask("resume", &chat).await.expect("it")["state"], "ended");
    let takeovers = streams.takeovers().await;
    let [_, ended] = takeovers.as_slice() else { panic!("{takeovers:?}") };
    assert_eq!((ended.state(), ended.cause()), (TakeoverState::Ended, TakeoverCause::Operator));
    // WhatsApp's times are whole seconds.
    let since = now_ms();
    eventually("the next second", PATIENCE, async || {
        if now_ms() / 1_000 > since / 1_000 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    customer.write("¿y ahora?").await;
    assert_eq!(customer.receives(1).await[0].text, "eco: ¿y ahora?");
}

#[tokio::test]
async fn of_two_edges_the_one_with_the_lease_answers() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    let (stage, first, mut second) = two_edges_on(stage).await;
    let asker = Asker::of(&stage).await;
    let pid_of_who_acts = async || {
        let infos = asker.processes("INFO", 2).await;
        let acting: Vec<_> = infos.iter().filter(|info| endpoints(info).len() > 1).collect();
        let [one] = acting.as_slice() else { panic!("{infos:?}") };
        one["metadata"]["pid"].clone()
    };
    assert_eq!(pid_of_who_acts().await, first.process.pid().to_string());
    for _ in 0..5 {
        let answers = asker.everybody("wa.svc.default.link", "").await;
        assert!(matches!(answers.as_slice(), [one] if one["state"] == "online"), "{answers:?}");
    }
    first.stop().await;
    second.ready().await;
    assert_eq!(asker.ask("link", "").await.expect("the state")["state"], "online");
    assert_eq!(asker.processes("INFO", 1).await[0]["metadata"]["pid"], second.process.pid().to_string());
}

/// Many ask about many numbers. WhatsApp is asked as often as it may be, and who is sent something does not wait.
#[tokio::test]
async fn a_flood_is_bounded_and_sends_go_on() {
    const MANY: usize = 3_000;
    /// Of words that somebody is busy, in a second.
    const WORDS: u64 = 200;
    let stage = Stage::plan().setting("SERVICE", "on").setting("SERVICE_CHECKS", "5/1h").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let asker = Asker::of(&stage).await;
    asker.ask("link", "").await.expect("an edge");
    let inbox = asker.0.new_inbox();
    let mut answers = asker.0.subscribe(inbox.clone()).await.expect("a subscription");
    let began = Instant::now();
    for number in 0..MANY {
        let request = json!({"number": format!("54911700{number:05}")}).to_string();
        let asked = asker.0.publish_with_reply("wa.svc.default.check-number", inbox.clone(), request.into());
        asked.await.expect("a question");
    }
    streams.send("order-77", &text_to(customer.phone())).await;
    assert_eq!(customer.receives(1).await[0].text, "su pedido");
    let (mut answered, mut busy) = (0, 0);
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(1), answers.next()).await {
        let body: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        answered += 1;
        busy += u64::from(body["code"] == "busy");
    }
    // Of the first second and of one that is not whole, as well.
    let most = WORDS * (began.elapsed().as_secs() + 2);
    assert!(busy > 0 && busy <= most && answered < MANY, "{busy} of {answered}, {most} at most");
    // Whoever asks later gets an answer, and WhatsApp was asked so often and for the send.
    eventually("all of the budget to be used", PATIENCE, async || {
        match asker.refused("check-number", json!({"number": "5491170099999"})).await {
            (429, code) if code == "too-many" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(stage.simulator.counter("lookups").await <= 6, "WhatsApp was asked more often");
    let stats = asker.processes("STATS", 1).await;
    let check = &stats[0]["endpoints"][3];
    assert!(check["num_errors"].as_u64() >= Some(2_900), "{check}");
}

/// Whoever asks chooses where the answer goes.
#[tokio::test]
async fn nobody_has_a_process_write_into_a_stream_by_asking() {
    let stage = Stage::plan().setting("SERVICE", "on").setting("TAKEOVER", "30m").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let asker = Asker::of(&stage).await;
    let streams = stage.streams().await;
    asker.ask("link", "").await.expect("an edge");
    let stored = async |name: &str| {
        let mut stream = streams.jetstream().get_stream(name).await.expect("the stream");
        stream.info().await.expect("it").state.messages
    };
    let before = [stored("WA_IN").await, stored("WA_OUT").await];
    for reply in [
        "wa.in.default.message.5491",
        "wa.in.default.takeover.5491",
        "wa.out.default.send.5491",
        "$KV.WA_LEASES.default",
    ] {
        for subject in [
            "$SRV.PING",
            "$SRV.INFO.whatsapp-connector",
            "$SRV.STATS",
            "wa.svc.default.link",
            "wa.svc.default.buy",
            "wa.live.status",
        ] {
            asker.0.publish_with_reply(subject, reply, "".into()).await.expect("a question");
        }
    }
    // What was asked before these has been seen to.
    asker.ask("link", "").await.expect("an answer");
    asker.processes("STATS", 1).await;
    assert_eq!(asker.everybody("wa.live.status", "").await.len(), 1);
    assert_eq!([stored("WA_IN").await, stored("WA_OUT").await], before);
    let leases = streams.jetstream().get_key_value("WA_LEASES").await.expect("the bucket");
    let holder = leases.get("default").await.expect("an answer").expect("a lease");
    assert!(!holder.starts_with(b"{"), "{holder:?}");
}

#[tokio::test]
async fn a_bus_that_comes_back_finds_the_service_again() {
    let mut stage = Stage::plan().setting("SERVICE", "on").set().await;
    stage.logs.expects_an_outage_of_the_bus();
    let mut product = stage.product(Layout::OneProcess).await;
    stage.nats.kill();
    eventually("the process to notice", PATIENCE, async || {
        if product.edge.process.stderr().contains("nats-server is away") {
            Ok(())
        } else {
            Err("no".to_owned())
        }
    })
    .await;
    stage.nats.restart().await;
    product.edge.ready().await;
    let asker = Asker::of(&stage).await;
    assert_eq!(asker.ask("link", "").await.expect("the state")["state"], "online");
    assert_eq!(asker.processes("PING", 1).await.len(), 1);
}

/// The first request panics, and no other one knows of it.
#[tokio::test]
async fn a_request_that_panics_is_one_request() {
    let stage = Stage::plan().setting("SERVICE", "on").setting("PANIC_AT", "service request").set().await;
    stage.logs.expects("a task panicked");
    stage.logs.expects("panicked at");
    let _product = stage.product(Layout::OneProcess).await;
    let asker = Asker::of(&stage).await;
    assert_eq!(asker.processes("PING", 1).await.len(), 1);
    assert_eq!(asker.everybody("wa.svc.default.link", "").await, Vec::<Value>::new());
    assert_eq!(asker.ask("link", "").await.expect("the state")["state"], "online");
}

#[tokio::test]
async fn the_commands_ask_the_service() {
    let stage = Stage::plan().setting("SERVICE", "on").set().await;
    let run = async |arguments: &[&str]| {
        let mut settings = stage.settings().clone();
        settings.remove("RUST_LOG");
        let mut process = spawn_command(arguments, &settings, stage.dir());
        let code = process.end(PATIENCE).await.code();
        (code, process.stdout(), process.stderr())
    };
    let (code, _, said) = run(&["link"]).await;
    assert!(code == Some(69) && said.contains("SERVICE=on"), "{code:?} {said}");
    let mut edge: Connector = stage.start(Role::Run).await;
    edge.link(&stage.simulator).await;
    let customer = stage.customer().await;
    let (code, said, _) = run(&["link"]).await;
    assert!(code == Some(0) && said.contains(r#""state":"online""#), "{said}");
    let (code, said, _) = run(&["check-number", customer.phone()]).await;
    assert_eq!((code, said.trim()), (Some(0), r#"{"on_whatsapp":true,"number":"5491112345678"}"#));
    let (code, said, _) = run(&["check-number", "5491199990000"]).await;
    assert_eq!((code, said.trim()), (Some(1), r#"{"on_whatsapp":false,"number":""}"#));
    let (code, _, said) = run(&["check-number", "nobody"]).await;
    assert!(code == Some(1) && said.contains("with its country code"), "{said}");
    let (code, said, _) = run(&["unlink", "--account", "default"]).await;
    assert_eq!((code, said.trim()), (Some(0), r#"{"done":"unlinked"}"#));
    edge.not_ready("qr-ready").await;
    let (code, _, said) = run(&["unlink", "--account", "default"]).await;
    assert!(code == Some(1) && said.contains("Linked devices"), "{said}");
}
