//! A page that was made for the earlier service reads `/status` here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, QrCode};
use serde_json::Value;

use crate::support::{PATIENCE, Port, Role, Stage, eventually, http_client};

const ORIGIN: &str = "https://admin.example.com";

/// Reads the dots of the code off its picture: the middle of each, inside the white margin.
fn dots(picture: &str) -> Vec<Color> {
    let bytes = picture.strip_prefix("data:image/png;base64,").expect("a picture");
    let bytes = STANDARD.decode(bytes).expect("base64");
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let frame = reader.next_frame(&mut pixels).expect("pixels");
    let side = frame.width as usize;
    let dark = |x: usize, y: usize| pixels[y * side + x] == 0;
    let margin = (0..side).find(|at| dark(*at, *at)).expect("a first dot");
    // The corner's pattern is seven dots wide.
    let dot = (margin..side).take_while(|x| dark(*x, margin)).count() / 7;
    let count = (side - 2 * margin) / dot;
    let at = |dots: usize| margin + dots * dot + dot / 2;
    let each = (0..count).flat_map(|y| (0..count).map(move |x| (x, y)));
    each.map(|(x, y)| if dark(at(x), at(y)) { Color::Dark } else { Color::Light }).collect()
}

#[tokio::test]
async fn a_page_of_the_earlier_service_sees_the_code_and_then_that_it_is_linked() {
    let stage = Stage::plan().setting("COMPAT_STATUS", "on").setting("HTTP_CORS_ORIGIN", ORIGIN).set().await;
    let mut edge = stage.start(Role::Edge).await;
    let base = format!("http://{}", edge.address());
    let client = http_client();
    let status = async || -> (Option<String>, Value) {
        let answer =
            client.get(format!("{base}/status")).header("origin", ORIGIN).send().await.expect("an answer");
        let allowed = answer.headers().get("access-control-allow-origin");
        let allowed = allowed.map(|origin| origin.to_str().expect("text").to_owned());
        (allowed, answer.json().await.expect("JSON"))
    };
    edge.shows_a_code().await;
    eventually("the picture of the code that is offered", PATIENCE, async || {
        let (before, (allowed, seen), after) =
            (edge.link_state().await, status().await, edge.link_state().await);
        assert_eq!(allowed.as_deref(), Some(ORIGIN));
        assert_eq!(seen["connected"], false);
        // It may have been renewed in between.
        if before["qr"] != after["qr"] {
            return Err("another code".to_owned());
        }
        let code = QrCode::new(before["qr"].as_str().ok_or("no code")?).expect("a code");
        assert!(dots(seen["qr"].as_str().expect("a picture")) == code.to_colors(), "another picture");
        Ok(())
    })
    .await;

    edge.link(&stage.simulator).await;
    let (_, linked) = status().await;
    assert_eq!(linked, serde_json::json!({"connected": true, "qr": null}));

    // A browser asks first whether it may send a token.
    let asked = client.request("OPTIONS".parse().expect("a method"), format!("{base}/status"));
    let asked = asked.header("origin", ORIGIN).header("access-control-request-headers", "authorization");
    let asked = asked.send().await.expect("an answer");
    assert_eq!(
        (asked.status().as_u16(), &asked.headers()["access-control-allow-headers"]),
        (204, &"authorization".parse().expect("a value"))
    );
    edge.stop().await;
}

#[tokio::test]
async fn it_is_off_by_default_and_guarded_as_the_link_is() {
    let stage = Stage::plan().setting("HTTP_TOKEN", "a-token-of-the-tests").set().await;
    let status = async |settings: &[(&str, &str)], token: bool| {
        let edge = stage.start_with(Role::Edge, settings).await;
        let asked = http_client().get(format!("http://{}/status", edge.address()));
        let asked = if token { asked.bearer_auth("a-token-of-the-tests") } else { asked };
        let answer = asked.send().await.expect("an answer");
        let origin = answer.headers().contains_key("access-control-allow-origin");
        edge.stop().await;
        (answer.status().as_u16(), origin)
    };
    assert_eq!(status(&[], true).await, (404, false));
    assert_eq!(status(&[("COMPAT_STATUS", "on")], false).await, (401, false));
    assert_eq!(status(&[("COMPAT_STATUS", "on")], true).await, (200, false));
}

/// The environment file of the earlier service is enough.
#[tokio::test]
async fn the_names_of_the_earlier_service_are_understood() {
    let mut stage = Stage::plan().set().await;
    let port = Port::free();
    stage.set("PORT", &port.number().to_string());
    stage.set("HTTP_ADDR", "");
    let edge = stage.start(Role::Edge).await;
    assert_eq!(edge.address(), format!("0.0.0.0:{}", port.number()));
    let log = edge.process.stderr() + &edge.process.stdout();
    assert!(log.contains("PORT is taken for HTTP_ADDR"), "{log}");
    edge.stop().await;
}
