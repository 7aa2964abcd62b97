//! The cells of a row: as SQLite tells them, as the journal keeps them, and as SQL writes them. Pure.
//!
//! SQLite tells a row as a text in which each cell has a letter for its type, and hexadecimal digits. So nothing in it
//! has to be escaped, and nothing of it can be taken for SQL.

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

#[derive(Clone, PartialEq, prost::Oneof)]
#[prost(skip_debug)]
enum Value {
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

/// A row's layout, and its cells as SQL has them.
pub(super) fn literals(value: &[u8]) -> Option<(u32, Vec<String>)> {
    let Cells { layout, cells } = Cells::decode(value).ok()?;
    let literal = |cell: Cell| match cell.value {
        None => "NULL".to_owned(),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Real(number)) => format!("{number:?}"),
        Some(Value::Text(bytes)) => format!("CAST(X'{}' AS TEXT)", to_hex(&bytes)),
        Some(Value::Blob(bytes)) => format!("X'{}'", to_hex(&bytes)),
    };
    Some((layout, cells.into_iter().map(literal).collect()))
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

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_told_kept_and_written() {
        let told = "I-7,T,T4F27,B00FF,N,R0.5";
        let (layout, literals) = literals(&encode(9, told).unwrap()).unwrap();
        assert_eq!(layout, 9);
        let want = ["-7", "CAST(X'' AS TEXT)", "CAST(X'4F27' AS TEXT)", "X'00FF'", "NULL", "0.5"];
        assert_eq!(literals, want);
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
            let _ = literals(&bytes);
            let _ = encode(1, &text);
        }

        #[test]
        fn hexadecimal_digits_lead_back(bytes: Vec<u8>) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }
    }
}
