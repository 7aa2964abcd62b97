//! The media server: what phones put there, what clients get, and what is refused.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::edge::Manners;
use crate::{ANA, SHOP, World, http};

async fn sends(world: &World, kind: &str, id: &str, media: Value) -> Result<(u16, String)> {
    let body = json!({"to": SHOP, "kind": kind, "id": id, "text": "mira", "media": media}).to_string();
    http::call(world.address(), "POST", &format!("/sim/customers/{ANA}/messages"), Some(&body)).await
}

#[tokio::test]
async fn a_file_comes_with_its_message_and_a_copy_is_the_same() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    let media = json!({"bytes": BASE64_STANDARD.encode("nota de voz"), "seconds": 3});
    for _ in 0..2 {
        assert_eq!(sends(&world, "voice", "V1", media.clone()).await?.0, 200, "the same is a copy");
    }
    let other = json!({"bytes": BASE64_STANDARD.encode("otra")});
    assert_eq!(sends(&world, "voice", "V1", other).await?.0, 409);
    let message = edge.message().await?.message;
    let audio = message.audio_message.as_option().context("an audio message")?;
    assert_eq!((audio.ptt, audio.seconds, audio.file_length), (Some(true), Some(3), Some(11)));
    assert_eq!(audio.file_sha256.as_deref(), Some(&Sha256::digest("nota de voz")[..]));
    let path = audio.direct_path.as_deref().context("a path")?;
    let (status, sealed) = http::bytes(world.address(), "GET", path, &[]).await?;
    assert_eq!(status, 200);
    assert_eq!(audio.file_enc_sha256.as_deref(), Some(&Sha256::digest(&sealed)[..]));
    world.fault(json!({"kind": "media_refused", "code": 403})).await?;
    assert_eq!(http::bytes(world.address(), "GET", path, &[]).await?.0, 403);
    Ok(())
}

#[tokio::test]
async fn what_a_client_uploads_is_there_if_it_is_what_the_token_says() -> Result<()> {
    let world = World::new().await?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(b"sealed"));
    let path = format!("/mms/image/{token}");
    assert_eq!(http::bytes(world.address(), "POST", &path, b"another").await?.0, 400);
    let (status, answer) = http::bytes(world.address(), "POST", &path, b"sealed").await?;
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&answer)?;
    let path = answer["direct_path"].as_str().context("a path")?;
    assert_eq!(http::bytes(world.address(), "GET", path, &[]).await?, (200, b"sealed".to_vec()));
    assert_eq!(http::bytes(world.address(), "GET", "/media/nothing.enc", &[]).await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn a_file_goes_with_some_kinds_and_some_kinds_need_one() -> Result<()> {
    let world = World::new().await?;
    let media = json!({"bytes": BASE64_STANDARD.encode("x")});
    assert_eq!(sends(&world, "location", "L1", media).await?.0, 400);
    assert_eq!(sends(&world, "document", "D1", Value::Null).await?.0, 400);
    Ok(())
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_and_one_with_an_old_word_is_refused() -> Result<()> {
    let world = World::new().await?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(b"sealed"));
    let path = format!("/mms/image/{token}");
    let said = async |query: &str, body: &[u8]| {
        let (status, answer) = http::bytes(world.address(), "POST", &format!("{path}?{query}"), body).await?;
        anyhow::Ok((status, serde_json::from_slice::<Value>(&answer).unwrap_or_default()["resume"].clone()))
    };
    assert_eq!(said("resume=1", b"").await?.0, 404);
    world.fault(json!({"kind": "upload_half", "attributes": {"times": "1"}})).await?;
    assert_eq!(said("", b"sealed").await?.0, 503);
    assert_eq!(said("resume=1", b"").await?, (200, json!("3")));
    assert_eq!(said("file_offset=3", b"led").await?.0, 200);
    assert_eq!(said("resume=1", b"").await?, (200, json!("complete")));
    assert_eq!(said("auth=old", b"sealed").await?.0, 401);
    world.fault(json!({"kind": "upload_refused", "code": 418, "attributes": {"times": "1"}})).await?;
    assert_eq!(said("", b"sealed").await?.0, 418);
    assert_eq!(said("", b"sealed").await?.0, 200);
    Ok(())
}
