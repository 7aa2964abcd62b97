//! The simulator's own restart, with the client's store kept.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use whatsapp_simulator::{Config, Simulator};

use crate::edge::Manners;
use crate::{ANA, LEO, SHOP, World, pn};

async fn simulator(state: &Path, listen: std::net::SocketAddr) -> Result<whatsapp_simulator::Handle> {
    let config = Config { listen, state: Some(state.to_owned()) };
    Ok(Simulator::start(config).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_restart_of_the_simulator() -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let state = directory.path().join("state");
    let mut world = World { simulator: simulator(&state, Config::default().listen).await?, directory };
    world.people(json!({})).await?;
    let address = world.address();
    let mut edge = world.linked(Manners::Take).await?;
    for customer in [ANA, LEO] {
        world.writes(customer, "antes").await?;
        let chat = edge.message().await?.chat;
        edge.send(chat, "respuesta antes").await?;
        world.inbox(customer, 0).await?;
    }
    world.all_acknowledged().await?;
    // Not received when the simulator stops.
    world.fault(json!({"kind": "drop_connection", "for_ms": 600_000})).await?;
    let waiting = world.writes(ANA, "mientras no estabas").await?;

    let World { simulator: old, directory } = world;
    old.shutdown().await?;
    world = World { simulator: simulator(&state, address).await?, directory };

    // The same client comes back by itself: same link, same server key, same sessions.
    let inbound = edge.message().await?;
    assert_eq!((inbound.id.as_str(), inbound.text.as_str()), (waiting.as_str(), "mientras no estabas"));
    world.status(ANA, &waiting, "delivered").await?;
    for customer in [ANA, LEO] {
        let id = world.writes(customer, "después").await?;
        assert_eq!(edge.message().await?.id, id);
        edge.send(pn(customer), "respuesta después").await?;
        let inbox = world.inbox(customer, 1).await?;
        assert_eq!(inbox[0]["seq"], 2);
        assert_eq!(inbox[0]["text"], "respuesta después");
        let all = world.inbox(customer, 0).await?;
        assert_eq!(all[0]["text"], "respuesta antes");
    }
    let state = world.all_acknowledged().await?;
    assert_eq!(state["counters"]["handshakes"]["xxfallback"], 0);
    assert!(state["counters"]["handshakes"]["ik"].as_u64() >= Some(1));
    assert_eq!(state["counters"]["undecryptable"], 0);
    assert_eq!(state["counters"]["retry_requests"], 0);
    // The same account again is no conflict, and keeps its device.
    let shop = world.post("/sim/accounts", json!({"phone": SHOP, "name": "Shop"})).await?;
    assert_eq!(shop["devices"], json!([1]));
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_an_old_server_key_falls_back_and_is_refused() -> Result<()> {
    let world = World::new().await?;
    let address = world.address();
    let edge = world.linked(Manners::Take).await?;
    edge.stop().await?;
    let World { simulator, directory } = world;
    simulator.shutdown().await?;
    // Another simulator that knows neither the key nor the device.
    let listen = address;
    let world = World { simulator: Simulator::start(Config { listen, state: None }).await?, directory };
    let edge = world.edge(Manners::Take).await?;
    edge.event("LoggedOut", |event| {
        matches!(event, whatsapp_rust::prelude::Event::LoggedOut(_)).then_some(())
    })
    .await?;
    let state = world.get("/sim/state").await?;
    assert_eq!(state["counters"]["handshakes"]["xxfallback"], 1);
    assert_eq!(state["counters"]["logins_refused"], 1);
    edge.ended().await
}

fn copy_store(from: &Path, to: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        let _ = std::fs::remove_file(name(to));
        if Path::new(&name(from)).exists() {
            std::fs::copy(name(from), name(to))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_set_back_to_a_backup_recovers_by_retries() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    world.writes(ANA, "hola").await?;
    let chat = edge.message().await?.chat;
    edge.send(chat.clone(), "buenas").await?;
    world.inbox(ANA, 0).await?;
    world.all_acknowledged().await?;
    edge.stop().await?;
    let backup = world.directory.path().join("backup.db");
    copy_store(&world.store(), &backup)?;

    // The ratchet turns a few times after the backup.
    let mut edge = world.edge(Manners::Take).await?;
    for round in 0..3 {
        world.writes(ANA, "¿y?").await?;
        edge.message().await?;
        edge.send(chat.clone(), "ya va").await?;
        world.inbox(ANA, 1 + round).await?;
    }
    world.all_acknowledged().await?;
    edge.stop().await?;
    copy_store(&backup, &world.store())?;

    let mut edge = world.edge(Manners::Take).await?;
    let id = world.writes(ANA, "después del respaldo").await?;
    let inbound = edge.message().await?;
    assert_eq!((inbound.id, inbound.text.as_str()), (id, "después del respaldo"));
    edge.send(chat, "aquí estamos").await?;
    let inbox = world.inbox(ANA, 4).await?;
    assert_eq!(inbox[0]["text"], "aquí estamos");
    let state = world.all_acknowledged().await?;
    let counters = &state["counters"];
    assert!(counters["retry_requests"].as_u64() >= Some(1), "{counters}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_phone_cannot_decrypt_it_asks_for_again() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    world.writes(ANA, "hola").await?;
    let chat = edge.message().await?.chat;
    edge.send(chat.clone(), "uno").await?;
    world.inbox(ANA, 0).await?;
    world.all_acknowledged().await?;
    edge.stop().await?;
    let backup = world.directory.path().join("backup.db");
    copy_store(&world.store(), &backup)?;
    let edge = world.edge(Manners::Take).await?;
    edge.send(chat.clone(), "dos").await?;
    world.inbox(ANA, 1).await?;
    world.all_acknowledged().await?;
    edge.stop().await?;
    copy_store(&backup, &world.store())?;

    // The client now repeats ratchet keys that the phone has used up.
    let edge = world.edge(Manners::Take).await?;
    for n in 0..40 {
        edge.send(chat.clone(), &format!("tres {n}")).await?;
    }
    let path = format!("/sim/customers/{ANA}/inbox");
    world.until(&path, |inbox| inbox["messages"].as_array().is_some_and(|all| all.len() == 42)).await?;
    let state = world.all_acknowledged().await?;
    assert!(state["counters"]["undecryptable"].as_u64() >= Some(1), "{state}");
    edge.stop().await
}
