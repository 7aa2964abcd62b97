//! The walls of the house: which room imports which, and where the outside crates are named. What is agreed in
//! `walls/rooms.yaml` is what is so, and the picture in docs/architecture.md shows it.

#[path = "walls/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use imports::File;
use serde::Deserialize;

use crate::support::root;

/// `walls/rooms.yaml`.
#[derive(Debug, Deserialize)]
struct Plan {
    /// From the ground up: a room and what it imports.
    rooms: serde_yaml_ng::Mapping,
    /// Where outside crates are named.
    crates: BTreeMap<String, BTreeSet<String>>,
}

impl Plan {
    fn read() -> Self {
        serde_yaml_ng::from_str(include_str!("walls/rooms.yaml")).expect("a plan of the rooms")
    }

    /// In the order of the file.
    fn rooms(&self) -> Vec<(String, BTreeSet<String>)> {
        let room = |(name, imports): (&serde_yaml_ng::Value, &serde_yaml_ng::Value)| {
            let name = name.as_str().expect("a room's name").to_owned();
            (name, serde_yaml_ng::from_value(imports.clone()).expect("names of rooms"))
        };
        self.rooms.iter().map(room).collect()
    }
}

/// The room that a module is in: the innermost one that the plan knows.
fn room<'a>(rooms: &'a [(String, BTreeSet<String>)], module: &[String]) -> Option<&'a str> {
    let path = module.join("/");
    let holds =
        |name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    rooms.iter().map(|(name, _)| name.as_str()).filter(|name| holds(name)).max_by_key(|name| name.len())
}

/// What each room imports, from the code itself.
fn imports(rooms: &[(String, BTreeSet<String>)], files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let own = room(rooms, &file.module).unwrap_or_else(|| panic!("{:?} is in no room", file.module));
        let imported = found.entry(own.to_owned()).or_default();
        let named = file.names.iter().filter_map(|name| room(rooms, name));
        imported.extend(named.filter(|name| *name != own).map(str::to_owned));
    }
    found
}

/// The library's modules; `main.rs` and `lib.rs` put them together and name what they like.
fn sources() -> Vec<File> {
    let mut files = imports::files(&root().join("src"));
    files.retain(|file| !file.module.is_empty() && file.module != ["main"]);
    files
}

#[test]
fn a_room_imports_what_the_plan_says_and_only_downwards() {
    let plan = Plan::read();
    let rooms = plan.rooms();
    let mut found = imports(&rooms, &sources());
    let mut below = BTreeSet::new();
    for (name, planned) in &rooms {
        let imported = found.remove(name).unwrap_or_else(|| panic!("no file is in the room {name}"));
        assert_eq!(
            &imported, planned,
            "what {name} imports (left) is not what tests/walls/rooms.yaml says (right)"
        );
        let upwards: Vec<_> = imported.difference(&below).collect();
        assert!(
            upwards.is_empty(),
            "{name} imports {upwards:?}, which stand above it in tests/walls/rooms.yaml"
        );
        below.insert(name.clone());
    }
}

#[test]
fn outside_crates_are_named_where_the_plan_says() {
    let plan = Plan::read();
    let rooms = plan.rooms();
    for (outside, planned) in &plan.crates {
        let names = sources();
        let names = names.iter().filter(|file| file.outside.contains(outside));
        let found: BTreeSet<_> =
            names.filter_map(|file| room(&rooms, &file.module)).map(str::to_owned).collect();
        assert_eq!(&found, planned, "where {outside} is named (left), and where it may be (right)");
    }
}

/// An arrow for each import that does not follow from others.
fn picture(rooms: &[(String, BTreeSet<String>)]) -> String {
    let all: BTreeMap<_, _> = rooms.iter().cloned().collect();
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(next) = open.pop() {
            if next == to {
                return true;
            }
            if seen.insert(next.clone()) {
                open.extend(all[&next].iter().cloned());
            }
        }
        false
    };
    let mut text = "```mermaid\nflowchart TD\n".to_owned();
    for (name, imports) in rooms.iter().rev() {
        for import in imports {
            let detour = imports.iter().any(|other| other != import && reaches(other, import));
            if !detour {
                let id = |room: &str| room.replace('/', "_");
                let _ = writeln!(text, "    {}[{name}/] --> {}[{import}/]", id(name), id(import));
            }
        }
    }
    text + "```\n"
}

#[test]
fn the_picture_of_the_rooms_is_what_the_code_imports() {
    const BEGIN: &str = "<!-- rooms: drawn by tests/walls.rs -->\n";
    const END: &str = "<!-- end of rooms -->";
    let path = root().join("docs/architecture.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("a place for the picture");
    let (shown, after) = rest.split_once(END).expect("its end");
    let want = picture(&Plan::read().rooms());
    if std::env::var_os("ACCEPT").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{want}{END}{after}")).expect("the page is written");
        return;
    }
    assert_eq!(shown, want, "draw it anew with `ACCEPT=1 cargo test … --test promises -- walls`");
}

/// `[words](target)` of every page, with the page's directory.
fn links() -> Vec<(std::path::PathBuf, String)> {
    let mut open = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "corpus" {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).expect("a page");
                let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
                found.extend(targets.map(|target| (path.clone(), target.to_owned())));
            }
        }
    }
    found
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_docs_leads_somewhere() {
    let mut dead = Vec::new();
    for (page, target) in links() {
        if target.contains("://") {
            continue;
        }
        let (file, part) = target.split_once('#').unwrap_or((target.as_str(), ""));
        let path = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
        let leads = path.exists()
            && (part.is_empty() || path.extension().is_none_or(|extension| extension != "md") || {
                let text = std::fs::read_to_string(&path).expect("a page");
                text.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == part)
            });
        if !leads {
            dead.push(format!("{}: {target}", page.display()));
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}
