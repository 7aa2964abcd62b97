//! Groups: sender keys both ways, receipts of members, repair, and what devices are told of changes.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use whatsapp_rust::prelude::*;

use crate::edge::{Edge, Manners};
use crate::{ANA, LEO, SHOP, World, http};

const GROUP: &str = "120363000000000001@g.us";

async fn group(world: &World, more: Value) -> Result<Jid> {
    let mut group = json!({"id": GROUP, "subject": "Mesa", "members": [SHOP, ANA, LEO]});
    for (key, value) in more.as_object().context("an object")? {
        group[key] = value.clone();
    }
    world.post("/sim/groups", group).await?;
    Ok(GROUP.parse()?)
}

async fn says(world: &World, customer: &str, text: &str) -> Result<String> {
    let body = json!({"to": SHOP, "text": text, "through": GROUP});
    let answer = world.post(&format!("/sim/customers/{customer}/messages"), body).await?;
    Ok(answer["id"].as_str().context("an id")?.to_owned())
}

async fn conversation(addressing: &str) -> Result<()> {
    let world = World::new().await?;
    let group = group(&world, json!({"addressing": addressing})).await?;
    let mut edge = world.linked(Manners::Take).await?;
    for round in 0..2_u64 {
        for customer in [ANA, LEO] {
            let text = format!("{customer} pregunta {round}");
            let id = says(&world, customer, &text).await?;
            let inbound = edge.message().await?;
            assert_eq!((&inbound.id, &inbound.text, &inbound.chat), (&id, &text, &group));
            assert_eq!(inbound.sender.is_lid(), addressing == "lid");
            world.status(customer, &id, "delivered").await?;
        }
        let id = edge.send(group.clone(), &format!("respuesta {round}")).await?;
        for (customer, other) in [(ANA, LEO), (LEO, ANA)] {
            let path = format!("/sim/customers/{customer}/inbox");
            let inbox = world.until(&path, |inbox| {
                inbox["messages"].as_array().is_some_and(|all| all.iter().any(|one| one["id"] == id.as_str()))
            });
            let inbox = inbox.await?;
            let texts: Vec<_> = inbox["messages"].as_array().into_iter().flatten().collect();
            let answer = texts.iter().find(|one| one["id"] == id.as_str()).context("the answer")?;
            assert_eq!(
                (&answer["text"], &answer["group"]),
                (&json!(format!("respuesta {round}")), &json!(GROUP))
            );
            assert!(texts.iter().any(|one| one["from"] == other && one["group"] == GROUP), "{texts:?}");
        }
    }
    let state = world.all_acknowledged().await?;
    assert_eq!(
        (&state["counters"]["group_retries"], &state["counters"]["unknown_iqs"]),
        (&json!(0), &json!(0))
    );
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_hidden_ids_talks() -> Result<()> {
    conversation("lid").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_numbers_talks() -> Result<()> {
    conversation("pn").await
}

async fn receipt(edge: &Edge, id: &str) -> Result<(Jid, Jid)> {
    edge.event("a receipt", |event| match event {
        Event::Receipt(receipt) if receipt.message_ids.iter().any(|one| one == id) => {
            Some((receipt.source.chat.clone(), receipt.source.sender.clone()))
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_name_the_member_and_who_cannot_read_is_helped() -> Result<()> {
    let world = World::new().await?;
    let group = group(&world, json!({})).await?;
    let edge = world.linked(Manners::Take).await?;
    let id = edge.send(group.clone(), "uno").await?;
    let (chat, member) = receipt(&edge, &id).await?;
    assert_eq!(chat, group);
    assert!(member.is_lid());
    world.inbox(ANA, 0).await?;

    world.post(&format!("/sim/customers/{ANA}/lose-keys"), json!({"group": GROUP})).await?;
    edge.send(group.clone(), "dos").await?;
    let inbox = world.inbox(ANA, 1).await?;
    assert_eq!((&inbox[0]["text"], &inbox[0]["copies"]), (&json!("dos"), &json!(1)));
    let state = world.get("/sim/state").await?;
    let counters = &state["counters"];
    assert_eq!((&counters["group_retries"], &counters["group_resends"]), (&json!(1), &json!(1)));
    // The next one comes with the key.
    edge.send(group, "tres").await?;
    assert_eq!(world.inbox(ANA, 2).await?[0]["text"], "tres");
    let state = world.get("/sim/state").await?;
    assert_eq!(state["counters"]["group_retries"], 1);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_told_what_changes_also_those_that_were_away() -> Result<()> {
    let world = World::new().await?;
    group(&world, json!({"members": [SHOP, ANA]})).await?;
    let edge = world.linked(Manners::Take).await?;
    let change = |what: Value| world.post("/sim/groups/120363000000000001@g.us/change", what);
    change(json!({"by": ANA, "subject": "Mesa 4", "announce": true})).await?;
    let mut told = Vec::new();
    for _ in 0..2 {
        let action = edge.event("a change", |event| match event {
            Event::GroupUpdate(update) => Some(update.action.tag_name().to_owned()),
            _ => None,
        });
        told.push(action.await?);
    }
    told.sort();
    assert_eq!(told, ["announcement", "subject"]);
    // Only admins may write now.
    let refused = edge.send(GROUP.parse()?, "nadie").await.expect_err("refused");
    assert!(refused.to_string().contains("420"), "{refused}");
    edge.stop().await?;

    change(json!({"by": ANA, "add": [LEO], "promote": [SHOP]})).await?;
    let edge = world.edge(Manners::Take).await?;
    edge.event("a change", |event| matches!(event, Event::GroupUpdate(_)).then_some(())).await?;
    edge.send(GROUP.parse()?, "hola a todos").await?;
    assert_eq!(world.inbox(LEO, 0).await?[0]["text"], "hola a todos");
    let outsider = json!({"to": SHOP, "text": "hola", "through": GROUP});
    change(json!({"by": ANA, "remove": [LEO]})).await?;
    let path = format!("/sim/customers/{LEO}/messages");
    http::bad(world.address(), "POST", &path, &outsider.to_string(), 409).await?;
    edge.stop().await
}
