//! The control API takes whatever comes: the fuzz target's check, with its kept seeds and with random bytes.

#[path = "../../../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../../../fuzz/checks/simulator_control.rs"]
mod simulator_control;

#[test]
fn calls_of_the_control_api() {
    replay::replay("simulator_control", 300, simulator_control::check);
}
