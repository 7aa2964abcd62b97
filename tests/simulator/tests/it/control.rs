//! The control API's answers to the wrong and the unusual.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use whatsapp_simulator::{Config, Simulator, StartError};

use crate::http::{bad, call};
use crate::{ANA, SHOP, World};

#[tokio::test]
async fn every_error_names_the_field_and_what_to_do() -> Result<()> {
    let world = World::new().await?;
    let messages = format!("/sim/customers/{ANA}/messages");
    let scan = format!("/sim/accounts/{SHOP}/scan");
    let cases = [
        ("POST", "/sim/accounts", "", 400, "empty"),
        ("POST", "/sim/accounts", "{", 400, "body"),
        ("POST", "/sim/accounts", r#"{"name":"x"}"#, 400, "phone"),
        ("POST", "/sim/accounts", r#"{"phone":"+54 9","name":"x"}"#, 400, "digits"),
        ("POST", "/sim/accounts", r#"{"phone":"5491100000","name":" "}"#, 400, "name"),
        ("POST", "/sim/accounts", r#"{"phone":"5491100000","name":"x","nmae":1}"#, 400, "nmae"),
        ("POST", "/sim/accounts", r#"{"phone":"5491150000000","name":"Other"}"#, 409, "exists"),
        ("POST", "/sim/accounts", r#"{"phone":"5491112345678","name":"Ana"}"#, 409, "customer"),
        ("POST", "/sim/customers", r#"{"phone":"5491150000000","name":"x"}"#, 409, "account"),
        (
            "POST",
            "/sim/customers",
            r#"{"phone":"5491112345678","name":"Ana","addressing":"lid"}"#,
            409,
            "addressing",
        ),
        (
            "POST",
            "/sim/customers",
            r#"{"phone":"5491100000","name":"x","addressing":"fax"}"#,
            400,
            "addressing",
        ),
        ("POST", &scan, r#"{"qr":"hello"}"#, 400, "qr"),
        (
            "POST",
            "/sim/accounts/5490000000/scan",
            r#"{"qr":"2@A,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,1"}"#,
            404,
            "POST /sim/accounts",
        ),
        (
            "POST",
            &scan,
            r#"{"qr":"2@A,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,1"}"#,
            409,
            "expired",
        ),
        ("POST", &messages, r#"{"to":"5491150000000"}"#, 400, "text"),
        ("POST", &messages, r#"{"to":"5490000000","text":"x"}"#, 404, "POST /sim/accounts"),
        ("POST", &messages, r#"{"to":"5491150000000","text":"x","kind":"fax"}"#, 400, "sticker"),
        ("POST", &messages, r#"{"to":"5491150000000","text":"x","at":"soon"}"#, 400, "at"),
        ("POST", &messages, r#"{"to":"5491150000000","text":"x","id":"a b"}"#, 400, "id"),
        (
            "POST",
            "/sim/customers/5490000000/messages",
            r#"{"to":"5491150000000","text":"x"}"#,
            404,
            "POST /sim/customers",
        ),
        ("GET", "/sim/customers/5490000000/inbox", "", 404, "POST /sim/customers"),
        ("GET", "/sim/customers/5491112345678/inbox?since=x", "", 400, "since"),
        ("GET", "/sim/customers/5490000000/sent", "", 404, "POST /sim/customers"),
        ("GET", "/sim/customers/+54911/sent", "", 400, "digits"),
        ("POST", "/sim/faults", r#"{"kind":"earthquake"}"#, 400, "mute_receipts"),
        ("POST", "/sim/faults", r#"{"kind":"delay"}"#, 400, "delay_ms"),
        ("POST", "/sim/faults", r#"{"kind":"nack","account":"5490000000"}"#, 404, "POST /sim/accounts"),
        ("GET", "/sim/nothing", "", 404, "/sim/help"),
        ("DELETE", "/sim/state", "", 405, "/sim/help"),
        ("GET", "/ws/chat", "", 400, "WebSocket"),
    ];
    for (method, path, body, status, hint) in cases {
        let error = bad(world.address(), method, path, body, status).await?;
        assert!(error.contains(hint), "{method} {path} {body}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn creating_the_same_again_is_no_error() -> Result<()> {
    let world = World::new().await?;
    let shop = json!({"phone": SHOP, "name": "Shop"}).to_string();
    let (status, first) = call(world.address(), "POST", "/sim/accounts", Some(&shop)).await?;
    assert_eq!(status, 200, "{first}");
    let other = json!({"phone": "5491150000001", "name": "Shop"}).to_string();
    let (status, body) = call(world.address(), "POST", "/sim/accounts", Some(&other)).await?;
    assert_eq!(status, 201, "{body}");
    Ok(())
}

#[tokio::test]
async fn a_message_to_an_account_without_devices_is_accepted() -> Result<()> {
    let world = World::new().await?;
    let id = world.writes(ANA, "¿hola?").await?;
    let sent = world.get(&format!("/sim/customers/{ANA}/sent")).await?;
    assert_eq!(sent["messages"][0]["id"], id.as_str());
    assert_eq!(sent["messages"][0]["status"], "sent");
    // An id stands for one content.
    let path = format!("/sim/customers/{ANA}/messages");
    let other = json!({"to": SHOP, "text": "otra cosa", "id": id}).to_string();
    let error = bad(world.address(), "POST", &path, &other, 409).await?;
    assert!(error.contains(&id), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_empty_inbox_is_answered_at_once_or_after_the_wait() -> Result<()> {
    let world = World::new().await?;
    let path = format!("/sim/customers/{ANA}/inbox");
    assert_eq!(world.get(&path).await?, json!({"messages": []}));
    let start = tokio::time::Instant::now();
    let answer = world.get(&format!("{path}?since=0&wait_ms=300")).await?;
    assert_eq!(answer, json!({"messages": []}));
    assert!(start.elapsed().as_millis() >= 300);
    Ok(())
}

#[tokio::test]
async fn faults_are_listed_end_by_themselves_and_are_cleared() -> Result<()> {
    let world = World::new().await?;
    world.fault(json!({"kind": "nack", "code": 479, "account": SHOP})).await?;
    world.fault(json!({"kind": "mute_acks", "for_ms": 50})).await?;
    let of = |listed: &Value| listed["faults"].as_array().map(Vec::len);
    let listed = world.until("/sim/faults", |listed| of(listed) == Some(1)).await?;
    assert_eq!(listed["faults"][0]["kind"], "nack");
    assert_eq!(listed["faults"][0]["code"], 479);
    assert_eq!(listed["faults"][0]["account"], SHOP);
    world.clear_faults().await?;
    assert_eq!(of(&world.get("/sim/faults").await?), Some(0));
    Ok(())
}

#[tokio::test]
async fn help_lists_the_calls() -> Result<()> {
    let world = World::new().await?;
    for path in ["/", "/sim/help"] {
        let (status, text) = call(world.address(), "GET", path, None).await?;
        assert_eq!(status, 200);
        assert!(text.contains("/sim/customers/{phone}/inbox"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn it_says_that_it_is_alive() -> Result<()> {
    let world = World::new().await?;
    let (status, text) = call(world.address(), "GET", "/livez", None).await?;
    assert_eq!((status, text.trim()), (200, "alive"));
    Ok(())
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() -> Result<()> {
    let config = Config { listen: "0.0.0.0:0".parse()?, state: None };
    let error = Simulator::start(config).await.err().context("started")?;
    assert!(matches!(error, StartError::NotLoopback(_)));
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    Ok(())
}

#[tokio::test]
async fn nonsense_on_the_socket_ends_that_connection_only() -> Result<()> {
    let world = World::new().await?;
    for garbage in [&b"\x82\x05hello"[..], b"\x82\x08WA\x06\x03\x00\x00\x01\xff", b"\xff\x00"] {
        let mut socket = tokio::net::TcpStream::connect(world.address()).await?;
        let upgrade = "GET /ws/chat HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(upgrade.as_bytes()).await?;
        socket.write_all(garbage).await?;
        let mut answer = Vec::new();
        // The server must close; whether it does so with a reset is its business.
        let closed = tokio::time::timeout(crate::LIMIT, socket.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "the server kept the connection");
    }
    let state = world.until("/sim/state", |state| state["connections"] == 0).await?;
    assert_eq!(state["counters"]["connects"], 3);
    Ok(())
}
