//! Every decoder of outside bytes takes whatever comes: the fuzz targets' checks, with the seeds that are kept of
//! them and with random bytes. `make fuzz` looks for more.

#[path = "../fuzz/checks/answers.rs"]
mod answers;
#[path = "../fuzz/checks/backend_bodies.rs"]
mod backend_bodies;
#[path = "../fuzz/checks/bus_headers.rs"]
mod bus_headers;
#[path = "../fuzz/checks/bus_payloads.rs"]
mod bus_payloads;
#[path = "../fuzz/checks/environment.rs"]
mod environment;
#[path = "../fuzz/checks/nats_login.rs"]
mod nats_login;
#[path = "../fuzz/checks/replay.rs"]
mod replay;
#[path = "../fuzz/checks/session_keys.rs"]
mod session_keys;
#[path = "../fuzz/checks/session_records.rs"]
mod session_records;
#[path = "../fuzz/checks/whatsapp_messages.rs"]
mod whatsapp_messages;

use replay::replay;

const CASES: u32 = 2_000;

#[test]
fn payloads_on_the_bus() {
    replay("bus_payloads", CASES, bus_payloads::check);
}

#[test]
fn subjects_and_headers_on_the_bus() {
    replay("bus_headers", CASES, bus_headers::check);
}

#[test]
fn the_assistants_bodies() {
    replay("backend_bodies", CASES, backend_bodies::check);
}

#[test]
fn the_environment_and_its_file() {
    replay("environment", CASES, environment::check);
}

#[test]
fn messages_of_whatsapp() {
    replay("whatsapp_messages", CASES, whatsapp_messages::check);
}

#[test]
fn the_assistants_words() {
    replay("answers", CASES, answers::check);
}

#[test]
fn logins_at_nats_server() {
    replay("nats_login", CASES, nats_login::check);
}

#[test]
fn a_session_on_the_bus() {
    replay("session_records", CASES, session_records::check);
}

#[test]
fn keys_of_sessions() {
    replay("session_keys", CASES, session_keys::check);
}

/// A target that is not replayed here or in the simulator's tests is forgotten.
#[test]
fn every_target_is_replayed() {
    let targets =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets")).expect("targets");
    let simulators = include_str!("simulator/tests/it/decoders.rs");
    for target in targets {
        let name = target.expect("a file").path().file_stem().unwrap().to_string_lossy().into_owned();
        let call = format!("replay(\"{name}\"");
        assert!(include_str!("decoders.rs").contains(&call) || simulators.contains(&call), "{name}");
    }
}
