//! A set of protos as lines that people can review: a full name, and what is so of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};

/// A longer reservation is one line.
const LONG: i32 = 100;

/// What is so of one name.
pub type Attributes = BTreeMap<String, String>;

/// All that a set of protos defines, by its full name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format(BTreeMap<String, Attributes>);

impl Format {
    /// Of all protos below `dir`.
    pub fn compile(dir: &Path) -> Self {
        let files = protos(dir);
        assert!(!files.is_empty(), "there are no protos in {}", dir.display());
        let set = protox::compile(files, [dir]).unwrap_or_else(|error| panic!("{error:?}"));
        Self::of(&set)
    }

    /// Of what a compiler makes of them.
    pub fn of(set: &FileDescriptorSet) -> Self {
        let mut format = Self::default();
        for file in &set.file {
            format.file(file);
        }
        format
    }

    /// Of lines as `Display` writes them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut format = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let unreadable = || format!("a line that cannot be read: {line}");
            let (name, said) = line.split_once(": ").ok_or_else(unreadable)?;
            let attributes = said.split(", ").map(|one| one.split_once(' ').ok_or_else(unreadable));
            let owned = attributes.map(|one| one.map(|(name, value)| (name.to_owned(), value.to_owned())));
            format.0.insert(name.to_owned(), owned.collect::<Result<_, _>>()?);
        }
        Ok(format)
    }

    /// What is so of this name.
    pub fn get(&self, name: &str) -> Option<&Attributes> {
        self.0.get(name)
    }

    /// All names, in their order.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &Attributes)> {
        self.0.iter().map(|(name, attributes)| (name.as_str(), attributes))
    }

    /// Without this name.
    pub fn without(&self, name: &str) -> Self {
        let mut less = self.clone();
        less.0.remove(name).unwrap_or_else(|| panic!("there is no {name}"));
        less
    }

    fn add<const N: usize>(&mut self, name: String, attributes: [(&str, Option<String>); N]) {
        let said = attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let before = self.0.insert(name.clone(), said.collect());
        assert_eq!(before, None, "{name} is there twice");
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        // What the lines do not tell of must not slip through.
        assert!(
            file.service.is_empty() && file.extension.is_empty(),
            "{}: only messages and enums",
            file.name()
        );
        let package = file.package();
        let syntax = if file.syntax().is_empty() { "proto2" } else { file.syntax() };
        self.add(
            file.name().to_owned(),
            [kind("file"), ("package", Some(package.to_owned())), ("syntax", Some(syntax.to_owned()))],
        );
        for message in &file.message_type {
            self.message(package, message);
        }
        for one in &file.enum_type {
            self.enumeration(package, one);
        }
    }

    fn message(&mut self, parent: &str, message: &DescriptorProto) {
        assert!(message.extension.is_empty() && message.extension_range.is_empty(), "{}", message.name());
        let name = within(parent, message.name());
        let is_map = message.options.as_ref().is_some_and(|options| options.map_entry());
        self.add(name.clone(), [kind("message"), ("map_entry", is_map.then(|| "true".to_owned()))]);
        for oneof in message.oneof_decl.iter().filter(|oneof| !oneof.name().starts_with('_')) {
            self.add(within(&name, oneof.name()), [kind("oneof")]);
        }
        for field in &message.field {
            self.field(&name, message, field);
        }
        // The end of a message's range is behind its last number, the end of an enum's is the last.
        let ranges = message.reserved_range.iter().map(|range| (range.start(), range.end() - 1));
        self.reserved(&name, ranges, &message.reserved_name);
        for nested in &message.nested_type {
            self.message(&name, nested);
        }
        for nested in &message.enum_type {
            self.enumeration(&name, nested);
        }
    }

    fn field(&mut self, parent: &str, message: &DescriptorProto, field: &FieldDescriptorProto) {
        let label = field.label().as_str_name().trim_start_matches("LABEL_").to_lowercase();
        let own = field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase();
        let of = field.type_name.as_ref().map(|name| name.trim_start_matches('.').to_owned());
        let explicit = field.proto3_optional();
        let oneof = field
            .oneof_index
            .filter(|_| !explicit)
            .map(|index| message.oneof_decl[usize::try_from(index).expect("an index")].name().to_owned());
        let packed = field.options.as_ref().and_then(|options| options.packed);
        self.add(
            within(parent, field.name()),
            [
                kind("field"),
                ("number", Some(field.number().to_string())),
                ("label", Some(label)),
                ("type", Some(of.unwrap_or(own))),
                ("oneof", oneof),
                ("presence", explicit.then(|| "explicit".to_owned())),
                ("packed", packed.map(|packed| packed.to_string())),
            ],
        );
    }

    fn enumeration(&mut self, parent: &str, one: &EnumDescriptorProto) {
        let name = within(parent, one.name());
        self.add(name.clone(), [kind("enum")]);
        for value in &one.value {
            let number = ("number", Some(value.number().to_string()));
            self.add(within(&name, value.name()), [kind("value"), number]);
        }
        let ranges = one.reserved_range.iter().map(|range| (range.start(), range.end()));
        self.reserved(&name, ranges, &one.reserved_name);
    }

    /// A line per number, so that a range may grow.
    fn reserved(&mut self, parent: &str, ranges: impl Iterator<Item = (i32, i32)>, names: &[String]) {
        for (first, last) in ranges {
            if last.saturating_sub(first) > LONG {
                self.add(within(parent, &format!("reserved {first} to {last}")), [kind("reservation")]);
                continue;
            }
            for number in first..=last {
                self.add(within(parent, &format!("reserved {number}")), [kind("reservation")]);
            }
        }
        for name in names {
            self.add(within(parent, &format!("reserved {name:?}")), [kind("reservation")]);
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# What proto/ says. tests/wire_format.rs writes it and guards it; nobody edits it.")?;
        for (name, attributes) in self.lines() {
            let said: Vec<_> = attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
            writeln!(f, "{name}: {}", said.join(", "))?;
        }
        Ok(())
    }
}

fn kind(kind: &str) -> (&'static str, Option<String>) {
    ("kind", Some(kind.to_owned()))
}

fn within(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

pub(super) fn protos(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(protos(&path));
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}
