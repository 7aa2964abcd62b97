//! The words of the assistant: markdown that becomes WhatsApp's marks, and long texts that become several messages. The first byte
//! says how many of the last bytes are options.

use whatsapp_connector::edge::parts::{LONGEST, MOST, Parts, parts};
use whatsapp_connector::forwarder::markdown::to_whatsapp;
use whatsapp_connector::wire::visible::is_visible;

/// A text is made at least so long.
const LONG: usize = 12_000;

pub fn check(bytes: &[u8]) {
    let Some((menu, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let shown = to_whatsapp(&text);
    // A list's mark, an address beside its words, a fence's indent: all of it in proportion.
    assert!(shown.len() <= 16 * text.len() + 256, "{} bytes of {}", shown.len(), text.len());
    let times = if text.is_empty() { 0 } else { LONG / text.len() + 1 };
    cut(&text, usize::from(*menu));
    cut(&text.repeat(times), usize::from(*menu));
}

/// Nothing that can be seen is lost, and nothing is too long.
fn cut(text: &str, menu: usize) {
    let Parts { texts, cut_off } = parts(text, menu);
    assert!(texts.len() <= MOST, "{} messages", texts.len());
    for one in &texts {
        let length = one.encode_utf16().count();
        assert!(length <= LONGEST, "a message of {length} units");
    }
    assert_eq!(parts(text, menu).texts, texts, "the same text is cut in the same way");
    if !cut_off {
        // A fence that is cut is closed and opened again.
        let words = |text: &str| text.chars().filter(|c| is_visible(*c) && *c != '`').collect::<String>();
        assert_eq!(words(&texts.concat()), words(text));
    }
}
