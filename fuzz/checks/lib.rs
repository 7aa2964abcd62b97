//! What has to hold for every decoder of outside bytes, whatever the bytes are: a module each, with a function
//! `check` that panics if it does not hold. The fuzz targets call them, and so do the tests, with the kept seeds
//! and with random bytes.

pub mod answers;
pub mod backend_bodies;
pub mod bus_headers;
pub mod bus_payloads;
pub mod environment;
pub mod nats_login;
pub mod session_keys;
pub mod session_records;
pub mod simulator_control;
pub mod whatsapp_messages;
