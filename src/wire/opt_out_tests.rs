//! Tests of `opt_out`.

use super::*;
use crate::wire::v1::{ButtonReply, ListReply, Media, Reaction, Text};
use proptest::prelude::*;

const NOON: i64 = 1_700_000_000_000;

fn at(seconds: i64) -> i64 {
    NOON + seconds * 1_000
}

fn wrote(before: Option<&OptOut>, state: OptOutState, seconds: i64, id: &str) -> Option<OptOut> {
    said(before, state, at(seconds), id)
}

#[test]
fn a_word_is_known_however_it_is_written() {
    let list = "stop, baja,¡No más!,abmelden,straße,iptal,отписаться,停止,やめて,إلغاء,बंद करो,hủy,opt-out,🛑";
    let words = Words::new(words(list).unwrap(), HashSet::new()).unwrap();
    for text in [
        "stop",
        "STOP",
        " Stop. ",
        "*STOP*",
        "_stop_",
        "~Stop~",
        "`stop`",
        "“Stop!”",
        "¡stop!",
        "ＳＴＯＰ",
        "stöp",
        "s.t.o.p.",
        "\u{200b}stop\u{200d}",
        "no mas",
        "NO  MÁS!!!",
        "No\nmás",
        "BAJA",
        "Abmelden!",
        "STRASSE",
        "İPTAL",
        "IPTAL",
        "ıptal",
        "ОТПИСАТЬСЯ",
        "停止。",
        "やめて！",
        "إِلْغاء",
        "बंद करो।",
        "HỦY",
        "huy",
        "Opt-Out",
        "OptOut",
        "🛑",
        "🛑\u{fe0f}",
    ] {
        assert_eq!(words.say(text), Some(OptOutState::Out), "{text}");
    }
    for text in [
        "",
        ".",
        "stop please",
        "don't stop",
        "stopp",
        "stop2",
        "bajar",
        "no",
        "más no",
        "बुंद करो",
        "停",
        "ゃめて",
        "👍",
    ] {
        assert_eq!(words.say(text), None, "{text}");
    }
    let long = format!("stop{}", " ".repeat(LONGEST_TEXT));
    assert_eq!(words.say(&long), None);
}

#[test]
fn marks_that_make_other_letters_are_kept() {
    // `かき` (persimmon) and `がき` (brat), `はは` and `ぱぱ`.
    assert_ne!(folded("かき"), folded("がき"));
    assert_ne!(folded("はは"), folded("ぱぱ"));
    assert_ne!(folded("कि"), folded("कु"));
    assert_eq!(folded("ガキ"), folded("ｶﾞｷ"), "half as wide");
    assert_eq!(folded("שָׁלוֹם"), folded("שלום"));
    assert_eq!(folded("ΤΈΛΟΣ"), folded("τέλος"));
}

#[test]
fn a_list_of_words_has_bounds_and_no_word_means_both() {
    assert_eq!(words(" , ,").unwrap(), HashSet::new());
    assert_eq!(words("Stop,STOP,stóp").unwrap(), HashSet::from(["stop".to_owned()]));
    for bad in ["!!!", "stop,…", &"x".repeat(LONGEST + 1), &vec!["a"; MOST + 1].join(",")] {
        assert_eq!(words(bad), None, "{bad}");
    }
    let list = |list: &str| words(list).unwrap();
    assert_eq!(Words::new(list("stop,alto"), list("ALTO!")), None);
    let both = Words::new(list("stop"), list("start")).unwrap();
    assert_eq!(both.say("Start!"), Some(OptOutState::In));
}

#[test]
fn what_is_written_pressed_or_below_a_file_counts_and_nothing_else() {
    let stop = || "stop".to_owned();
    let file = || Media { caption: stop(), ..Media::default() };
    for content in [
        Content::Text(Text { body: stop() }),
        Content::ButtonReply(ButtonReply { text: stop(), ..ButtonReply::default() }),
        Content::ListReply(ListReply { title: stop(), ..ListReply::default() }),
        Content::Image(file()),
        Content::Video(file()),
        Content::Document(file()),
    ] {
        assert_eq!(written(&content), Some("stop"), "{content:?}");
    }
    for content in [
        Content::Text(Text::default()),
        Content::Reaction(Reaction { emoji: stop(), ..Reaction::default() }),
        Content::Sticker(file()),
    ] {
        assert_eq!(written(&content), None, "{content:?}");
    }
}

#[test]
fn the_newest_word_holds_whenever_it_comes() {
    let out = wrote(None, OptOutState::Out, 0, "A").unwrap();
    assert_eq!((out.state(), out.cause(), out.at_ms), (OptOutState::Out, OptOutCause::Person, at(0)));
    let back = wrote(Some(&out), OptOutState::In, 60, "B").unwrap();
    assert_eq!(back.state(), OptOutState::In);
    // The old one again, and one in between that comes late.
    assert_eq!(wrote(Some(&back), OptOutState::Out, 0, "A"), None);
    assert_eq!(wrote(Some(&back), OptOutState::Out, 30, "C"), None);
    assert_eq!(wrote(Some(&back), OptOutState::Out, 61, "D").unwrap().state(), OptOutState::Out);
    // Who only says it wants it has said so, too.
    let early = wrote(None, OptOutState::In, 60, "B").unwrap();
    assert_eq!(wrote(Some(&early), OptOutState::Out, 0, "A"), None);
}

#[test]
fn within_a_second_what_comes_again_changes_nothing() {
    let out = wrote(None, OptOutState::Out, 0, "A").unwrap();
    let back = wrote(Some(&out), OptOutState::In, 0, "B").unwrap();
    assert_eq!(back.before_ids, ["A"]);
    assert_eq!(wrote(Some(&back), OptOutState::Out, 0, "A"), None);
    assert_eq!(wrote(Some(&back), OptOutState::In, 0, "B"), None);
    let mut last = back;
    for number in 0..40 {
        last = wrote(Some(&last), OptOutState::Out, 0, &number.to_string()).unwrap();
    }
    assert_eq!(last.before_ids.len(), OF_ONE_SECOND);
    assert_eq!(last.before_ids.last().map(String::as_str), Some("38"));
    assert_eq!(wrote(Some(&last), OptOutState::In, 1, "Z").unwrap().before_ids, [""; 0]);
}

#[test]
fn an_operators_word_counts_from_when_the_stream_has_it() {
    let removed = asked_for(OptOutState::In).resolved(at(5) + 700);
    assert_eq!(removed.at_ms, at(5) + 700);
    assert_eq!(wrote(Some(&removed), OptOutState::Out, 4, "A"), None, "the operator has seen it");
    assert!(wrote(Some(&removed), OptOutState::Out, 5, "A").is_some());
    let added = asked_for(OptOutState::Out).resolved(at(5) + 700);
    assert_eq!(wrote(Some(&added), OptOutState::In, 5, "A"), None);
    assert!(wrote(Some(&added), OptOutState::In, 6, "A").is_some());
    assert_eq!(added.clone().resolved(at(9)), added, "once");
}

#[test]
fn of_a_persons_addresses_the_newest_word_counts() {
    let one = |state, seconds| OptOut { at_ms: at(seconds), ..asked_for(state) };
    for (held, want) in [
        (vec![], false),
        (vec![one(OptOutState::Out, 0)], true),
        (vec![one(OptOutState::In, 0)], false),
        (vec![one(OptOutState::Out, 0), one(OptOutState::In, 1)], false),
        (vec![one(OptOutState::Out, 1), one(OptOutState::In, 0)], true),
        (vec![one(OptOutState::Out, 0), one(OptOutState::In, 0)], true),
        (vec![one(OptOutState::In, 0), one(OptOutState::Out, 0)], true),
    ] {
        assert_eq!(is_out(held.iter()), want, "{held:?}");
    }
}

#[test]
fn every_character_that_is_folded_stays_so() {
    // The scripts in use, and their mathematical and compatibility forms.
    for c in (0..0x2_0000).filter_map(char::from_u32) {
        let once = folded(&c.to_string());
        assert_eq!(folded(&once), once, "U+{:04X}", u32::from(c));
    }
}

#[test]
fn the_marks_of_a_letter_are_in_one_order_whatever_stood_between_them() {
    // Two of Hindi, which Unicode has in this order: a dot below the letter, and one that takes its vowel.
    let (nukta, virama) = ('\u{93c}', '\u{94d}');
    let want = folded(&format!("क{nukta}{virama}"));
    for apart in ["", "!", "\u{200b}", "*"] {
        assert_eq!(folded(&format!("क{virama}{apart}{nukta}")), want, "{apart:?}");
        assert_eq!(folded(&want), want);
    }
}

proptest! {
    /// Whatever the order in which WhatsApp hands them over, and however often: what was written last holds.
    #[test]
    fn the_word_of_the_latest_time_holds(words in proptest::collection::vec((0_i64..50, any::<bool>()), 1..30)) {
        let mut seen = HashSet::new();
        let words: Vec<_> = words.into_iter().filter(|(time, _)| seen.insert(*time)).collect();
        let state = |is_out: bool| if is_out { OptOutState::Out } else { OptOutState::In };
        let mut held: Option<OptOut> = None;
        for (time, is_out) in words.iter().chain(words.iter().rev()) {
            held = wrote(held.as_ref(), state(*is_out), *time, &time.to_string()).or(held);
        }
        let (_, last) = words.iter().max_by_key(|(time, _)| *time).unwrap();
        prop_assert_eq!(held.unwrap().state(), state(*last));
    }

    #[test]
    fn what_is_folded_stays_so(text in "\\PC{0,40}") {
        let once = folded(&text);
        prop_assert_eq!(folded(&once), once);
    }
}
