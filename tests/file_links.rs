//! `MEDIA_URL`: a file can be fetched from the address that a call names, for a while, and no other file can.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use futures::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use whatsapp_connector::wire::{FileLinks, now_ms};

use crate::support::{
    Answer, Connector, Customer, Layout, PATIENCE, Product, Role, Stage, Unwell, eventually,
};

const SECRET: &str = "a-secret-of-the-tests";
/// Where the backend thinks that files are; here they are behind a port that nobody knows beforehand.
const BASE: &str = "http://edge:8080";

async fn stage(backend: &Unwell, settings: &[(&str, &str)]) -> Stage {
    let all = [
        ("BACKEND_URL", backend.url()),
        ("BACKEND_FIELDS", "full"),
        ("MEDIA", "inbound"),
        ("MEDIA_WAIT", "1m"),
        ("MEDIA_URL", BASE),
        ("MEDIA_URL_SECRET", SECRET),
    ];
    let all = all.iter().chain(settings);
    all.fold(Stage::plan(), |plan, (name, value)| plan.setting(name, value)).set().await
}

async fn backend() -> Unwell {
    Unwell::start(|_| Answer::text("¡gracias!")).await
}

/// Sends a file; returns what the backend is told of it.
async fn media(backend: &Unwell, customer: &Customer, kind: &str, content: &[u8]) -> Value {
    let count = backend.asked().len();
    let media = json!({"bytes": BASE64_STANDARD.encode(content)});
    customer.write_with(json!({"kind": kind, "media": media})).await;
    eventually("a call", PATIENCE, async || {
        let asked = backend.asked();
        let asked = asked.get(count).ok_or("none")?;
        let body: Value = serde_json::from_str(&asked.body).map_err(|error| error.to_string())?;
        Ok::<_, String>(body["media"].clone())
    })
    .await
}

/// Below the address of a process.
async fn ask(process: &Connector, method: Method, url: &str) -> Response {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
    let url = url.replace(BASE, &format!("http://{}", process.address()));
    client.request(method, url).send().await.expect("an answer")
}

async fn get(process: &Connector, url: &str) -> Response {
    ask(process, Method::GET, url).await
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_file_comes_from_its_address_whole_and_as_a_file() {
    let backend = backend().await;
    let stage = stage(&backend, &[]).await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    // More than one piece, and one that is not full.
    let content: Vec<u8> =
        (0..300_001_u32).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect();
    let media_of_image = media(&backend, &customer, "image", &content).await;
    let url = media_of_image["url"].as_str().expect("an address");
    assert!(url.starts_with(&format!("{BASE}/media/")), "{url}");
    assert!(!url.contains(customer.phone()), "{url}");
    for process in [&product.edge, &product.forwarders[0]] {
        let answer = get(process, url).await;
        assert_eq!(answer.status(), 200);
        for (name, value) in [
            ("content-type", "image/jpeg"),
            ("content-length", "300001"),
            ("content-disposition", "attachment"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(&answer, name), value);
        }
        assert!(answer.bytes().await.expect("the file") == content, "it is another file");
        let head = ask(process, Method::HEAD, url).await;
        assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "300001"));
        assert_eq!(head.bytes().await.expect("no body").len(), 0);
        assert_eq!(ask(process, Method::POST, url).await.status(), 405);
    }
    // And twice at once.
    let both = join_all([get(&product.edge, url), get(&product.edge, url)]).await;
    for answer in both {
        assert_eq!(answer.bytes().await.expect("the file").len(), content.len());
    }
}

#[tokio::test]
async fn no_other_file_and_no_later_time_has_an_address() {
    let backend = backend().await;
    let stage = stage(&backend, &[("MEDIA_URL_TTL", "1s")]).await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let first = media(&backend, &customer, "image", b"una").await;
    let second = media(&backend, &customer, "image", b"otra").await;
    let url = |media: &Value| media["url"].as_str().expect("an address").to_owned();
    let (first, second) = (url(&first), url(&second));
    // It was good, and is not for long.
    let refused = eventually("the address to be too old", PATIENCE, async || {
        let answer = get(&product.edge, &second).await;
        match answer.status().as_u16() {
            403 => Ok(answer),
            status => Err(status.to_string()),
        }
    })
    .await;
    let words = refused.text().await.expect("words");
    let links = FileLinks::new(SECRET).expect("links");
    let now = u64::try_from(now_ms() / 1_000).expect("a time");
    let key = format!("default/{0}/{0}/", customer.phone());
    let signed = |key: &str| links.sign(BASE, key, "image/jpeg", now + 900);
    let name = |url: &str| url.split(['/', '?']).nth(4).expect("a name").to_owned();
    let absent = signed(&key);
    let good = absent.replace(&name(&absent), &name(&first));
    let foreign =
        FileLinks::new("another-secret-of-the-tests").expect("links").sign(BASE, &key, "", now + 900);
    for wrong in [
        good,
        foreign,
        first.clone(),
        first.replace("expires=", "expires=9"),
        format!("{BASE}/media/{}", name(&first)),
        format!("{BASE}/media/{}?", name(&absent)),
        format!("{BASE}/media/x?expires=9&signature=x"),
    ] {
        let answer = get(&product.edge, &wrong).await;
        assert_eq!(answer.status(), 403, "{wrong}");
        // Whatever is wrong, and whether there is such a file: nobody is told.
        assert_eq!(answer.text().await.expect("words"), words, "{wrong}");
    }
    // A good signature for what is not there.
    assert_eq!(get(&product.edge, &absent).await.status(), 404);
}

/// Half of a file, or another one, is never whole.
#[tokio::test]
async fn a_file_that_is_not_what_it_was_breaks_off() {
    let backend = backend().await;
    let stage = stage(&backend, &[]).await;
    let product = stage.product(Layout::OneProcess).await;
    let streams = stage.streams().await;
    let put = async |subject: &str, payload: String| {
        let stored = streams.jetstream().publish(format!("$O.WA_MEDIA.{subject}"), payload.into()).await;
        stored.expect("a publish").await.expect("a PubAck").sequence
    };
    let links = FileLinks::new(SECRET).expect("links");
    let url = |key: &str| links.sign(BASE, key, "", u64::MAX);
    let describe = async |key: &str, content: &str| {
        let digest = format!("SHA-256={}", BASE64_URL_SAFE.encode(Sha256::digest(content)));
        let description =
            json!({"name": key, "nuid": key, "size": content.len(), "chunks": 2, "digest": digest});
        put(&format!("M.{}", BASE64_URL_SAFE.encode(key)), description.to_string()).await;
    };
    for key in ["good", "other", "half"] {
        put(&format!("C.{key}"), "una ".to_owned()).await;
        let last = put(&format!("C.{key}"), "foto".to_owned()).await;
        describe(key, if key == "other" { "una cosa" } else { "una foto" }).await;
        if key == "half" {
            let bucket = streams.jetstream().get_stream("OBJ_WA_MEDIA").await.expect("the bucket");
            bucket.delete_message(last).await.expect("a piece less");
        }
    }
    let good = get(&product.edge, &url("good")).await;
    assert_eq!(header(&good, "content-type"), "application/octet-stream");
    assert_eq!(good.text().await.expect("the file"), "una foto");
    for key in ["other", "half"] {
        let answer = get(&product.edge, &url(key)).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "content-length")), (200, "8"));
        assert!(answer.bytes().await.is_err(), "{key} looks whole");
    }
}

/// Without the secret there is nothing to guess at.
#[tokio::test]
async fn a_process_without_the_secret_serves_no_files() {
    let stage = Stage::plan().set().await;
    let edge = stage.start(Role::Edge).await;
    let url = FileLinks::new(SECRET).expect("links").sign(BASE, "a", "", u64::MAX);
    assert_eq!(get(&edge, &url).await.status(), 404);
    assert_eq!(get(&edge, &format!("{BASE}/livez")).await.status(), 200);
}

/// Clients that do not read hold a place each, and others are told to come later.
#[tokio::test]
async fn only_so_many_files_are_read_at_once() {
    let backend = backend().await;
    let stage = stage(&backend, &[]).await;
    let Product { edge, .. } = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let content = vec![7; 16 << 20];
    let media = media(&backend, &customer, "document", &content).await;
    let url = media["url"].as_str().expect("an address");
    let before = edge.process.peak_memory();
    let mut held = Vec::new();
    for _ in 0..8 {
        let answer = get(&edge, url).await;
        assert_eq!(answer.status(), 200);
        held.push(answer);
    }
    let answer = get(&edge, url).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, "1"));
    assert_eq!(get(&edge, &format!("{BASE}/livez")).await.status(), 200, "others are answered");
    // The places are free again when their clients have read, or have gone.
    let first = held.remove(0);
    assert_eq!(first.bytes().await.expect("the file").len(), content.len());
    held.clear();
    eventually("a free place", PATIENCE, async || match get(&edge, url).await.status().as_u16() {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let more = edge.process.peak_memory().saturating_sub(before);
    assert!(more < 48 << 20, "{} MiB more for eight files of 16 MiB", more >> 20);
}
