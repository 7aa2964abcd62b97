//! The chats that a person has taken over: what is shown of them, and how a person takes one over or gives it back.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use sha2::{Digest as _, Sha256};

use super::entry::May;
use super::view::View;
use super::{ACTS, Console, Given, ended, refuse};
use crate::edge::{OpenTakeovers, Seat, Taken};
use crate::wire::ChatToken;
use crate::wire::header::rfc3339_ms;

/// So many are shown.
const SHOWN: usize = 50;
/// The times that are offered, as far as `TAKEOVER_MAX` allows them.
const TIMES: [&str; 6] = ["30m", "1h", "2h", "4h", "8h", "12h"];

/// What is shown.
#[derive(Debug)]
pub(super) struct TakenPart {
    /// The last to end first.
    taken: Vec<Taken>,
    /// How many there are.
    count: usize,
    /// The times that are offered, the first of which is `TAKEOVER`.
    times: Vec<String>,
}

impl TakenPart {
    /// `None`: nobody takes over here.
    pub(super) fn of(seat: &Seat) -> Option<Self> {
        let open = seat.takeovers.as_ref()?;
        let (taken, count) = open.list(SHOWN);
        Some(Self { taken, count, times: times(open) })
    }
}

fn times(open: &OpenTakeovers) -> Vec<String> {
    let lasts = open.lasts();
    let each = humantime::format_duration(lasts.each).to_string().replace(' ', "");
    let fits = |time: &&str| humantime::parse_duration(time).is_ok_and(|time| time <= lasts.most);
    let others = TIMES.into_iter().filter(fits).map(str::to_owned).filter(|time| *time != each);
    std::iter::once(each.clone()).chain(others).collect()
}

/// The name of a chat in a form. It is no number, so none is in the page.
fn key(chat: &ChatToken) -> String {
    let digest = Sha256::digest(format!("console-takeover\0{}", chat.as_str()).as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The list, and the form.
pub(super) fn part(view: &View<'_>) -> Markup {
    let words = &view.words.taken;
    let Some(part) = &view.taken else { return html! {} };
    let may = matches!(view.may, May::Change(_));
    html! {
        @if part.taken.is_empty() { p { (words.none) } }
        @else { ul.letters { @for one in &part.taken { li { (line(view, one, may)) } } } }
        @if part.count > part.taken.len() { p { (part.count) " " (words.more) } }
        @if may {
            h3 { (words.take) }
            p.soft id="take-what" { (words.what) }
            form method="post" action="console/takeover" {
                (super::html::csrf(view))
                label for="take-phone" { (view.words.link.phone) }
                p { input id="take-phone" name="phone" type="tel" inputmode="tel" autocomplete="off" maxlength="30" required aria-describedby="take-what"; }
                label for="take-for" { (words.how_long) }
                p { select id="take-for" name="for" { @for time in &part.times { option value=(time) { (time) } } } }
                button id="take-go" name="do" value="take" { (words.go) }
            }
        }
    }
}

fn line(view: &View<'_>, one: &Taken, may: bool) -> Markup {
    let words = &view.words.taken;
    let (key, chat) = (key(&one.chat), one.chat.masked());
    let time = |ms: i64| super::html::moment(&rfc3339_ms(ms));
    html! {
        dl {
            dt { (view.words.bus.chat) } dd { (chat) }
            dt { (words.since) } dd { (time(one.began_ms)) }
            dt { (words.until) } dd { (time(one.until_ms)) }
        }
        @if may { div.acts {
            form method="post" action="console/takeover" {
                (super::html::csrf(view)) input type="hidden" name="key" value=(key);
                button id={ "resume-" (key) } name="do" value="resume" aria-label={ (words.resume) " " (chat) } { (words.resume) }
            }
        } }
    }
}

/// Takes a chat over, or gives it back.
pub(super) async fn change(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let may = match console.may_change(peer, &headers, &given) {
        Ok(may) => may,
        Err(away) => return *away,
    };
    let why = |why: &str| Some(why.to_owned());
    let Some(open) = console.status.seat(may.account.as_ref()).and_then(|seat| seat.takeovers) else {
        return ended(&may, "no-takeover", why("this process has no edge with TAKEOVER"), None);
    };
    if !console.status.bus.get().is_some_and(|(bus, _)| bus.is_connected()) {
        return ended(&may, "no-bus", why("nats-server does not answer"), None);
    }
    let (said, changed) = match given.what.as_str() {
        "take" => {
            let Some(chat) = chat(&given.phone) else {
                return ended(&may, "not-a-number", why("`phone` is a number with its country code"), None);
            };
            let lasts = open.lasts();
            let time = humantime::parse_duration(given.lasts.trim()).ok();
            let fits = |time: &Duration| *time >= Duration::from_secs(1) && *time <= lasts.most;
            let Some(time) = time.filter(fits) else {
                return ended(
                    &may,
                    "not-a-time",
                    why("`for` is a time up to TAKEOVER_MAX, such as 2h"),
                    None,
                );
            };
            ("taken", tokio::time::timeout(ACTS, open.take_over(&chat, time)).await)
        }
        "resume" => {
            let (taken, _) = open.list(usize::MAX);
            let asked = |one: &Taken| key(&one.chat) == given.key || one.chat.as_str() == given.phone;
            let Some(one) = taken.into_iter().find(asked) else {
                return ended(&may, "not-taken", why("no person has this chat"), None);
            };
            ("resumed", tokio::time::timeout(ACTS, open.resume(&one.chat)).await)
        }
        _ => return refuse(StatusCode::BAD_REQUEST, "`do` is take or resume"),
    };
    match changed {
        Ok(Ok(())) => {
            tracing::info!(done = said, "a chat was taken over or given back on the page");
            ended(&may, said, None, None)
        }
        Ok(Err(error)) => ended(&may, "no-bus", why(&error.to_string()), None),
        Err(_elapsed) => ended(&may, "no-bus", why("nats-server does not answer"), None),
    }
}

/// The chat with this phone number, however a person writes it.
fn chat(phone: &str) -> Option<ChatToken> {
    let digits: String = phone.chars().filter(|c| !c.is_whitespace() && !"+-().".contains(*c)).collect();
    let is_number = (5..=20).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit());
    is_number.then(|| ChatToken::phone(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_however_it_is_written_and_is_in_no_form() {
        let ana = ChatToken::phone("5491123456789");
        for phone in ["+54 9 11 2345-6789", "5491123456789", "(54) 911.2345.6789"] {
            assert_eq!(chat(phone), Some(ana.clone()), "{phone}");
        }
        for phone in ["", "nonsense", "12", "lid-987", "5491123456789@s.whatsapp.net"] {
            assert_eq!(chat(phone), None, "{phone}");
        }
        assert!(!key(&ana).contains("6789") && key(&ana) != key(&ChatToken::phone("5491123456780")));
    }
}
