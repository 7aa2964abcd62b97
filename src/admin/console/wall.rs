//! The accounts of a pool, on the page of one of its edges: the state of each, its edge, and what waits. Those that this edge
//! works for have a page each, as the one account of another edge.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::view::View;
use crate::operator::{AccountReport, InPool};
use crate::wire::process_status::EdgeSide;

/// So many are shown.
const SHOWN: usize = 200;

/// The wall. Of all accounts of the pool, if this user may see them; else of those that this edge has.
pub(super) fn part(view: &View<'_>) -> Markup {
    let words = &view.words.wall;
    let own: Vec<&EdgeSide> = view.process.pool.iter().flat_map(|pool| &pool.accounts).collect();
    let names: BTreeSet<&str> = own.iter().map(|edge| edge.account.as_str()).collect();
    let report = view.board.as_deref().and_then(|board| board.report.as_ref());
    let all: Vec<&AccountReport> =
        report.iter().flat_map(|report| &report.accounts).filter(|account| account.pool.is_some()).collect();
    let count = if all.is_empty() { own.len() } else { all.len() };
    html! {
        p { (words.what) }
        @if count == 0 { p { (words.none) } }
        ul.letters {
            @for account in all.iter().take(SHOWN) { li { (line(view, account, names.contains(account.account.as_str()))) } }
            @if all.is_empty() { @for edge in own.iter().take(SHOWN) { li { (own_line(view, edge)) } } }
        }
        @if count > SHOWN { p { (words.more) } }
    }
}

fn name(account: &str, is_own: bool) -> Markup {
    html! { @if is_own { a href={ "?account=" (account) } { (account) } } @else { (account) } }
}

fn own_line(view: &View<'_>, edge: &EdgeSide) -> Markup {
    html! {
        p.state.(edge.state) { (name(&edge.account, true)) }
        dl { dt { (view.words.wall.state) } dd { (view.words.state(&edge.state).0) } }
    }
}

fn line(view: &View<'_>, account: &AccountReport, is_own: bool) -> Markup {
    let words = &view.words.wall;
    let (code, state) = state(view, account);
    let edge = account.pool.as_ref().and_then(|pool| pool.edge.as_deref());
    html! {
        p.state.(code) { (name(&account.account, is_own)) }
        dl {
            dt { (words.state) } dd { (state) }
            @if let Some(edge) = edge.filter(|_| !is_own) { dt { (words.edge) } dd { (edge) } }
            @else if is_own { dt { (words.edge) } dd { (words.here) } }
            @if let Some(consumer) = &account.consumer { dt { (words.waits) } dd { (consumer.lag) } }
        }
    }
}

/// For the colour, and in words.
fn state(view: &View<'_>, account: &AccountReport) -> (&'static str, &'static str) {
    let words = &view.words.wall;
    match &account.pool {
        Some(InPool { paused: true, .. }) => ("paused", words.paused),
        Some(InPool { edge: None, parked_on, .. }) if !parked_on.is_empty() => ("parked", words.parked),
        Some(InPool { edge: None, .. }) if account.lease.is_none() => ("free", words.free),
        _ if !account.live => ("silent", words.no_answer),
        _ => {
            let code = if account.link == "online" { "online" } else { "" };
            (code, view.words.state(&account.link).0)
        }
    }
}
