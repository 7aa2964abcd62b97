//! How far a message has come. Pure.

use super::v1::ReceiptStatus;

/// Receipts come in any order, and of those about one message the one with the highest rank counts. A phone that has
/// the message has it, also if the edge had given up on it.
pub fn rank(status: ReceiptStatus) -> u32 {
    match status {
        ReceiptStatus::Unspecified => 0,
        ReceiptStatus::Accepted => 1,
        ReceiptStatus::Failed => 2,
        ReceiptStatus::Delivered => 3,
        ReceiptStatus::Read => 4,
        ReceiptStatus::Played => 5,
    }
}
