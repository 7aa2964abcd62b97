//! What a person can see of a text. Pure.
//!
//! The forwarder asks it whether an answer says anything, and the edge cuts off what nobody sees of what it sends.

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// Characters without ink that Unicode does not call ignorable: the empty braille pattern, the marks of annotations,
/// and the musical "no note".
const WITHOUT_INK: [char; 5] = ['\u{2800}', '\u{fff9}', '\u{fffa}', '\u{fffb}', '\u{1d159}'];

/// Whether a person sees this character where it stands alone. Spaces, control characters, joiners and variation
/// selectors cannot be seen; what they join or vary can.
pub fn is_visible(c: char) -> bool {
    !c.is_whitespace()
        && !c.is_control()
        && !WITHOUT_INK.contains(&c)
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a person sees anything of the text.
pub fn is_any(text: &str) -> bool {
    text.chars().any(is_visible)
}

/// The text without the blank lines around it and without what is blank at its end. The first line keeps its
/// indentation. Empty if nothing can be seen.
pub fn trimmed(text: &str) -> &str {
    let Some(first) = text.find(is_visible) else { return "" };
    let start = text.get(..first).and_then(|before| before.rfind(ends_a_line)).map_or(0, |at| {
        let line_end = text.get(at..).and_then(|rest| rest.chars().next());
        at + line_end.map_or(0, char::len_utf8)
    });
    let rest = text.get(start..).unwrap_or_default();
    let last = rest.rfind(is_visible).unwrap_or(0);
    let tail = rest.get(last..).unwrap_or_default();
    // The first character of the tail is the last one that can be seen.
    let kept: usize = tail
        .chars()
        .enumerate()
        .take_while(|(place, c)| *place == 0 || belongs_to_the_one_before(*c))
        .map(|(_, c)| c.len_utf8())
        .sum();
    rest.get(..last + kept).unwrap_or_default()
}

fn ends_a_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Variation selectors, the tags of a flag, and the ends of a change of direction.
fn belongs_to_the_one_before(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180d}' | '\u{202c}' | '\u{2069}'
        | '\u{e0020}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_nobody_sees_is_nothing() {
        for text in [
            "",
            " \t\r\n",
            "\u{200b}",
            "\u{2060}\u{feff}",
            "\u{2800}",
            "\u{2800}\n\u{2800}",
            "\u{ad}",
            "\u{3164}",
            "\u{ffa0}\u{115f}\u{1160}",
            "\u{180e}",
            "\u{200e}\u{200f}\u{202a}\u{202c}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{e0001}\u{e0041}",
            "\u{a0}\u{3000}\u{2028}",
            "\u{0}\u{7}\u{1b}",
            "\u{fff9}\u{fffb}",
            "\u{1d159}",
            "\u{2062}\u{61c}\u{34f}",
        ] {
            assert!(!is_any(text), "{text:?}");
            assert_eq!(trimmed(text), "", "{text:?}");
        }
    }

    #[test]
    fn what_is_seen_stays_whole() {
        for text in [
            "a",
            ".",
            "¡Hola!",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "👩\u{200d}👩\u{200d}👧",
            "👍🏽",
            // The flag of England ends with invisible tags.
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "مرحبا",
            "می\u{200c}خواهم",
            "\u{2067}שלום\u{2069}",
            "葛\u{e0100}",
            "ᠠ\u{180b}",
            "\u{fffd}",
            "\u{e000}",
            "\u{2801}",
        ] {
            assert!(is_any(text), "{text:?}");
            assert_eq!(trimmed(text), text, "{text:?}");
        }
    }

    #[test]
    fn blank_lines_around_it_go_and_the_first_lines_indentation_stays() {
        for (text, want) in [
            ("\n\nHola\n\n", "Hola"),
            ("\r\n \r\nHola \t\r\n", "Hola"),
            ("\n  - uno\n  - dos\n", "  - uno\n  - dos"),
            ("Hola\n\nAna", "Hola\n\nAna"),
            ("\u{200b}\nHola\u{200b}\n\u{200b}", "Hola"),
            ("\u{2028}Hola\u{2029}", "Hola"),
            ("\u{200b}Hola", "\u{200b}Hola"),
            ("❤\u{fe0f} \n", "❤\u{fe0f}"),
            (" a", " a"),
        ] {
            assert_eq!(trimmed(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_part_of_the_text_remains_with_all_that_is_seen(text in "(\\PC|\\s|[\u{200b}\u{fe0f}\u{2800}]){0,20}") {
            let kept = trimmed(&text);
            prop_assert!(text.contains(kept));
            prop_assert_eq!(is_any(&text), !kept.is_empty());
            let seen = |text: &str| text.chars().filter(|c| is_visible(*c)).collect::<String>();
            prop_assert_eq!(seen(kept), seen(&text));
            prop_assert_eq!(trimmed(kept), kept, "once is enough");
        }
    }
}
