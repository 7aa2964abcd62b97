#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| whatsapp_connector_fuzz::session_keys::check(bytes));
