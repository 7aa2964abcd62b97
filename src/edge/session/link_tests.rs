use std::collections::HashSet;

use super::*;

fn qr() -> Qr {
    Qr { code: "secret".into(), expires: Instant::now() }
}

fn challenge() -> Challenge {
    Challenge { options: "{}".into(), expires: Instant::now() }
}

fn kept_out(kind: Kind) -> KeptOut {
    KeptOut { kind, until_ms: 1_700_000_000_000, why: "too many people blocked you".to_owned() }
}

const COME_BACK: Then = Then::ComeBack { at_ms: 1_700_000_000_000 };

/// Every state, in the order of [`CODES`].
fn states() -> [State; 16] {
    [
        State::Starting,
        State::Unlinked { qr: None },
        State::Unlinked { qr: Some(qr()) },
        State::Passkey(Passkey::Wanted(challenge())),
        State::Passkey(Passkey::Answered(Instant::now())),
        State::Passkey(Passkey::Compare { code: "ABCD-1234".into(), expires: Instant::now() }),
        State::Standby,
        State::Connecting,
        State::Online,
        State::Offline,
        State::Silent,
        State::Replaced,
        State::KeptOut(kept_out(Kind::Banned)),
        State::KeptOut(kept_out(Kind::Locked)),
        State::Outdated,
        State::Stopped,
    ]
}

#[test]
fn every_code_is_in_the_list() {
    let mut codes = states().each_ref().map(State::code).to_vec();
    codes.dedup();
    assert_eq!(codes, CODES);
}

/// The code on the bus, and what the operator has to do.
#[test]
fn every_state_says_what_it_is_and_what_is_to_be_done() {
    use SessionAction::{CompareCodes, None, OpenPhone, ScanQr, StopOtherEdge, Upgrade, UsePasskey, Wait};
    let want = [
        (SessionState::Starting, None),
        (SessionState::Unlinked, ScanQr),
        (SessionState::Unlinked, ScanQr),
        (SessionState::PasskeyRequired, UsePasskey),
        (SessionState::PasskeyRequired, UsePasskey),
        (SessionState::PasskeyConfirm, CompareCodes),
        (SessionState::Standby, Wait),
        (SessionState::Connecting, None),
        (SessionState::Online, None),
        (SessionState::Offline, Wait),
        (SessionState::Offline, Wait),
        (SessionState::Replaced, StopOtherEdge),
        (SessionState::Banned, Wait),
        (SessionState::Locked, OpenPhone),
        (SessionState::Outdated, Upgrade),
        (SessionState::Stopped, None),
    ];
    let states = states();
    assert_eq!(states.each_ref().map(|state| (state.on_the_wire(), state.action())), want);
    // Each state has its own text. Only the two unlinked states share one.
    let details: HashSet<_> = states.iter().map(State::detail).collect();
    assert_eq!(details.len(), states.len() - 1);
    assert!(details.iter().all(|detail| detail.ends_with('.') && detail.contains(' ')));
}

const fn rebuilt(seconds: u64) -> Then {
    Then::Rebuild { after: Duration::from_secs(seconds) }
}

#[test]
fn what_happens_counts_more_than_where_the_link_was() {
    let rows = [
        (Input::StandBy, "standby", Then::Nothing),
        (Input::Started { linked: false }, "unlinked", Then::Nothing),
        (Input::Paired, "connecting", Then::Nothing),
        (Input::Connected, "online", Then::Nothing),
        (Input::Replaced, "replaced", rebuilt(45)),
        (Input::LoggedOut, "unlinked", Then::StartOver),
        (Input::KeptOut(kept_out(Kind::Banned)), "banned", COME_BACK),
        (Input::KeptOut(kept_out(Kind::Locked)), "locked", COME_BACK),
        (Input::Outdated, "outdated", Then::Halt),
        (Input::Refused, "offline", rebuilt(60)),
        (Input::Stopping, "stopped", Then::Nothing),
    ];
    for state in states().into_iter().filter(|state| *state != State::Stopped) {
        for (input, code, then) in &rows {
            let after = state.after(input.clone());
            assert_eq!((after.0.code(), after.1), (*code, *then), "{state:?} after {input:?}");
        }
    }
}

#[test]
fn codes_come_and_go_until_the_phone_has_taken_one() {
    for state in states().into_iter().filter(|state| *state != State::Stopped) {
        let after = |input| {
            let (next, then) = state.after(input);
            (next.code(), then)
        };
        let stays = matches!(state, State::Passkey(_)).then_some((state.code(), Then::Nothing));
        let or = |want| stays.unwrap_or(want);
        assert_eq!(after(Input::Qr(qr())), or(("qr-ready", Then::Nothing)));
        assert_eq!(after(Input::QrExhausted { code_stands: false }), or(("unlinked", rebuilt(1))));
        // The code is valid on this connection only.
        assert_eq!(after(Input::QrExhausted { code_stands: true }), or(("unlinked", Then::Nothing)));
    }
}

#[test]
fn linking_with_a_passkey() {
    let mut state = State::Unlinked { qr: Some(qr()) };
    for (input, want) in [
        // Nothing of it means anything before WhatsApp asks for it.
        (Input::PasskeyAnswered, "qr-ready"),
        (Input::PasskeyCode("ABCD-1234".into()), "qr-ready"),
        (Input::PasskeyOver, "qr-ready"),
        (Input::PasskeyWanted(challenge()), "passkey-required"),
        (Input::PairCodeOver, "passkey-required"),
        (Input::PasskeyAnswered, "passkey-required"),
        (Input::PasskeyCode("ABCD-1234".into()), "passkey-confirm"),
        (Input::PasskeyAnswered, "passkey-confirm"),
        (Input::Paired, "connecting"),
        (Input::PasskeyWanted(challenge()), "connecting"),
    ] {
        let (next, then) = state.after(input);
        assert_eq!((next.code(), then), (want, Then::Nothing));
        state = next;
    }
    let wanted = State::Passkey(Passkey::Wanted(challenge()));
    assert_eq!(wanted.after(Input::PasskeyOver), (State::Unlinked { qr: None }, rebuilt(1)));
}

#[test]
fn how_a_connection_ends_depends_on_where_the_link_was() {
    // After a lost connection, and after the client ended without an event.
    let want = [
        ("starting", ("offline", rebuilt(1))),
        ("unlinked", ("unlinked", rebuilt(1))),
        ("qr-ready", ("unlinked", rebuilt(1))),
        ("unlinked", ("unlinked", rebuilt(1))),
        ("unlinked", ("unlinked", rebuilt(1))),
        ("unlinked", ("unlinked", rebuilt(1))),
        ("standby", ("offline", rebuilt(1))),
        ("connecting", ("offline", rebuilt(1))),
        ("offline", ("offline", rebuilt(1))),
        ("offline", ("offline", rebuilt(1))),
        // Why the connection had to end is told until there is another one.
        ("silent", ("offline", rebuilt(1))),
        ("replaced", ("replaced", rebuilt(45))),
        ("banned", ("banned", COME_BACK)),
        ("locked", ("locked", COME_BACK)),
        ("outdated", ("outdated", Then::Halt)),
        ("stopped", ("stopped", Then::Nothing)),
    ];
    for (state, (broken, ended)) in states().iter().zip(want) {
        let after = |input| {
            let (next, then) = state.after(input);
            (next.code(), then)
        };
        let then = if matches!(state, State::Passkey(_)) { rebuilt(1) } else { Then::Nothing };
        assert_eq!(after(Input::Disconnected), (broken, then), "{state:?}");
        assert_eq!(after(Input::Ended), ended, "{state:?}");
    }
}

#[test]
fn nothing_leads_out_of_stopped() {
    for input in [Input::StandBy, Input::Connected, Input::LoggedOut, Input::Ended, Input::Stopping] {
        assert_eq!(State::Stopped.after(input), (State::Stopped, Then::Nothing));
    }
}

#[test]
fn linking_from_nothing() {
    let mut state = State::Starting;
    for (input, want) in [
        (Input::Started { linked: false }, "unlinked"),
        (Input::Qr(qr()), "qr-ready"),
        (Input::Paired, "connecting"),
        (Input::Disconnected, "connecting"),
        (Input::Connected, "online"),
        (Input::Disconnected, "offline"),
        (Input::Connected, "online"),
    ] {
        let (next, then) = state.after(input);
        assert_eq!((next.code(), then), (want, Then::Nothing));
        state = next;
    }
}

#[test]
fn a_silent_connection_was_online_and_is_so_again_with_another_one() {
    for state in states() {
        let want = if state == State::Online { State::Silent } else { state.clone() };
        assert_eq!(state.after(Input::Silent), (want, Then::Nothing));
    }
    assert_eq!(State::Silent.after(Input::Connected), (State::Online, Then::Nothing));
}

#[test]
fn a_replaced_edge_never_fights() {
    let (state, then) = State::Online.after(Input::Replaced);
    let later = Then::Rebuild { after: REPLACED_PAUSE };
    assert_eq!((state.code(), then), ("replaced", later));
    assert_eq!(state.after(Input::Ended), (State::Replaced, later));
}

#[test]
fn a_logged_out_session_starts_over_with_a_new_qr() {
    let (state, then) = State::Online.after(Input::LoggedOut);
    assert_eq!((state.code(), then), ("unlinked", Then::StartOver));
}

#[test]
fn stopping_is_final_and_no_debug_output_shows_the_qr() {
    let (state, _) = State::Online.after(Input::Stopping);
    assert_eq!(state.after(Input::Ended), (State::Stopped, Then::Nothing));
    let shown = format!("{:?}", State::Unlinked { qr: Some(qr()) });
    assert!(shown.contains("expires") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_new_client_after_an_outage_is_offline_until_it_is_online() {
    let linked = Input::Started { linked: true };
    for state in states() {
        let want = match state.code() {
            "offline" | "silent" | "stopped" => state.code(),
            _ => "connecting",
        };
        assert_eq!(state.after(linked.clone()).0.code(), want, "{state:?}");
        let (after, then) = state.after(Input::LineIsBack);
        let at_once = if state == State::Stopped { Then::Nothing } else { rebuilt(0) };
        assert_eq!((after, then), (state, at_once));
    }
}

#[test]
fn the_end_of_a_pairing_code_concerns_nobody_who_is_linked() {
    for state in states() {
        let then = if matches!(state, State::Unlinked { .. }) { rebuilt(1) } else { Then::Nothing };
        let (after, said) = state.after(Input::PairCodeOver);
        assert_eq!(said, then, "{state:?}");
        assert!(after == state || matches!(after, State::Unlinked { qr: None }));
    }
}

#[test]
fn who_is_kept_out_reads_why_and_until_when() {
    let banned = State::KeptOut(kept_out(Kind::Banned)).detail();
    assert!(banned.contains("until 2023-11-14T22:13:20.000Z: too many people blocked you."), "{banned}");
    let locked = State::KeptOut(kept_out(Kind::Locked)).detail();
    assert!(
        locked.contains("on the phone") && locked.contains("before 2023-11-14T22:13:20.000Z"),
        "{locked}"
    );
}
