use proptest::prelude::*;

use super::to_whatsapp;

#[test]
fn what_a_model_writes_is_shown_as_a_phone_can() {
    for (markdown, want) in [
        ("Hola", "Hola"),
        ("", ""),
        ("**Sí**, abrimos *hoy* y ~~mañana~~ con `pago`.", "*Sí*, abrimos _hoy_ y ~mañana~ con `pago`."),
        ("__Sí__ y _no_", "*Sí* y _no_"),
        ("***todo***", "_*todo*_"),
        ("uno\ndos\n\n\n\ntres", "uno\ndos\n\ntres"),
        ("# Menú\nHoy", "*Menú*\n\nHoy"),
        ("## **Menú**\n### de *hoy*", "*Menú*\n\n*de _hoy_*"),
        ("Hay:\n- pan\n- *vino*\n\nFin", "Hay:\n\n- pan\n- _vino_\n\nFin"),
        ("1. uno\n2. dos\n   - a\n   - b\n3. tres", "1. uno\n2. dos\n   - a\n   - b\n3. tres"),
        ("3) tres\n4) cuatro", "3. tres\n4. cuatro"),
        ("* a\n\n* b", "- a\n- b"),
        ("- [x] hecho\n- [ ] por hacer", "- ☑ hecho\n- ☐ por hacer"),
        ("[la web](https://a.example/x)", "la web (https://a.example/x)"),
        ("**[la web](https://a.example)**", "*la web (https://a.example)*"),
        ("[https://a.example](https://a.example/)", "https://a.example"),
        ("<https://a.example> y <ana@a.example>", "https://a.example y ana@a.example"),
        ("![plano](https://a.example/p.png)", "plano (https://a.example/p.png)"),
        ("[](https://a.example)", "https://a.example"),
        ("> dijo **que**\n> sí\n\nbien", "> dijo *que*\n> sí\n\nbien"),
        ("Así:\n```rust\nlet a = *b*;\n\n\n  c\n```\nfin", "Así:\n\n```\nlet a = *b*;\n\n\n  c\n```\n\nfin"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |", "*a | b*\n1 | 2\n3 | 4"),
        ("a<br>b & c &amp; d", "a<br>b & c & d"),
        ("2 * 3 * 4 = 24, snake_case_name", "2 * 3 * 4 = 24, snake_case_name"),
        ("¿Cuánto? $5_000", "¿Cuánto? $5_000"),
    ] {
        assert_eq!(to_whatsapp(markdown), want, "{markdown:?}");
    }
}

/// WhatsApp shows a mark as it is written if it does not count.
#[test]
fn a_mark_that_would_not_count_is_left_out() {
    for (markdown, want) in [
        ("in**cre**íble", "increíble"),
        ("**a**b", "ab"),
        ("**uno\ndos**", "*uno*\n*dos*"),
        ("***uno*\ndos**", "*_uno_*\n*dos*"),
        ("**uno *dos** tres*", "_uno dos tres_"),
        ("``a`b``", "a`b"),
        ("**`código`**", "*`código`*"),
    ] {
        assert_eq!(to_whatsapp(markdown), want, "{markdown:?}");
    }
}

/// Deep nesting costs neither the stack nor a text that grows with the square of its depth.
#[test]
fn a_hostile_text_stays_small() {
    for hostile in [
        "> ".repeat(20_000) + "a\nb\nc",
        "- ".repeat(20_000) + "a",
        "*".repeat(20_000) + "a",
        "[".repeat(20_000) + "a",
        "![".repeat(20_000) + "a" + &"](b)".repeat(20_000),
        "**a ".repeat(10_000),
        "`".repeat(20_000),
        "<a ".repeat(20_000),
        "|a".repeat(10_000) + "\n" + &"|-".repeat(10_000) + "\n|b",
    ] {
        let shown = to_whatsapp(&hostile);
        assert!(shown.len() < 8 * hostile.len() + 100, "{} of {}", shown.len(), hostile.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// Whatever is written: it ends, and all words are there in their order.
    #[test]
    fn no_word_is_lost(words in proptest::collection::vec("[a-z]{1,6}", 1..8), seams in proptest::collection::vec(
        prop_oneof![Just(" "), Just("\n"), Just("\n\n"), Just(" **"), Just("** "), Just("\n- "), Just("\n> "), Just("\n# "), Just(" _"), Just("_ "), Just(" `"), Just("` "), Just("\n1. ")],
        8,
    )) {
        let text: String = words.iter().zip(&seams).flat_map(|(word, seam)| [word.as_str(), seam]).collect();
        let shown = to_whatsapp(&text);
        let mut rest = shown.as_str();
        for word in &words {
            let at = rest.find(word.as_str());
            prop_assert!(at.is_some(), "{word} of {text:?} is missing in {shown:?}");
            rest = &rest[at.unwrap() + word.len()..];
        }
        prop_assert_eq!(to_whatsapp(&text), shown, "it is the same each time");
    }

    #[test]
    fn it_ends_on_anything(text in "\\PC{0,200}") {
        let _ = to_whatsapp(&text);
    }
}
