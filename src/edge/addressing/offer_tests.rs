use proptest::prelude::*;

use super::*;

fn row(id: &str, title: &str, description: &str) -> v1::ListItem {
    v1::ListItem { id: id.to_owned(), title: title.to_owned(), description: description.to_owned() }
}

fn offer(buttons: &[&str], rows: &[v1::ListItem]) -> Offer {
    let interactive = v1::Interactive {
        buttons: buttons.iter().map(|title| (*title).to_owned()).collect(),
        button_ids: buttons.iter().map(|title| format!("b-{title}")).collect(),
        list_items: rows.to_vec(),
        ..v1::Interactive::default()
    };
    Offer::of(Some(&interactive))
}

fn menu() -> Offer {
    offer(
        &["Sí", "No, gracias"],
        &[row("r-2", "Mesa de dos", "junto a la ventana"), row("", "Mesa de *seis*", "")],
    )
}

/// The id of what is picked.
fn picked(offer: &Offer, text: &str) -> Option<String> {
    offer.picked(text).map(|content| match content {
        Content::ButtonReply(reply) => reply.button_id,
        Content::ListReply(reply) if reply.row_id.is_empty() => reply.title,
        Content::ListReply(reply) => reply.row_id,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_number_or_a_label_picks_an_option() {
    for (text, want) in [
        ("1", Some("b-Sí")),
        (" 1\n", Some("b-Sí")),
        ("1.", Some("b-Sí")),
        ("1)", Some("b-Sí")),
        ("(1)", Some("b-Sí")),
        ("*1*", Some("b-Sí")),
        ("1\u{fe0f}\u{20e3}", Some("b-Sí")),
        ("１", Some("b-Sí")),
        ("2", Some("b-No, gracias")),
        ("3", Some("r-2")),
        ("4", Some("Mesa de *seis*")),
        ("Sí", Some("b-Sí")),
        ("si", Some("b-Sí")),
        ("SÍ!", Some("b-Sí")),
        ("«Sí».", Some("b-Sí")),
        ("Si\u{301}", Some("b-Sí")),
        ("1. Sí", Some("b-Sí")),
        ("1 - sí", None),
        ("no,  gracias", Some("b-No, gracias")),
        ("No gracias.", Some("b-No, gracias")),
        ("mesa de dos", Some("r-2")),
        ("3. Mesa de dos: junto a la ventana", Some("r-2")),
        ("mesa de seis", Some("Mesa de *seis*")),
        ("¿Sí?", None),
        ("Sí?", None),
        ("Sí, pero mañana", None),
        ("No", None),
        ("mesa", None),
        ("0", None),
        ("01", None),
        ("+1", None),
        ("-1", None),
        ("5", None),
        ("1 2", None),
        ("1,2", None),
        ("uno", None),
        ("", None),
        (".", None),
        ("\u{200b}", None),
        ("99999999999999999999999", None),
    ] {
        assert_eq!(picked(&menu(), text).as_deref(), want, "{text:?}");
    }
    assert_eq!(picked(&Offer::default(), "1"), None);
    assert_eq!(picked(&menu(), &format!("1{}", " ".repeat(LONGEST_PICK))), None);
}

#[test]
fn what_was_written_stays_beside_what_it_means() {
    let (button_id, text, written) = ("b-Sí".into(), "Sí".into(), " si\n".into());
    let button = ButtonReply { button_id, text, written, ..Default::default() };
    assert_eq!(menu().picked(" si\n"), Some(Content::ButtonReply(button)));
    let row = ListReply {
        row_id: "r-2".into(),
        title: "Mesa de dos".into(),
        description: "junto a la ventana".into(),
        written: "3".into(),
    };
    assert_eq!(menu().picked("3"), Some(Content::ListReply(row)));
}

#[test]
fn what_could_mean_two_options_picks_none() {
    let people = offer(&["2", "4", "6"], &[]);
    assert_eq!(picked(&people, "2"), None, "the second option, or the one called 2");
    assert_eq!(picked(&people, "4").as_deref(), Some("b-4"), "there is no fourth option");
    assert_eq!(picked(&people, "1").as_deref(), Some("b-2"));
    let twice = offer(&["Sí", "Sí"], &[]);
    assert_eq!(picked(&twice, "sí"), None);
    assert_eq!(picked(&twice, "2").as_deref(), Some("b-Sí"));
    let accents = offer(&["Papá", "Papa"], &[]);
    assert_eq!(picked(&accents, "Papa").as_deref(), Some("b-Papa"));
    assert_eq!(picked(&accents, "Papá").as_deref(), Some("b-Papá"));
    assert_eq!(picked(&accents, "papa"), None);
    let own = offer(&["1", "Otro"], &[]);
    assert_eq!(picked(&own, "1").as_deref(), Some("b-1"), "its number is its label");
}

#[test]
fn a_menu_that_the_assistant_wrote_itself_is_recognised() {
    let menu = menu();
    for (words, want) in [
        ("¿Cuál?\n1. Sí\n2. No, gracias\n3. Mesa de dos\n4. Mesa de seis", true),
        (
            "¿Cuál?\n\n1) sí\n\n2) No, gracias\n3) Mesa de dos - al sol\n4) Mesa de seis ($20)\n\nEscribe el número.",
            true,
        ),
        ("*1.* Sí\n*2.* No, gracias\n*3.* Mesa de dos: x\n*4.* *Mesa de seis*", true),
        (
            "1\u{fe0f}\u{20e3} Sí\n2\u{fe0f}\u{20e3} No, gracias\n3\u{fe0f}\u{20e3} Mesa de dos\n4\u{fe0f}\u{20e3} Mesa de seis",
            true,
        ),
        ("1. Sí\n2. No, gracias\n3. Mesa de dos", false),
        ("1. No, gracias\n2. Sí\n3. Mesa de dos\n4. Mesa de seis", false),
        ("2. Sí\n3. No, gracias\n4. Mesa de dos\n5. Mesa de seis", false),
        ("1. Sími\n2. No, gracias\n3. Mesa de dos\n4. Mesa de seis", false),
        ("• Sí\n• No, gracias\n• Mesa de dos\n• Mesa de seis", false),
        ("", false),
    ] {
        assert_eq!(menu.is_in(words), want, "{words}");
    }
    assert!(!Offer::default().is_in("1. Sí"));
    let one = offer(&["Sí"], &[]);
    assert!(one.is_in("1. Sí") && !one.is_in("1. Sírvase") && !one.is_in("1."));
}

#[test]
fn what_nobody_would_see_is_no_option_and_an_option_is_one_line() {
    let offer = offer(&["\u{200b}", "Sí\n2. No"], &[row("", "", "x"), row("", "Dos", "\n")]);
    assert_eq!(offer.lines(), [vec!["1. Sí 2. No".to_owned()], vec!["2. Dos".to_owned()]]);
    assert_eq!(picked(&offer, "1").as_deref(), Some("b-Sí\n2. No"), "its id stays with it");
    assert!(offer.size() > "b-Sí\n2. No".len() && Offer::default().size() == 0);
}

proptest! {
    /// What is shown is what counts: each line, written back, and each number pick their own option, if labels are no
    /// numbers and differ.
    #[test]
    fn every_line_and_every_number_pick_their_option(
        labels in prop::collection::btree_set("[a-z]{1,6}", 1..20),
        rows in 0..20_usize,
    ) {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let (buttons, rest) = labels.split_at(labels.len().saturating_sub(rows));
        let rest: Vec<_> = rest.iter().map(|label| row(&format!("b-{label}"), label, "")).collect();
        let offer = offer(buttons, &rest);
        let lines = offer.lines().concat();
        prop_assert_eq!(lines.len(), labels.len());
        prop_assert!(offer.is_in(&lines.join("\n")));
        for (number, (label, line)) in (1..).zip(labels.iter().zip(&lines)) {
            let want = format!("b-{label}");
            for said in [&number.to_string(), line, &label.to_uppercase()] {
                prop_assert_eq!(picked(&offer, said), Some(want.clone()), "{}", said);
            }
        }
        prop_assert_eq!(picked(&offer, &(labels.len() + 1).to_string()), None);
    }

    #[test]
    fn no_text_does_harm(text in "\\PC{0,40}", button in "\\PC{0,10}") {
        let offer = offer(&[&button], &[]);
        if let Some(Content::ButtonReply(reply)) = offer.picked(&text) {
            prop_assert_eq!(reply.written, text);
        }
        offer.is_in(&button);
    }
}
