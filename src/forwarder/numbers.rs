//! Phone numbers of one person, written in two ways. Pure.
//!
//! In three countries a mobile number has a digit that dialling wants and WhatsApp may leave out, or the other way
//! round. Whoever compares two numbers compares what [`canonical`] makes of them. No address is ever made of it.

/// One form for all ways to write a number: in digits, with the country code.
pub fn canonical(number: &str) -> String {
    let digits = |from: usize| number.get(from..).unwrap_or_default();
    match (number.get(..2), number.len()) {
        // Brazil: 55, an area of two digits, then 9 and eight digits. A mobile number's eight digits begin with 6 to 9.
        (Some("55"), 12) if digits(4).starts_with(['6', '7', '8', '9']) => {
            format!("{}9{}", number.get(..4).unwrap_or_default(), digits(4))
        }
        // Mexico: 52, once a 1, then ten digits.
        (Some("52"), 13) if digits(2).starts_with('1') => format!("52{}", digits(3)),
        // Argentina: 54, a 9 if it is a mobile number, then ten digits.
        (Some("54"), 12) => format!("549{}", digits(2)),
        _ => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_number() {
        for (one, other) in [
            ("551187654321", "5511987654321"),
            ("554799990000", "5547999990000"),
            ("5215512345678", "525512345678"),
            ("5213312345678", "523312345678"),
            ("541112345678", "5491112345678"),
            ("542914123456", "5492914123456"),
        ] {
            assert_eq!(canonical(one), canonical(other));
        }
    }

    #[test]
    fn nobody_else_has_it() {
        for number in [
            // A landline in Brazil has no ninth digit.
            "551132654321",
            "5511987654321",
            "525512345678",
            "5491112345678",
            // Too short or too long to be one of them, and other countries.
            "5511",
            "55118765432",
            "52155123456789",
            "5411123456",
            "54911123456789",
            "15551234567",
            "491511234567",
            "5911234567890",
            "12",
            "",
        ] {
            assert_eq!(canonical(number), number);
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_settled_at_once_and_keeps_what_makes_a_number_unique(number in "(55|52|54|1)?[0-9]{4,16}") {
            let found = canonical(&number);
            proptest::prop_assert_eq!(&canonical(&found), &found);
            let last = |text: &str| text.get(text.len().saturating_sub(8)..).map(str::to_owned);
            if number.len() > 8 {
                proptest::prop_assert_eq!(last(&found), last(&number));
            }
        }
    }
}
