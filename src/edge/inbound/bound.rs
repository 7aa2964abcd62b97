//! Bounds for what comes from outside: every text and every list of a message goes through here. Pure.
//!
//! A phone writes less than this. Who writes more gets it cut off, and the rest goes on the bus.

use sha2::{Digest as _, Sha256};

/// An id, a code, an address. Bytes.
const ID: usize = 256;
/// A name, a title, a link. Bytes.
const LINE: usize = 2_048;
/// What a person writes. WhatsApp's own limit is 65,536 characters. Bytes.
const TEXT: usize = 262_144;
/// The parts of a list.
const PARTS: usize = 256;
/// A list of texts, all together. Bytes.
const LIST: usize = 262_144;

/// An id, a code, an address. A longer one has a hash in the place of its end: two that differ stay different, and what
/// names a message still names it.
pub(super) fn id(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    if text.len() <= ID {
        return text.to_owned();
    }
    let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    cut(Some(text), ID - hash.len() - 1) + "~" + &hash
}

/// A name, a title, a link.
pub(super) fn line(text: Option<&str>) -> String {
    cut(text, LINE)
}

/// What a person writes.
pub(super) fn text(text: Option<&str>) -> String {
    cut(text, TEXT)
}

/// The first parts of a list.
pub(super) fn parts<T>(parts: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    parts.into_iter().take(PARTS)
}

/// A list of texts: the first ones, as far as there is room for them together.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut room = LIST;
    let fits = |text: &&str| {
        let left = room.checked_sub(text.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    parts(texts).take_while(fits).map(str::to_owned).collect()
}

/// The first characters of a text.
pub(super) fn characters(text: &str, most: usize) -> &str {
    let end = text.char_indices().nth(most).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or_default()
}

fn cut(text: Option<&str>, bytes: usize) -> String {
    let text = text.unwrap_or_default();
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_long_is_cut_off_between_two_characters() {
        let euros = "€".repeat(1_000);
        for (text, bytes, want) in
            [("hola", 4, "hola"), ("hola", 3, "hol"), ("aé", 2, "a"), ("é", 1, ""), ("", 9, "")]
        {
            assert_eq!(cut(Some(text), bytes), want);
        }
        assert_eq!(line(Some(&euros)).len(), 2_046);
        assert_eq!(text(Some(&euros)), euros);
        assert_eq!(text(Some(&"x".repeat(TEXT + 1))).len(), TEXT);
        assert_eq!(characters("añb", 2), "añ");
        assert_eq!((characters("añ", 2), characters("añ", 0), characters("", 2)), ("añ", "", ""));
        assert_eq!(cut(None, 3), "");
    }

    #[test]
    fn a_long_id_is_shorter_and_still_one_of_its_own() {
        let long = "x".repeat(1_000_000);
        for (text, bytes) in [("3EB0AB", 6), (&"x".repeat(ID), ID), (&"x".repeat(ID + 1), ID), (&long, ID)] {
            assert_eq!(id(Some(text)).len(), bytes);
        }
        assert!(id(Some(&long)).starts_with(&"x".repeat(ID - 65)));
        assert_ne!(id(Some(&long)), id(Some(&format!("{long}x"))));
        assert!(id(Some(&"€".repeat(1_000))).len() <= ID);
        assert_eq!(id(None), "");
    }

    #[test]
    fn a_list_ends_where_the_room_ends() {
        assert_eq!(list(["a"; 1_000]).len(), 256);
        let long = "x".repeat(100_000);
        assert_eq!(list([&*long, &*long, &*long, "y"]), [&*long, &*long]);
        assert_eq!(list([]), Vec::<String>::new());
        assert_eq!(parts(0..1_000).count(), 256);
    }

    proptest! {
        #[test]
        fn it_is_the_beginning_and_never_longer(text in "\\PC{0,50}", bytes in 0_usize..60) {
            let short = cut(Some(&text), bytes);
            prop_assert!(text.starts_with(&short) && short.len() <= bytes);
            prop_assert!(bytes.saturating_sub(short.len()) < 4 || short == text);
        }
    }
}
