//! Newer parts of the page, for a page that is open: server-sent events, each with the HTML of one part.
//!
//! A stream is one of [`STREAMS`]. It says something every few seconds, so that a client that does not read is cut off as
//! any other, and it ends after ten minutes like every long answer: the browser comes back by itself.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::board::Board;
use super::entry::{May, Turned};
use super::view::{LinkPart, View};
use super::{Address, Console, html, named, refuse, taken};
use crate::admin::server::Deadline;
use crate::edge::Seat;
use crate::wire::Account;

/// So many pages are kept up to date at once. Fewer than connections, so that others always find one.
pub(super) const STREAMS: usize = 16;
/// So often something is said, and the figures are looked at.
const BEAT: Duration = Duration::from_secs(3);

/// Everything is sent once at the beginning: a page may be older than its stream.
pub(super) async fn events(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(deadline): Extension<Deadline>,
    Query(address): Query<Address>,
    headers: HeaderMap,
) -> Response {
    let may = match console.may(peer, &headers) {
        Ok(may) => may,
        Err(Turned::Away(away)) => return *away,
        Err(Turned::ToLogin) => return refuse(StatusCode::UNAUTHORIZED, "log in first"),
    };
    let Ok(room) = std::sync::Arc::clone(&console.streams).try_acquire_owned() else {
        let mut answer = refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many pages are open: this one is not kept up to date",
        );
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(5));
        return answer;
    };
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let account = named(&address.account);
    let seat = console.status.seat(account.as_ref());
    let board = console.boards.news();
    let live = Live {
        console,
        headers,
        may,
        address,
        account,
        seat,
        board,
        beat,
        sent: Sent::default(),
        _room: room,
    };
    let pieces = stream::unfold(live, move |mut live| {
        let deadline = deadline.clone();
        async move {
            let piece = live.next().await?;
            deadline.goes_on();
            Some((Ok::<_, std::convert::Infallible>(piece), live))
        }
    });
    let mut answer = Body::from_stream(pieces).into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that collect answers would keep it from the page.
    answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// One open page.
struct Live {
    console: Console,
    headers: HeaderMap,
    may: May,
    address: Address,
    /// Which account of a pool.
    account: Option<Account>,
    seat: Option<Seat>,
    board: watch::Receiver<Option<std::sync::Arc<Board>>>,
    beat: Interval,
    sent: Sent,
    _room: OwnedSemaphorePermit,
}

/// What the page has.
#[derive(Default)]
struct Sent {
    link: Option<LinkPart>,
    wall: String,
    bus: String,
    taken: String,
    letters: String,
}

impl Live {
    /// The next piece, when there is something to say; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let changed = async {
            match &mut self.seat {
                Some(seat) => seat.connection.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.console.stop.cancelled() => return None,
            _ = self.beat.tick() => {}
            () = changed => {}
            Ok(()) = self.board.changed() => {}
        }
        if !self.console.entry.lasts(&self.may) {
            return None;
        }
        // The edge may have started in the meantime; an account of a pool comes and goes.
        let now = self.console.status.seat(self.account.as_ref());
        let is_same = now.as_ref().zip(self.seat.as_ref()).is_some_and(|(now, seat)| now.is(seat));
        if !is_same {
            self.seat = now;
        }
        let mut view = self.console.view(&self.headers, &self.may, &self.address).await;
        view.board = self.console.boards.now();
        Some(self.sent.newer(&view))
    }
}

impl Sent {
    /// Every part that looks another way now. A comment, if none does.
    fn newer(&mut self, view: &View<'_>) -> String {
        let mut said = String::new();
        // Its countdown is another one each second, and the page counts by itself.
        if view.link == LinkPart::Wall {
            let part = html::link_part(view).into_string();
            if self.wall != part {
                said += &event("link", &part);
                self.wall = part;
            }
        } else if self.link.as_ref() != Some(&view.link) {
            said += &event("link", &html::link_part(view).into_string());
            self.link = Some(view.link.clone());
        }
        let parts = [
            ("bus", &mut self.bus, html::bus_part(view)),
            ("taken", &mut self.taken, taken::part(view)),
            ("letters", &mut self.letters, html::letters_part(view)),
        ];
        for (name, sent, part) in parts {
            let part = part.into_string();
            if *sent != part {
                said += &event(name, &part);
                *sent = part;
            }
        }
        if said.is_empty() { ":\n\n".to_owned() } else { said }
    }
}

/// Each line of the data is a line of its own, whichever way it ends.
fn event(name: &str, data: &str) -> String {
    let data: String = data.split(['\n', '\r']).map(|line| format!("data: {line}\n")).collect();
    format!("event: {name}\n{data}\n")
}

#[cfg(test)]
mod tests {
    use super::event;

    #[test]
    fn no_line_of_a_part_ends_its_event() {
        assert_eq!(
            event("bus", "a\n\nevent: link\rb"),
            "event: bus\ndata: a\ndata: \ndata: event: link\ndata: b\n\n"
        );
    }
}
