//! The cells of a row: as SQLite tells them, as the journal keeps them, and where they stand in a statement. Pure.
//!
//! SQLite tells a row as a text in which each cell has a letter for its type, and hexadecimal digits. So nothing in it
//! has to be escaped.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// The columns of a table, in the order of a row's cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    columns: Vec<String>,
    id: u32,
}

impl Layout {
    /// `None`: a name is none, or there is none.
    pub(super) fn new(columns: Vec<String>) -> Option<Self> {
        if columns.is_empty() || !columns.iter().all(|name| is_name(name)) {
            return None;
        }
        let digest = Sha256::digest(columns.join("\n"));
        let id = digest.iter().take(4).fold(0_u32, |id, byte| (id << 8) | u32::from(*byte));
        Some(Self { columns, id })
    }

    /// By this a row says which columns its cells belong to.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The columns.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The same.
    pub(super) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).collect()
    }

    /// Has the other one all of these columns?
    pub(super) fn is_part_of(&self, other: &Self) -> bool {
        self.columns.iter().all(|column| other.columns.contains(column))
    }
}

/// Is it a name that SQL takes as it is?
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Stands for `NEW.`, `OLD.` or nothing.
const SIDE: &str = "@";

/// SQL that tells these columns, without a side yet.
pub(super) fn query(columns: &[&str]) -> String {
    let cell = |name: &&str| {
        let c = format!("{SIDE}{name}");
        format!(
            "CASE typeof({c}) WHEN 'text' THEN 'T' || hex({c}) WHEN 'blob' THEN 'B' || hex({c}) \
             WHEN 'integer' THEN 'I' || {c} WHEN 'real' THEN 'R' || printf('%!.17g', {c}) ELSE 'N' END"
        )
    };
    columns.iter().map(cell).collect::<Vec<_>>().join(" || ',' || ")
}

/// The same of one side of a trigger, `NEW.` or `OLD.`; of a row that is selected, without one.
pub(super) fn on_side(query: &str, side: &str) -> String {
    query.replace(SIDE, side)
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Cells {
    #[prost(uint32, tag = "1")]
    layout: u32,
    #[prost(message, repeated, tag = "2")]
    cells: Vec<Cell>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Cell {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    value: Option<Value>,
}

/// What is in a cell.
#[derive(Clone, PartialEq, prost::Oneof)]
#[prost(skip_debug)]
pub(super) enum Value {
    #[prost(sint64, tag = "1")]
    Integer(i64),
    #[prost(bytes, tag = "2")]
    Text(Vec<u8>),
    #[prost(bytes, tag = "3")]
    Blob(Vec<u8>),
    #[prost(double, tag = "4")]
    Real(f64),
}

fn read(told: &str) -> Option<Vec<Cell>> {
    let cell = |text: &str| {
        let (kind, rest) = text.split_at_checked(1)?;
        let value = match kind {
            "N" => None,
            "I" => Some(Value::Integer(rest.parse().ok()?)),
            "R" => Some(Value::Real(rest.parse().ok()?)),
            "T" => Some(Value::Text(from_hex(rest)?)),
            "B" => Some(Value::Blob(from_hex(rest)?)),
            _ => return None,
        };
        Some(Cell { value })
    };
    told.split(',').map(cell).collect()
}

/// A row's cells, for the journal.
pub(super) fn encode(layout: u32, told: &str) -> Option<Vec<u8>> {
    Some(Cells { layout, cells: read(told)? }.encode_to_vec())
}

/// A row's primary key, for the journal.
pub(super) fn encode_key(told: &str) -> Option<Vec<u8>> {
    encode(0, told)
}

/// A row's layout, and its cells; `None` among them is NULL.
pub(super) fn decode(value: &[u8]) -> Option<(u32, Vec<Option<Value>>)> {
    let Cells { layout, cells } = Cells::decode(value).ok()?;
    Some((layout, cells.into_iter().map(|cell| cell.value).collect()))
}

/// What these bytes are as a row, written again; and this text, as SQLite would tell a row. For the checks of decoders.
pub fn row_again(bytes: &[u8], told: &str) -> [Option<Vec<u8>>; 2] {
    let again = decode(bytes).map(|(layout, cells)| {
        let cells = cells.into_iter().map(|value| Cell { value }).collect();
        Cells { layout, cells }.encode_to_vec()
    });
    [again, encode(1, told)]
}

/// Where a cell stands in a statement. What is in it is bound, and never part of the statement.
pub(super) fn place(cell: Option<&Value>) -> &'static str {
    match cell {
        None => "NULL",
        // Bound as bytes, since it need not be UTF-8.
        Some(Value::Text(_)) => "CAST(? AS TEXT)",
        Some(_) => "?",
    }
}

/// The text in one cell of a row, if it is one.
pub(super) fn text(value: &[u8], at: usize) -> Option<String> {
    match Cells::decode(value).ok()?.cells.into_iter().nth(at)?.value? {
        Value::Text(bytes) => String::from_utf8(bytes).ok(),
        Value::Integer(_) | Value::Blob(_) | Value::Real(_) => None,
    }
}

/// A row's layout.
pub(super) fn layout_of(value: &[u8]) -> Option<u32> {
    Some(Cells::decode(value).ok()?.layout)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(*high)? << 4) | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_told_kept_and_written() {
        let told = "I-7,T,T4F27,B00FF,N,R0.5,R-Inf";
        let (layout, cells) = decode(&encode(9, told).unwrap()).unwrap();
        assert_eq!(layout, 9);
        let places: Vec<_> = cells.iter().map(|cell| place(cell.as_ref())).collect();
        assert_eq!(places, ["?", "CAST(? AS TEXT)", "CAST(? AS TEXT)", "?", "NULL", "?", "?"]);
        let want = [
            Some(Value::Integer(-7)),
            Some(Value::Text(Vec::new())),
            Some(Value::Text(b"O'".to_vec())),
            Some(Value::Blob(vec![0, 255])),
            None,
            Some(Value::Real(0.5)),
            Some(Value::Real(f64::NEG_INFINITY)),
        ];
        assert!(cells == want);
        for wrong in ["", "X", "I", "T4", "TGG", "I1,", "Bé"] {
            assert_eq!(encode(9, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_names_are_written_as_they_are() {
        for (name, want) in
            [("sessions", true), ("a_1", true), ("", false), ("a b", false), ("a\"", false), ("A", false)]
        {
            assert_eq!(is_name(name), want, "{name}");
            assert_eq!(Layout::new(vec![name.to_owned()]).is_some(), want);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, text: String) {
            let _ = decode(&bytes);
            let _ = encode(1, &text);
        }

        #[test]
        fn hexadecimal_digits_lead_back(bytes: Vec<u8>) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            prop_assert_eq!(from_hex(&digits), Some(bytes));
        }
    }
}
