use super::*;
use crate::wire::process_status::{EdgeSide, ForwarderSide, HeldRoute, Reason};
use crate::wire::v1::{SessionAction, SessionEvent, SessionState};

const NOW: i64 = 1_000_000_000;

fn edge(state: &str, action: &str) -> Process {
    let side = EdgeSide {
        account: "shop".to_owned(),
        state: state.to_owned(),
        action: action.to_owned(),
        ..EdgeSide::default()
    };
    let mut process =
        Process { role: "edge".to_owned(), edge: Some(side), ready: state == "online", ..Process::default() };
    if !process.ready {
        let detail = "As it is.".to_owned();
        process.reasons.push(Reason { part: "whatsapp".to_owned(), code: state.to_owned(), detail });
    }
    process
}

fn forwarder(hold: Option<&str>) -> Process {
    let side = ForwarderSide { hold: hold.map(str::to_owned), ..ForwarderSide::default() };
    let mut process = Process {
        role: "forwarder".to_owned(),
        host: "host".to_owned(),
        pid: 7,
        forwarder: Some(side),
        ..Process::default()
    };
    process.ready = hold.is_none();
    process.reasons.extend(hold.map(|code| Reason {
        part: "backend".to_owned(),
        code: code.to_owned(),
        detail: "It is away.".to_owned(),
    }));
    process
}

fn event(code: &str, at_ms: i64) -> SessionEvent {
    SessionEvent { code: code.to_owned(), at_ms, ..SessionEvent::default() }
}

fn well() -> Seen {
    let mut seen = Seen { now_ms: NOW, ..Seen::default() };
    seen.sessions.insert("shop".to_owned(), event("online", 5));
    seen.leases.insert("shop".to_owned(), ("there".to_owned(), NOW));
    seen.forwarders = Some(Consumer { name: "forwarder".to_owned(), lag: 3, ..Consumer::default() });
    seen.processes = vec![edge("online", "none"), forwarder(None)];
    seen
}

fn codes(seen: &Seen) -> Vec<String> {
    wants(seen).into_iter().map(|want| format!("{} {}", want.about, want.code)).collect()
}

#[test]
fn a_well_system_wants_nobody() {
    let report = Report::of(well());
    assert!(report.well && report.wants.is_empty());
    let shown = report.to_string();
    for part in ["shop: online since 1970", "lease: there", "forwarder: 3 not delivered", "all is well"] {
        assert!(shown.contains(part), "no `{part}` in\n{shown}");
    }
}

#[test]
fn each_thing_that_wants_a_person_does() {
    type Change = fn(&mut Seen);
    let cases: &[(Change, &[&str])] = &[
        (|seen| seen.processes.remove(0).role.clear(), &["shop no-edge"]),
        (|seen| seen.processes.truncate(1), &["forwarder no-forwarder"]),
        (|seen| seen.processes[0] = edge("qr-ready", "scan-qr"), &["shop scan-qr"]),
        (|seen| seen.processes[0] = edge("replaced", "stop-other-edge"), &["shop stop-other-edge"]),
        (|seen| seen.processes[0] = edge("outdated", "upgrade"), &["shop upgrade"]),
        (|seen| seen.processes[0] = edge("banned", "wait"), &["shop banned"]),
        (|seen| seen.processes[0] = edge("locked", "open-phone"), &["shop open-phone"]),
        (|seen| seen.processes[0] = edge("offline", "wait"), &["shop not-online"]),
        (|seen| seen.processes[1] = forwarder(Some("http-401")), &["host/7 backend/http-401"]),
        (
            |seen| *seen.dead.entry(("shop".to_owned(), "failed".to_owned())).or_default() += 2,
            &["dead letters dead-letters"],
        ),
        (|seen| seen.unanswered.push("WA_DLQ: no".to_owned()), &["bus unanswered"]),
        (|seen| seen.forwarders.as_mut().unwrap().oldest_ms = Some(NOW - 901_000), &["forwarder waiting"]),
        (|seen| drop(seen.leases.insert("other".to_owned(), ("x".to_owned(), 0))), &["other no-edge"]),
    ];
    for (change, want) in cases {
        let mut seen = well();
        change(&mut seen);
        assert_eq!(codes(&seen), *want);
        assert!(!Report::of(seen).well);
    }
}

#[test]
fn what_comes_back_by_itself_is_waited_for() {
    for (state, action) in [("offline", "wait"), ("connecting", "none"), ("standby", "wait")] {
        let mut seen = well();
        seen.processes[0] = edge(state, action);
        seen.sessions.insert("shop".to_owned(), event(state, NOW - 299_000));
        assert_eq!(codes(&seen), Vec::<String>::new(), "{state}");
        seen.sessions.insert("shop".to_owned(), event(state, NOW - 301_000));
        assert_eq!(codes(&seen), ["shop not-online"], "{state}");
    }
    let mut seen = well();
    // Stands by: nothing to do about it.
    seen.processes.push(edge("standby", "wait"));
    // A number that was given back long ago.
    seen.leases.insert("old".to_owned(), (String::new(), 0));
    seen.forwarders.as_mut().unwrap().oldest_ms = Some(NOW - 899_000);
    assert_eq!(codes(&seen), Vec::<String>::new());
}

#[test]
fn without_an_edge_the_bus_is_believed() {
    let mut seen = well();
    seen.processes.remove(0);
    let mut last = event("loop-broken", 9);
    last.chat = "54911".to_owned();
    last.state = SessionState::Online.into();
    last.action = SessionAction::None.into();
    seen.sessions.insert("shop".to_owned(), last);
    let report = AccountReport::of(&seen, "shop");
    assert_eq!((report.link.as_str(), report.since, report.live), ("online", None, false));
}

#[test]
fn a_route_that_is_held_wants_somebody_and_says_so_once() {
    let held = HeldRoute {
        route: "acme".to_owned(),
        hold: "http-503".to_owned(),
        held: 3,
        detail: "Route acme: it is away.".to_owned(),
    };
    let mut seen = well();
    let side = ForwarderSide { routes: vec![held], ..ForwarderSide::default() };
    seen.processes[1].forwarder = Some(side);
    assert_eq!(codes(&seen), ["host/7, route acme backend/http-503"]);
    // Its reasons have said so already.
    let reason =
        |part: &str| Reason { part: part.to_owned(), code: "x".to_owned(), detail: "So.".to_owned() };
    seen.processes[1].ready = false;
    seen.processes[1].reasons = vec![reason("backend")];
    assert_eq!(codes(&seen), ["host/7 backend/x"]);
    seen.processes[1].reasons = vec![reason("bus")];
    assert_eq!(codes(&seen), ["host/7 bus/x", "host/7, route acme backend/http-503"]);
}
