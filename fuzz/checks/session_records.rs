//! What is read of a session on the bus: sealed records, what is in them, and rows of the store.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use whatsapp_connector::edge::journal::{SessionKeys, opens, record_again};
use whatsapp_connector::edge::row_again;

pub fn check(bytes: &[u8]) {
    let keys = SessionKeys::parse(&STANDARD.encode([7; 32])).expect("a key");
    // Nobody without the key makes a record.
    assert!(opens(&keys, "default", 3, bytes).is_err());
    for (slot, slots) in [(3, 16), (0, 1), (3, 4_096), (0, 0)] {
        // Fields of a newer version are left out, so what is written may be shorter. It is read as the same.
        if let Some(again) = record_again(bytes, slot, slots) {
            assert_eq!(record_again(&again, slot, slots).as_ref(), Some(&again));
            assert!(record_again(&again, slot + 1, slots).is_none(), "it belongs to another slot");
        }
    }
    let [row, told] = row_again(bytes, &String::from_utf8_lossy(bytes));
    for written in [row, told].into_iter().flatten() {
        assert_eq!(row_again(&written, "")[0].as_ref(), Some(&written));
    }
}
