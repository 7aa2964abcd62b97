//! What goes over the bus keeps its form. Other services were built from `proto/` as it was, so whatever it says
//! once, it says for good; more may come.
//!
//! `proto/golden.txt` has every message, field, oneof, enum, value and reservation, a line each. `ACCEPT=1` takes
//! in what is new, and nothing else:
//!
//! `ACCEPT=1 cargo test --workspace --features simulator --test promises -- wire_format`
//!
//! `ACCEPT=breaking` takes in everything. Whoever uses it tells all readers of the bus first.
//!
//! `proto/generated.rs` is what Rust reads them with. Both write it anew, too.

mod description;
mod planted;

use std::io::Write as _;
use std::path::PathBuf;

use crate::support::root;
use description::Format;

const HOW: &str = "ACCEPT=1 cargo test --workspace --features simulator --test promises -- wire_format";

/// What of `golden` is not so `now`, with its full name: a reader of `golden` would stumble over it.
fn changes(golden: &Format, now: &Format) -> Vec<String> {
    let mut found = Vec::new();
    for (name, was) in golden.lines() {
        let Some(is) = now.get(name) else {
            found.push(match successor(golden, now, name) {
                Some(successor) => format!("{name}: removed; its number is {successor}'s now"),
                None => format!("{name}: removed"),
            });
            continue;
        };
        let mut attributes: Vec<_> = was.keys().chain(is.keys()).collect();
        attributes.sort_unstable();
        attributes.dedup();
        for attribute in attributes {
            let say = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
            let (was, is) = (say(was.get(attribute)), say(is.get(attribute)));
            if was != is {
                found.push(format!("{name}: {attribute} was {was}, is {is}"));
            }
        }
    }
    found
}

/// What is new and has the number that `gone` had: `gone` renamed, or its number taken.
fn successor<'a>(golden: &Format, now: &'a Format, gone: &str) -> Option<&'a str> {
    let (parent, _) = gone.rsplit_once('.')?;
    let had = golden.get(gone)?;
    let number = had.get("number")?;
    let is_it = |(name, has): &(&str, &description::Attributes)| {
        let sibling = name.rsplit_once('.').is_some_and(|(of, _)| of == parent);
        sibling && golden.get(name).is_none() && has.get("number") == Some(number)
    };
    now.lines().find(is_it).map(|(name, _)| name)
}

/// What is `now` and is not in `golden`.
fn additions<'a>(golden: &Format, now: &'a Format) -> Vec<&'a str> {
    now.lines().map(|(name, _)| name).filter(|name| golden.get(name).is_none()).collect()
}

fn golden() -> PathBuf {
    root().join("proto/golden.txt")
}

/// Past the test runner, which keeps to itself what a test that passes prints.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[test]
fn what_is_on_the_bus_keeps_its_form() {
    let now = Format::compile(&root().join("proto"));
    let kept = std::fs::read_to_string(golden()).unwrap_or_default();
    let kept = Format::parse(&kept).unwrap_or_else(|why| panic!("{}: {why}", golden().display()));
    let accept = std::env::var("ACCEPT").unwrap_or_default();
    let changes = changes(&kept, &now);
    assert!(
        changes.is_empty() || accept == "breaking",
        "services that were built from proto/ as it was would stumble over this:\n  {}\n\
         A field that is needed no more stays where it is; a new one gets a new name and a new number.\n\
         If no service reads or writes it, or all of them know: {}",
        changes.join("\n  "),
        HOW.replace("ACCEPT=1", "ACCEPT=breaking")
    );
    let additions = additions(&kept, &now);
    if !accept.is_empty() {
        std::fs::write(golden(), now.to_string()).expect("the golden lines");
    } else if !additions.is_empty() {
        tell(&format!(
            "proto/ has more than proto/golden.txt, which is fine, and nothing guards it yet: {}\n\
             Take it in: {HOW}",
            additions.join(", ")
        ));
    }
}

/// What `prost-build` makes of the protos.
fn generate() -> String {
    let dir = root().join("proto");
    let set = protox::compile(description::protos(&dir), [&dir]).unwrap_or_else(|error| panic!("{error:?}"));
    let out = tempfile::tempdir().expect("a directory");
    let mut compiler = prost_build::Config::new();
    compiler.out_dir(out.path()).compile_fds(set).expect("code");
    std::fs::read_to_string(out.path().join("whatsapp.connector.v1.rs")).expect("the package's code")
}

#[test]
fn the_code_that_reads_the_protos_is_made_of_them_as_they_are() {
    let file = root().join("proto/generated.rs");
    let now = generate();
    if !std::env::var("ACCEPT").unwrap_or_default().is_empty() {
        std::fs::write(&file, &now).expect("the generated code");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == now, "proto/generated.rs is of other protos. Make it anew: {HOW}");
}
