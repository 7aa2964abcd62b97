//! The comparison itself: each kind of change is planted and has to be named.

use super::description::Format;
use super::{additions, changes};
use crate::support::root;

const KEPT: &str = r#"
syntax = "proto3";
package shop.v1;

message Order {
  string id = 1;
  int64 at_ms = 2;
  repeated string dishes = 3;
  State state = 4;
  Guest guest = 5;
  oneof place {
    string table = 6;
    string address = 7;
  }
  map<string, string> notes = 8;
  message Guest {
    string name = 1;
  }
  reserved 20 to 22, 30;
  reserved "waiter";
}

enum State {
  STATE_UNSPECIFIED = 0;
  STATE_OPEN = 1;
  reserved 9;
}
"#;

fn format(source: &str) -> Format {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("shop.proto"), source).expect("a proto");
    Format::compile(dir.path())
}

/// What is said of `KEPT` with `old` replaced by `new`.
#[track_caller]
fn planted(old: &str, new: &str) -> Vec<String> {
    assert_eq!(KEPT.matches(old).count(), 1, "`{old}` is not there once");
    changes(&format(KEPT), &format(&KEPT.replace(old, new)))
}

#[test]
fn every_change_is_named_in_full() {
    let says: &[(&str, &str, &[&str])] = &[
        ("string id = 1;", "", &["shop.v1.Order.id: removed"]),
        ("string id = 1;", "reserved 1; reserved \"id\";", &["shop.v1.Order.id: removed"]),
        (
            "string id = 1;",
            "string key = 1;",
            &["shop.v1.Order.id: removed; its number is shop.v1.Order.key's now"],
        ),
        ("string id = 1;", "string id = 11;", &["shop.v1.Order.id: number was 1, is 11"]),
        ("string id = 1;", "bytes id = 1;", &["shop.v1.Order.id: type was string, is bytes"]),
        ("string id = 1;", "repeated string id = 1;", &["shop.v1.Order.id: label was optional, is repeated"]),
        ("string id = 1;", "optional string id = 1;", &["shop.v1.Order.id: presence was none, is explicit"]),
        (
            "repeated string dishes = 3;",
            "string dishes = 3;",
            &["shop.v1.Order.dishes: label was repeated, is optional"],
        ),
        ("int64 at_ms = 2;", "sint64 at_ms = 2;", &["shop.v1.Order.at_ms: type was int64, is sint64"]),
        (
            "State state = 4;",
            "Guest state = 4;",
            &["shop.v1.Order.state: type was shop.v1.State, is shop.v1.Order.Guest"],
        ),
        (
            "oneof place {\n    string table = 6;",
            "oneof other { string table = 6; }\n  oneof third {",
            &[
                "shop.v1.Order.address: oneof was place, is third",
                "shop.v1.Order.place: removed",
                "shop.v1.Order.table: oneof was place, is other",
            ],
        ),
        (
            "oneof place {\n    string table = 6;",
            "string table = 6;\n  oneof place {",
            &["shop.v1.Order.table: oneof was place, is none"],
        ),
        ("string name = 1;", "int32 name = 1;", &["shop.v1.Order.Guest.name: type was string, is int32"]),
        (
            "map<string, string>",
            "map<string, int32>",
            &["shop.v1.Order.NotesEntry.value: type was string, is int32"],
        ),
        ("STATE_OPEN = 1;", "", &["shop.v1.State.STATE_OPEN: removed"]),
        ("STATE_OPEN = 1;", "STATE_OPEN = 2;", &["shop.v1.State.STATE_OPEN: number was 1, is 2"]),
        (
            "STATE_OPEN = 1;",
            "STATE_BUSY = 1;",
            &["shop.v1.State.STATE_OPEN: removed; its number is shop.v1.State.STATE_BUSY's now"],
        ),
        ("reserved 20 to 22, 30;", "reserved 20, 22, 30;", &["shop.v1.Order.reserved 21: removed"]),
        ("reserved \"waiter\";", "", &["shop.v1.Order.reserved \"waiter\": removed"]),
        ("reserved 9;", "", &["shop.v1.State.reserved 9: removed"]),
    ];
    for (old, new, want) in says {
        assert_eq!(planted(old, new), *want, "`{old}` → `{new}`");
    }
}

#[test]
fn a_message_or_a_package_of_another_name_takes_all_that_is_in_it_along() {
    let renamed = KEPT.replace("Guest", "Visitor");
    let found = changes(&format(KEPT), &format(&renamed));
    for name in ["shop.v1.Order.Guest: removed", "shop.v1.Order.Guest.name: removed"] {
        assert!(found.iter().any(|one| one == name), "{found:?}");
    }
    let moved = changes(&format(KEPT), &format(&KEPT.replace("shop.v1", "shop.v2")));
    assert!(moved.contains(&"shop.proto: package was shop.v1, is shop.v2".to_owned()), "{moved:?}");
    assert_eq!(moved.len(), format(KEPT).lines().count(), "all names begin with the package: {moved:?}");
    let older = KEPT.replace("proto3", "proto2");
    let older = older.replace("string", "optional string").replace("repeated optional", "repeated");
    let older = older.replace("map<optional string, optional string>", "map<string, string>");
    let older = older
        .replace("    optional string table", "    string table")
        .replace("    optional string address", "    string address");
    let older = older.replace("int64 ", "optional int64 ").replace("State state", "optional State state");
    let older = older.replace("Guest guest", "optional Guest guest");
    let found = changes(&format(KEPT), &format(&older));
    assert_eq!(found, ["shop.proto: syntax was proto3, is proto2"]);
}

#[test]
fn additions_pass_and_are_named() {
    let more = [
        ("string id = 1;", "string id = 1; bool paid = 9;", "shop.v1.Order.paid"),
        ("string table = 6;", "string table = 6; string car = 10;", "shop.v1.Order.car"),
        ("STATE_OPEN = 1;", "STATE_OPEN = 1; STATE_SHUT = 2;", "shop.v1.State.STATE_SHUT"),
        ("enum State {", "message Bill {}\nenum State {", "shop.v1.Bill"),
        ("reserved 20 to 22, 30;", "reserved 20 to 23, 30;", "shop.v1.Order.reserved 23"),
    ];
    for (old, new, name) in more {
        assert_eq!(planted(old, new), [""; 0], "`{old}` → `{new}`");
        assert_eq!(additions(&format(KEPT), &format(&KEPT.replace(old, new))), [name]);
    }
}

#[test]
fn nothing_of_the_real_protos_can_go_or_change_unnoticed() {
    let kept = Format::compile(&root().join("proto"));
    assert!(kept.lines().count() > 150, "these are not all of them");
    for (name, attributes) in kept.lines() {
        let gone = changes(&kept, &kept.without(name));
        assert!(matches!(&gone[..], [one] if one.starts_with(&format!("{name}: removed"))), "{gone:?}");
        for (attribute, value) in attributes {
            let line = format!("{name}: ");
            let text = kept.to_string();
            let old = text.lines().find(|one| one.starts_with(&line)).expect("its line");
            let new = old.replace(&format!("{attribute} {value}"), &format!("{attribute} other"));
            let changed = Format::parse(&text.replace(old, &new)).expect("lines");
            assert_eq!(changes(&kept, &changed), [format!("{name}: {attribute} was {value}, is other")]);
        }
    }
}

#[test]
fn the_lines_say_all_that_is_compared() {
    for format in [format(KEPT), Format::compile(&root().join("proto"))] {
        assert_eq!(Format::parse(&format.to_string()).expect("lines"), format);
    }
    assert!(Format::parse("shop.v1.Order").is_err(), "half a line is none");
}
