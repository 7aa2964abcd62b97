//! The page as HTML. Pure: what is shown comes in, and maud escapes whatever is not written here.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use qrcode::QrCode;
use qrcode::render::svg;
use tokio::time::Instant;

use super::assets::{SCRIPT, STYLE};
use super::board::{Board, Dead};
use super::entry::May;
use super::passkey;
use super::taken;
use super::view::{EdgeLink, LinkPart, View, Way};
use super::wall;
use super::words::Words;
use crate::operator::{ConsumerReport, Letter};
use crate::wire::header::rfc3339_ms;
use crate::wire::process_status::Process;

/// So many lines of each list are shown.
const LINES: usize = 50;

/// The whole page.
pub(super) fn page(view: &View<'_>) -> String {
    let Words { title, login, link, bus, .. } = view.words;
    let (can_log_in, logged_in) = (view.can_log_in, matches!(view.may, May::Change(_)));
    let reloads = view.way == Way::Qr && matches!(&view.link, LinkPart::Edge(edge) if edge.qr.is_some());
    let body = html! {
        header {
            h1 { (title) }
            @if let LinkPart::Edge(edge) = &view.link { p.soft { (view.words.account) ": " strong { (edge.account) } } }
            @if view.account.is_some() { p { a href="?" { (view.words.wall.all) } } }
            @if let May::Change(_) = view.may {
                form method="post" action="console/logout" { (csrf(view)) button.plain { (login.leave) } }
            }
        }
        main {
            @if let Some(said) = view.said { section.said role="status" { (said) } }
            @if !logged_in {
                section {
                    @if can_log_in { p { (login.read_only) } p { a href="console/login" { (login.go) } } }
                    @else { p { (login.no_token) } }
                }
            }
            section aria-labelledby="link-heading" {
                h2 id="link-heading" { @if view.link == LinkPart::Wall { (view.words.wall.heading) } @else { (link.heading) } }
                div id="link" { (link_part(view)) }
            }
            section aria-labelledby="bus-heading" {
                h2 id="bus-heading" { (bus.waits) }
                div id="bus" { (bus_part(view)) }
            }
            @if view.taken.is_some() {
                section aria-labelledby="taken-heading" {
                    h2 id="taken-heading" { (view.words.taken.heading) }
                    div id="taken" { (taken::part(view)) }
                }
            }
            section aria-labelledby="letters-heading" {
                h2 id="letters-heading" { (bus.letters) }
                div id="letters" { (letters_part(view)) }
            }
        }
        script { (PreEscaped(SCRIPT)) }
    };
    let events = format!("console/events{}", view.address(view.way));
    document(view.words, reloads, Some(&events), &body)
}

/// The page with the form to log in.
pub(super) fn login(words: &Words, action: &str, said: Option<&str>) -> String {
    let login = &words.login;
    let body = html! {
        header { h1 { (words.title) } }
        main { section {
            h2 { (login.heading) }
            p id="why" { (login.why) }
            @if let Some(said) = said { p role="alert" { strong { (said) } } }
            form method="post" action=(action) {
                label for="token" { (login.token) }
                p { input id="token" name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="why"; }
                button { (login.go) }
            }
        } }
    };
    document(words, false, None, &body)
}

fn document(words: &Words, reloads: bool, events: Option<&str>, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang=(words.lang) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (words.title) }
                // Without a script, a code that ends is renewed like this.
                @if reloads { noscript { meta http-equiv="refresh" content="15"; } }
                style { (PreEscaped(STYLE)) }
            }
            body data-events=[events] { (body) }
        }
    };
    page.into_string()
}

pub(super) fn csrf(view: &View<'_>) -> Markup {
    let token = if let May::Change(login) = view.may { login.csrf.as_str() } else { "" };
    html! {
        input type="hidden" name="csrf" value=(token);
        @if let Some(account) = &view.account { input type="hidden" name="account" value=(account); }
    }
}

/// The link: the state, and how to link or unlink.
pub(super) fn link_part(view: &View<'_>) -> Markup {
    let words = &view.words.link;
    let edge = match &view.link {
        LinkPart::NoEdge => return html! { p { (words.no_edge) } },
        LinkPart::Starting => return html! { p role="status" { (words.starting) } },
        LinkPart::Wall => return wall::part(view),
        LinkPart::Elsewhere(account) => {
            return html! { p role="status" { (view.words.account) ": " strong { (account) } } p { (view.words.wall.elsewhere) } };
        }
        LinkPart::Edge(edge) => edge,
    };
    let (name, what) = view.words.state(edge.code);
    html! {
        p.state.(edge.code) role="status" { (name) }
        p { (what) }
        @if let Some(detail) = &edge.detail { p.soft lang="en" { (detail) } }
        @if edge.is_unlinked() { (ways(view, edge)) }
        @if let Some(passkey) = &edge.passkey { (passkey::part(view, passkey)) }
        @if let Some(phone) = &edge.phone {
            p { (words.linked_as) " " strong { (phone) }
                @if let Some(at) = edge.linked_ms { " " (words.since) " " (time(at)) }
                @else if edge.code == "online" { ", " (words.online_since) " " (time(edge.since_ms)) }
            }
        }
        @if edge.code == "online" && matches!(view.may, May::Change(_)) { (unlink(view)) }
    }
}

fn ways(view: &View<'_>, edge: &EdgeLink) -> Markup {
    let words = &view.words.link;
    let current = |way| (view.way == way).then_some("page");
    html! {
        nav.tabs aria-label=(words.ways) {
            a id="tab-qr" href=(view.address(Way::Qr)) aria-current=[current(Way::Qr)] { (words.by_qr) }
            a id="tab-code" href=(view.address(Way::Code)) aria-current=[current(Way::Code)] { (words.by_code) }
        }
        div.way {
            @match view.way { Way::Qr => (by_qr(view, edge)), Way::Code => (by_code(view, edge)) }
            div {
                h3 { (words.steps) }
                ol { @for step in if view.way == Way::Qr { &words.steps_qr } else { &words.steps_code } { li { (step) } } }
            }
        }
    }
}

fn by_qr(view: &View<'_>, edge: &EdgeLink) -> Markup {
    let words = &view.words.link;
    html! { div {
        @match edge.qr.as_ref().and_then(|(code, ends)| Some((picture(code, words.qr_alt)?, *ends))) {
            Some((picture, ends)) => {
                div.qr { (picture) }
                p role="timer" { (words.good_for) " " (countdown(ends)) " " (words.seconds) }
            }
            None => p { (words.no_qr) }
        }
    } }
}

fn by_code(view: &View<'_>, edge: &EdgeLink) -> Markup {
    let (words, login) = (&view.words.link, &view.words.login);
    html! { div {
        @if let Some(pair) = &edge.pair {
            p { (words.code_is) ":" }
            p.code id="code" { (dashed(&pair.code)) }
            p role="timer" { (words.ends_in) " " (countdown(pair.expires)) " " (words.seconds) }
        }
        @match view.may {
            May::Change(_) => form method="post" action="console/code" {
                (csrf(view))
                label for="phone" { (words.phone) }
                p { input id="phone" name="phone" type="tel" inputmode="tel" autocomplete="off" maxlength="30" required aria-describedby="phone-hint"; }
                p.soft id="phone-hint" { (words.phone_hint) }
                button id="ask-code" { (words.ask_code) }
            },
            _ => p.soft { (if view.can_log_in { login.read_only } else { login.no_token }) }
        }
    } }
}

fn unlink(view: &View<'_>) -> Markup {
    let words = &view.words.link;
    html! {
        details id="unlink" {
            summary id="unlink-open" { (words.unlink) }
            p { (words.unlink_why) }
            form method="post" action="console/unlink" {
                (csrf(view))
                label.tick { input id="unlink-sure" type="checkbox" name="sure" value="yes" required; (words.unlink_sure) }
                button.bad id="unlink-go" { (words.unlink_go) }
            }
        }
    }
}

/// What waits here and on the whole bus, and what needs a person.
pub(super) fn bus_part(view: &View<'_>) -> Markup {
    let words = &view.words.bus;
    html! {
        h3 { (words.here) }
        (here(view, &view.process))
        @match view.board.as_deref() {
            None if !view.connected => p { (words.no_bus) },
            None => p { (words.not_yet) },
            Some(Board { report: None, .. }) => p { (words.not_allowed) },
            Some(Board { report: Some(report), .. }) => {
                h3 { (words.for_forwarders) }
                (consumer(view, report.forwarders.as_ref()))
                // Those of a pool are on the wall.
                @for account in report.accounts.iter().filter(|account| account.pool.is_none()).take(LINES) {
                    h3 { (words.for_edge) ": " (account.account) " (" (view.words.state(&account.link).0) ")" }
                    (consumer(view, account.consumer.as_ref()))
                }
                h3 { (words.wants) }
                @let wants: Vec<_> = report.wants.iter().filter(|want| want.code != "dead-letters").collect();
                @if wants.is_empty() { p { (words.well) } }
                @else { ul lang="en" { @for want in wants.iter().take(LINES) { li { strong { (want.about) } " " (want.code) ": " (want.say) } } } }
                @if wants.len().max(report.accounts.len()) > LINES { p { (words.more) } }
            }
        }
    }
}

fn here(view: &View<'_>, process: &Process) -> Markup {
    let words = &view.words.bus;
    html! {
        dl {
            @if let Some(edge) = &process.edge { dt { (edge.sending) } dd { (words.sending) } }
            @if let Some(pool) = &process.pool { dt { (pool.sending) } dd { (words.sending) } }
            @if let Some(forwarder) = &process.forwarder {
                @for (count, what) in [
                    (forwarder.calling, words.calling), (forwarder.waiting, words.chain),
                    (forwarder.held, words.held), (forwarder.retrying, words.retrying),
                ] { dt { (count) } dd { (what) } }
            }
        }
        @if let Some(why) = process.forwarder.as_ref().and_then(|forwarder| forwarder.hold.as_ref()) {
            p role="alert" { (words.held_because) " " strong { (why) } }
        }
        @let sides = process.forwarder.iter().filter(|forwarder| forwarder.hold.is_none());
        @let routes: Vec<_> = sides.flat_map(|forwarder| &forwarder.routes).take(LINES).collect();
        @if !routes.is_empty() { ul lang="en" role="alert" { @for route in routes { li { (route.detail) " (" (route.held) ")" } } } }
        @let reasons: Vec<_> = process.reasons.iter().filter(|reason| reason.part != "whatsapp").collect();
        @if !reasons.is_empty() { ul lang="en" { @for reason in reasons { li { (reason.detail) } } } }
    }
}

fn consumer(view: &View<'_>, consumer: Option<&ConsumerReport>) -> Markup {
    let words = &view.words.bus;
    let Some(ConsumerReport { lag, in_flight, oldest_at, .. }) = consumer else { return html! { p { "?" } } };
    html! { p { (lag) " " (words.not_taken) ", " (in_flight) " " (words.in_hand)
    @if let Some(at) = oldest_at { ", " (words.oldest) " " (moment(at)) } } }
}

/// The last dead letters.
pub(super) fn letters_part(view: &View<'_>) -> Markup {
    let words = &view.words.bus;
    let Some(board) = view.board.as_deref() else {
        return html! { p { (if view.connected { words.not_yet } else { words.no_bus }) } };
    };
    let may = board.may_change && matches!(view.may, May::Change(_));
    match &board.letters {
        Dead::NotAllowed => html! { p { (words.not_allowed) } },
        Dead::Unknown => html! { p { (words.no_bus) } },
        Dead::Letters(letters, _) if letters.is_empty() => html! { p { (words.no_letters) } },
        Dead::Letters(letters, more) => html! {
            @if may { p.soft { (words.replay_what) } }
            ul.letters { @for one in letters { li { (letter(view, one, may)) } } }
            @if *more { p { (words.letters_more) } }
        },
    }
}

fn letter(view: &View<'_>, letter: &Letter, may: bool) -> Markup {
    let words = &view.words.bus;
    let id = letter.id;
    html! {
        dl {
            dt { (words.letter) } dd { (id) }
            dt { (words.came) } dd { (moment(&letter.received_at)) }
            dt { (words.chat) } dd { (letter.account) " " (letter.chat) }
            dt { (words.kind) } dd { (letter.kind) }
            dt { (words.reason) } dd { (letter.reason) }
        }
        @if may { div.acts {
            form method="post" action="console/letters" {
                (csrf(view)) input type="hidden" name="id" value=(id);
                button id={ "replay-" (id) } name="do" value="replay" aria-label={ (words.replay) " " (id) } { (words.replay) }
            }
            details id={ "drop-" (id) } {
                summary id={ "drop-open-" (id) } aria-label={ (words.drop) " " (id) } { (words.drop) }
                form method="post" action="console/letters" {
                    (csrf(view)) input type="hidden" name="id" value=(id);
                    button.bad id={ "drop-go-" (id) } name="do" value="drop" { (words.drop_sure) }
                }
            }
        } }
    }
}

/// The code as a picture, black on white in the dark as well: not every camera reads it the other way round.
fn picture(code: &str, alt: &str) -> Option<Markup> {
    let picture = QrCode::new(code).ok()?.render::<svg::Color<'_>>().min_dimensions(320, 320).build();
    let (_, svg) = picture.split_once("<svg")?;
    Some(html! { (PreEscaped("<svg role=\"img\" aria-label=\"")) (alt) (PreEscaped("\"")) (PreEscaped(svg)) })
}

pub(super) fn countdown(ends: Instant) -> Markup {
    let left = ends.saturating_duration_since(Instant::now()).as_secs();
    html! { span data-left=(left) { (left) } }
}

/// As WhatsApp shows it.
fn dashed(code: &str) -> String {
    match code.split_at_checked(4) {
        Some((first, second)) if code.len() == 8 => format!("{first}-{second}"),
        _ => code.to_owned(),
    }
}

fn time(ms: i64) -> Markup {
    moment(&rfc3339_ms(ms))
}

/// A time of RFC 3339, to the minute.
pub(super) fn moment(at: &str) -> Markup {
    let shown = at.get(..16).map_or_else(|| at.to_owned(), |minute| minute.replace('T', " ") + " UTC");
    html! { time datetime=(at) { (shown) } }
}
