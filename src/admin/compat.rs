//! `GET /status` as the service gave it that this one replaces, so that a page made for that service goes on to work.
//! Off unless `COMPAT_STATUS=on`; guarded as `/link` is.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, middleware};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, QrCode};
use serde::Serialize;

use super::guard::Guard;
use super::{Status, link};

/// Pixels for each dot of a code, and dots of white around it.
const SCALE: usize = 6;
const MARGIN: usize = 4;

/// What is served.
#[derive(Debug, Clone, Default)]
pub struct Compat {
    /// The pages of this origin may read it.
    origin: Option<HeaderValue>,
}

impl Compat {
    /// For the pages of this origin.
    pub fn new(origin: Option<&str>) -> Self {
        Self { origin: origin.and_then(|origin| origin.parse().ok()) }
    }
}

/// What that service answers.
#[derive(Debug, Serialize)]
struct Answer {
    connected: bool,
    /// A picture of the code, as a `data:` address.
    qr: Option<String>,
}

type Shared = (Arc<Status>, Arc<Guard>, Compat);

/// The routes.
pub(super) fn routes(status: &Arc<Status>, guard: &Arc<Guard>, compat: Compat) -> axum::Router {
    let shared: Shared = (Arc::clone(status), Arc::clone(guard), compat.clone());
    axum::Router::new()
        .route("/status", axum::routing::get(answer).options(preflight))
        .with_state(shared)
        .layer(middleware::map_response_with_state(compat, with_origin))
}

async fn answer(
    State((status, guard, _)): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = guard.refusal(peer, &headers) {
        return refusal;
    }
    let link = link(&status);
    Json(Answer { connected: link.state == "online", qr: link.qr.as_deref().and_then(picture) })
        .into_response()
}

/// A browser asks before it sends a token to another origin.
async fn preflight() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn with_origin(State(compat): State<Compat>, mut response: Response) -> Response {
    if let Some(origin) = compat.origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(Method::GET.as_str()));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// The code as a PNG in a `data:` address.
fn picture(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    let dots = code.width();
    let colors = code.to_colors();
    let side = (dots + 2 * MARGIN) * SCALE;
    let dark = |x: usize, y: usize| {
        let at = |pixel: usize| (pixel / SCALE).checked_sub(MARGIN).filter(|dot| *dot < dots);
        at(x).zip(at(y)).is_some_and(|(x, y)| colors.get(y * dots + x) == Some(&Color::Dark))
    };
    let pixels: Vec<u8> =
        (0..side * side).map(|at| if dark(at % side, at / side) { 0 } else { u8::MAX }).collect();
    let mut bytes = Vec::new();
    let side = u32::try_from(side).ok()?;
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_png() {
        let picture = picture("2@ref,key,key,key").expect("a picture");
        let bytes =
            STANDARD.decode(picture.strip_prefix("data:image/png;base64,").expect("data")).expect("base64");
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().expect("a PNG");
        let side = reader.info().width as usize;
        assert_eq!(side, reader.info().height as usize);
        assert_eq!(side % SCALE, 0);
    }

    #[test]
    fn what_no_code_can_hold_has_no_picture() {
        assert_eq!(picture(&"x".repeat(10_000)), None);
    }
}
