//! The passkey on the page: the lines for a browser on WhatsApp's own page, the place for its answer, and the code that the
//! phone shows as well.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{Markup, html};

use super::entry::May;
use super::html::{countdown, csrf};
use super::view::View;
use super::{ACTS, Console, Given, ended, refuse};
use crate::edge::{Passkey, Seat};

/// What has to be done now.
pub(super) fn part(view: &View<'_>, passkey: &Passkey) -> Markup {
    let (words, link) = (&view.words.passkey, &view.words.link);
    html! { div.passkey {
        @match passkey {
            Passkey::Wanted(challenge) => {
                ol {
                    @for step in &words.steps[..2] { li { (step) } }
                    li { (words.paste) pre id="lines" tabindex="0" { (lines(&challenge.options, words.copy)) } }
                    @for step in &words.steps[2..] { li { (step) } }
                }
                (act(view, "answer", words.send, &html! {
                    label for="answer" { (words.answer) }
                    p { textarea id="answer" name="answer" rows="4" required autocomplete="off" spellcheck="false" {} }
                }))
            }
            Passkey::Answered(_) => p { (words.answered) },
            Passkey::Compare { code, .. } => {
                p { (words.code_is) ":" }
                p.code id="same" { (code) }
                (act(view, "confirm", words.same, &html! {}))
            }
        }
        p role="timer" { (words.ends_in) " " (countdown(passkey.expires())) " " (link.seconds) }
        (act(view, "give-up", words.give_up, &html! {}))
    } }
}

/// A form for those who may use it; for the others, why they may not.
fn act(view: &View<'_>, what: &str, name: &str, inside: &Markup) -> Markup {
    let login = &view.words.login;
    let class = (what == "give-up").then_some("plain");
    match view.may {
        May::Change(_) => html! { form method="post" action="console/passkey" {
            (csrf(view)) (inside)
            button id={ "passkey-" (what) } class=[class] name="do" value=(what) { (name) }
        } },
        _ if what == "give-up" => html! {},
        _ => html! { p.soft { (if view.can_log_in { login.read_only } else { login.no_token }) } },
    }
}

/// What a person pastes into the console of WhatsApp's page. The options are in Base64: nothing of them is read as code.
fn lines(options: &str, copy: &str) -> String {
    format!(
        "(async () => {{\n  const wanted = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(atob(\"{}\")));\n  const answer = await navigator.credentials.get({{ publicKey: wanted }});\n  prompt(\"{copy}\", JSON.stringify(answer));\n}})().catch((why) => alert(why));",
        BASE64_STANDARD.encode(options)
    )
}

/// Somebody has answered, has confirmed, or has given up.
pub(super) async fn post(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let may = match console.may_change(peer, &headers, &given) {
        Ok(may) => may,
        Err(away) => return *away,
    };
    let Some(Seat { connection, .. }) = console.status.seat(may.account.as_ref()) else {
        return ended(&may, "no-session", Some("this process has no edge".to_owned()), None);
    };
    let done = async {
        match given.what.as_str() {
            "answer" => connection.answer_passkey(given.answer).await.map(|()| "passkey-sent"),
            "confirm" => connection.confirm_passkey().await.map(|()| "passkey-confirmed"),
            _ => connection.give_up_on_passkey().await.map(|()| "passkey-given-up"),
        }
    };
    if !["answer", "confirm", "give-up"].contains(&given.what.as_str()) {
        return refuse(StatusCode::BAD_REQUEST, "`do` is answer, confirm or give-up");
    }
    match tokio::time::timeout(ACTS, done).await {
        Ok(Ok(done)) => ended(&may, done, None, None),
        Ok(Err(why)) => ended(&may, why.code(), Some(why.to_string()), None),
        // The session goes on with it, and the page shows what comes of it.
        Err(_elapsed) => ended(&may, "passkey-sent", None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn nothing_that_whatsapp_sends_is_read_as_code() {
        let lines = lines("\"));alert(1)//</pre>", "Copy");
        assert!(!lines.contains("alert(1)") && !lines.contains('<'), "{lines}");
    }
}
