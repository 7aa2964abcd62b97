//! `SESSION_KEY`: one key or several, and what is said of those that are none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use whatsapp_connector::edge::journal::SessionKeys;

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> =
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let said = match SessionKeys::parse(&text) {
        Ok(keys) => {
            let are_keys = words.iter().all(|word| STANDARD.decode(word).is_ok_and(|key| key.len() == 32));
            assert!(are_keys && (1..=8).contains(&words.len()), "{} words", words.len());
            assert!(SessionKeys::parse(&format!("{text},{}", words[0])).is_err(), "one is there twice");
            format!("{keys:?}")
        }
        Err(error) => error.to_string(),
    };
    // Words of so many characters are in no sentence of ours.
    let secret = words.iter().find(|word| word.chars().count() > 24 && said.contains(**word));
    assert!(secret.is_none(), "a key is shown: {said}");
}
