//! The options that the backend offers, as buttons or as the rows of a list. Pure.
//!
//! An option is a string, a number, or an object with `title` or `text`. What is none of these costs that one option,
//! and not the answer: the person gets the words and the other options.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::wire::visible;

/// What an object calls its label. The first that can be seen counts.
const LABELS: [&str; 2] = ["title", "text"];
/// What an object calls its id.
const IDS: [&str; 5] = ["id", "row_id", "rowId", "button_id", "buttonId"];

/// One option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The backend's own name of it. Empty: it gave none.
    pub id: String,
    /// What the person sees.
    pub title: String,
    /// The line that explains it. Empty: there is none.
    pub description: String,
}

/// All options of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Those that can be shown.
    pub all: Vec<Choice>,
    /// How many there are besides that have no label.
    pub odd: usize,
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut choices = Self::default();
        for value in Vec::<Value>::deserialize(input)? {
            match Choice::read(&value) {
                Some(choice) => choices.all.push(choice),
                // A gap in a list, and nothing that somebody meant.
                None if value.is_null() => {}
                None => choices.odd += 1,
            }
        }
        Ok(choices)
    }
}

impl Choice {
    fn read(value: &Value) -> Option<Self> {
        let Value::Object(fields) = value else {
            return Some(Self { title: words(value)?, ..Self::default() });
        };
        let first = |names: &[&str]| names.iter().find_map(|name| words(fields.get(*name)?));
        Some(Self {
            title: first(&LABELS)?,
            id: first(&IDS).unwrap_or_default(),
            description: first(&["description"]).unwrap_or_default(),
        })
    }
}

/// A string or a number, as far as a person sees something of it.
fn words(value: &Value) -> Option<String> {
    let words = match value {
        Value::String(text) => visible::trimmed(text).trim_start().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(words).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(id: &str, title: &str, description: &str) -> Choice {
        Choice { id: id.to_owned(), title: title.to_owned(), description: description.to_owned() }
    }

    #[test]
    fn an_option_is_what_somebody_can_have_meant_as_one() {
        for (json, want) in [
            (r#""Sí""#, Some(choice("", "Sí", ""))),
            (r#"" Sí\n""#, Some(choice("", "Sí", ""))),
            ("4", Some(choice("", "4", ""))),
            ("2.5", Some(choice("", "2.5", ""))),
            (r#"{"id":"yes","title":"Sí"}"#, Some(choice("yes", "Sí", ""))),
            (r#"{"text":"Sí"}"#, Some(choice("", "Sí", ""))),
            (r#"{"id":7,"text":4,"new":[]}"#, Some(choice("7", "4", ""))),
            (r#"{"title":"","text":"Sí"}"#, Some(choice("", "Sí", ""))),
            (r#"{"title":null,"text":"Sí","id":null}"#, Some(choice("", "Sí", ""))),
            (r#"{"title":"Sí","text":"No"}"#, Some(choice("", "Sí", ""))),
            (r#"{"row_id":"r","title":"Dos","description":"al sol"}"#, Some(choice("r", "Dos", "al sol"))),
            (r#"{"rowId":"r","title":"Dos","description":null}"#, Some(choice("r", "Dos", ""))),
            (r#"{"buttonId":"b","text":"Dos","description":["x"]}"#, Some(choice("b", "Dos", ""))),
            (r#"{"button_id":{"x":1},"title":"Dos"}"#, Some(choice("", "Dos", ""))),
            ("null", None),
            ("true", None),
            ("{}", None),
            ("[]", None),
            (r#"["Sí"]"#, None),
            (r#""""#, None),
            (r#""\u200b""#, None),
            (r#"{"id":"yes"}"#, None),
            (r#"{"title":{"text":"Sí"}}"#, None),
        ] {
            assert_eq!(Choice::read(&serde_json::from_str(json).unwrap()), want, "{json}");
        }
    }

    #[test]
    fn one_odd_option_costs_itself_only() {
        let read = |json: &str| serde_json::from_str::<Choices>(json);
        let choices = read(r#"["Sí",null,{"x":1},[],"",{"text":"No"}]"#).unwrap();
        assert_eq!(choices, Choices { all: vec![choice("", "Sí", ""), choice("", "No", "")], odd: 3 });
        assert_eq!(read("[]").unwrap(), Choices::default());
        assert!(read(r#""no""#).is_err() && read("{}").is_err() && read("7").is_err());
    }
}
