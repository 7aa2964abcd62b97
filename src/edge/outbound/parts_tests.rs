use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> Vec<String> {
    let Parts { texts, cut_off } = parts(text, 0);
    assert!(!cut_off);
    texts
}

/// So many letters.
fn letters(count: usize) -> String {
    "x".repeat(count)
}

/// What is left if blanks and fences do not count.
fn bare(text: &str) -> String {
    text.replace(FENCE, "").chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn what_fits_is_left_as_it_is() {
    for text in ["Hola", "  a\n\n", &letters(LONGEST), &"€".repeat(LONGEST), &"😀".repeat(LONGEST / 2)] {
        assert_eq!(whole(text), [text]);
    }
}

#[test]
fn a_cut_is_at_a_blank_line_or_a_line_or_a_blank_and_in_an_emergency_between_characters() {
    let (long, half) = (letters(3_000), letters(2_000));
    let family = "👩‍👩‍👧‍👦";
    let many = family.repeat(400);
    let fitting = LONGEST / units(family);
    for (text, want) in [
        // A line break and a blank come later, and are not taken.
        (
            format!("{long}\n\n{}\n{} b", letters(600), letters(500)),
            vec![long.clone(), format!("{}\n{} b", letters(600), letters(500))],
        ),
        (format!("{long}\n{} {half}", letters(50)), vec![long.clone(), format!("{} {half}", letters(50))]),
        (format!("{long} {half}"), vec![long.clone(), half.clone()]),
        // A blank line that would leave more than half of the message unused.
        (format!("a\n\n{long} {half}"), vec![format!("a\n\n{long}"), half.clone()]),
        // The next line keeps its indent.
        (format!("{long}\n\n   - {half}"), vec![long.clone(), format!("   - {half}")]),
        (format!("{long}\r\n\r\n{half}"), vec![long.clone(), half.clone()]),
        (
            format!("{long} \u{301}{half}"),
            vec![format!("{long} \u{301}{}", letters(LONGEST - 3_002)), letters(2_000 + 3_002 - LONGEST)],
        ),
        // No break here.
        (
            format!("{long}\u{a0}{half}"),
            vec![format!("{long}\u{a0}{}", letters(LONGEST - 3_001)), letters(2_000 + 3_001 - LONGEST)],
        ),
        (letters(LONGEST + 1), vec![letters(LONGEST), "x".to_owned()]),
        (format!("{} b", letters(LONGEST)), vec![letters(LONGEST), "b".to_owned()]),
        (many, vec![family.repeat(fitting), family.repeat(400 - fitting)]),
        (
            format!("a{}", "\u{301}".repeat(LONGEST)),
            vec![format!("a{}", "\u{301}".repeat(LONGEST - 1)), "\u{301}".to_owned()],
        ),
    ] {
        assert_eq!(whole(&text), want);
    }
}

#[test]
fn a_fence_is_moved_whole_or_closed_and_opened_again() {
    let line = format!("{}\n", letters(99));
    let block = |lines: usize| format!("{FENCE}\n{}{FENCE}", line.repeat(lines));
    let words = letters(3_000);
    // It fits into a message of its own.
    assert_eq!(
        whole(&format!("{words}\n{}\nfin", block(20))),
        [words.clone(), format!("{}\nfin", block(20))]
    );
    // It does not: 40 lines with both fences are 4,008.
    let torn = whole(&block(100));
    assert_eq!(torn, [block(40), block(40), block(20)]);
    // Behind what comes before it, as much as has room there.
    assert_eq!(whole(&format!("{words}\n{}", block(50))), [format!("{words}\n{}", block(10)), block(40)]);
    // It ends with the message, or only its end would be left.
    for behind in [" fin", "fin"] {
        let block = format!("{FENCE}\n{}\n{FENCE}", letters(LONGEST - 8));
        assert_eq!(whole(&format!("{block}{behind}")), [block, "fin".to_owned()]);
    }
    let tight = format!("{FENCE}{}{FENCE}fin", letters(LONGEST - 4));
    let (first, second) = (letters(LONGEST - 7), letters(3));
    assert_eq!(whole(&tight), [format!("{FENCE}{first}{CLOSES}"), format!("{OPENS}{second}{FENCE}fin")]);
    // What is not closed is a text.
    assert_eq!(whole(&format!("{FENCE}{words} {words}")), [format!("{FENCE}{words}"), words]);
}

#[test]
fn blanks_without_end_are_no_message() {
    let blanks = " ".repeat(3 * LONGEST);
    assert_eq!(whole(&format!("a{blanks}b")), ["a", "b"]);
    let long = letters(3_000);
    let hidden = "\u{200b}".repeat(LONGEST);
    assert_eq!(whole(&format!("{long} {hidden} b")), [long, "b".to_owned()]);
    let fence = whole(&format!("{FENCE}{blanks}b{FENCE}"));
    assert_eq!(bare(&fence.concat()), "b", "{fence:?}");
}

#[test]
fn options_are_together_and_last() {
    let menu = "1. Sí\n2. No";
    let split = |words: &str| parts(&format!("{words}\n\n{menu}"), menu.len());
    // Beside words that leave room for them, with the blank line as it was.
    let near = split(&letters(LONGEST - 5));
    assert_eq!(near.texts, [letters(LONGEST - 5), menu.to_owned()]);
    let far = split(&format!("{}\n\nb", letters(LONGEST)));
    assert_eq!(far.texts, [letters(LONGEST), format!("b\n\n{menu}")]);
    // Also if the words have no end.
    let endless = split(&letters(LONGEST * 100));
    assert!(endless.cut_off);
    assert_eq!((endless.texts.len(), endless.texts[MOST - 1].as_str()), (MOST, menu));
    // Options that fit into no message are cut like a text; a length that is none is as none.
    let long = format!("1. {}\n2. {}", letters(3_000), letters(3_000));
    assert_eq!(parts(&long, long.len()).texts.len(), 2);
    assert_eq!(parts(&letters(5_000), 6_000).texts.len(), 2);
    assert_eq!(parts(&letters(5_000), 7).texts, parts(&letters(5_000), 0).texts);
}

#[test]
fn a_text_without_end_is_cut_off_and_says_so() {
    let Parts { texts, cut_off } = parts(&letters(LONGEST * MOST + 1), 0);
    assert!(cut_off && texts.len() == MOST);
    assert!(texts[MOST - 1].ends_with(MORE) && texts[..MOST - 1].iter().all(|part| !part.ends_with(MORE)));
    let Parts { texts, cut_off } = parts(&letters(LONGEST * MOST), 0);
    assert!(!cut_off && texts.len() == MOST);
}

/// Words, blanks, marks and code as they come.
fn writing() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-zé€😀]{1,40}",
        8 => Just(" ".to_owned()),
        3 => Just("\n".to_owned()),
        2 => Just("\n\n".to_owned()),
        1 => Just("```".to_owned()),
        1 => Just("👩‍👩‍👧‍👦".to_owned()),
        1 => (1_usize..5_000).prop_map(letters),
        1 => (1_usize..200).prop_map(|count| "e\u{301}".repeat(count)),
        1 => (1_usize..6_000).prop_map(|count| " ".repeat(count)),
    ];
    prop::collection::vec(piece, 1..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn parts_are_the_text_in_its_order_and_none_is_too_long(text in writing(), menu in 0_usize..3_000) {
        prop_assume!(visible::is_any(&text));
        let Parts { texts, cut_off } = parts(&text, menu);
        prop_assert!(!texts.is_empty() && texts.len() <= MOST);
        prop_assert!(texts.iter().all(|part| units(part) <= LONGEST));
        prop_assert_eq!(&parts(&text, menu).texts, &texts);
        if !cut_off {
            prop_assert_eq!(bare(&texts.concat()), bare(&text));
            let seen = |text: &str| bare(text).graphemes(true).map(str::to_owned).collect::<Vec<_>>();
            let torn: Vec<_> = texts.iter().flat_map(|part| seen(part)).collect();
            prop_assert_eq!(torn, seen(&text), "a character is torn");
        }
    }

    /// Code between words: each message has as many fences closed as opened.
    #[test]
    fn no_fence_is_torn(blocks in prop::collection::vec((0_usize..3_000, 1_usize..150), 1..5)) {
        let text: Vec<_> = blocks
            .iter()
            .map(|(words, lines)| format!("{}\n{FENCE}\n{}{FENCE}", letters(*words), "let a = b;\n".repeat(*lines)))
            .collect();
        let Parts { texts, cut_off } = parts(&text.join("\n"), 0);
        prop_assert!(!cut_off);
        for part in &texts {
            prop_assert!(part.matches(FENCE).count() % 2 == 0, "{}", part);
        }
        prop_assert_eq!(bare(&texts.concat()), bare(&text.concat()));
    }
}
