//! What each file of `src/` names: other modules of the crate, and outside crates. Read off its tokens, so that a
//! path in a macro counts as well. Code for tests is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module of the crate, or an item in one: `["edge", "session", "link"]`.
pub type ModulePath = Vec<String>;

/// What one file names.
#[derive(Debug)]
pub struct File {
    /// Which module it is.
    pub module: ModulePath,
    /// What of this crate it names.
    pub names: BTreeSet<ModulePath>,
    /// The first segments of all other paths: outside crates among them.
    pub outside: BTreeSet<String>,
}

/// All files below `src`.
pub fn files(src: &Path) -> Vec<File> {
    let mut found = Vec::new();
    let mut tests = BTreeSet::new();
    let mut sources = BTreeMap::new();
    walk(src, &mut sources);
    for (path, text) in &sources {
        let module = module(src, path);
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader = Reader { file: module.clone(), ..Reader::default() };
        reader.children(tokens.clone());
        reader.read(tokens, &module);
        tests.extend(reader.tests);
        found.push(File { module, names: reader.names, outside: reader.outside });
    }
    // `#[cfg(test)] mod x;` in one file makes another one a test.
    found.retain(|file| !tests.contains(&file.module));
    found
}

fn walk(dir: &Path, sources: &mut BTreeMap<std::path::PathBuf, String>) {
    for entry in std::fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_for_tests_only(&path) {
            let text = std::fs::read_to_string(&path).expect("a source");
            sources.insert(path, text);
        }
    }
}

/// `payload_tests.rs`: what would be `mod tests` of `payload.rs`, were it shorter.
fn is_for_tests_only(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("_tests"))
}

/// `src/edge/mod.rs` is `edge`, `src/edge/session/link.rs` is `edge::session::link`.
fn module(src: &Path, file: &Path) -> ModulePath {
    let below = file.strip_prefix(src).expect("a file of src").with_extension("");
    let mut module: ModulePath = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || module == ["lib"]) {
        module.pop();
    }
    module
}

#[derive(Default)]
struct Reader {
    file: ModulePath,
    /// The modules that this file declares.
    declared: BTreeSet<String>,
    /// Those of them that are tests.
    tests: BTreeSet<ModulePath>,
    names: BTreeSet<ModulePath>,
    outside: BTreeSet<String>,
}

impl Reader {
    fn children(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for pair in tokens.windows(2) {
            if let [TokenTree::Ident(keyword), TokenTree::Ident(name)] = pair
                && *keyword == "mod"
            {
                self.declared.insert(name.to_string());
            }
        }
    }

    /// Reads tokens inside of module `at`.
    fn read(&mut self, tokens: TokenStream, at: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut here = 0;
        while let Some(token) = tokens.get(here) {
            here = match token {
                TokenTree::Punct(mark) if mark.as_char() == '#' && is_for_tests(tokens.get(here + 1)) => {
                    self.skip_item(&tokens, here + 2, at)
                }
                TokenTree::Ident(keyword) if *keyword == "mod" => self.inner_module(&tokens, here, at),
                TokenTree::Ident(_) => self.path(&tokens, here, at),
                TokenTree::Group(group) => {
                    self.read(group.stream(), at);
                    here + 1
                }
                _ => here + 1,
            };
        }
    }

    /// Past an item that only tests see: to its braces or its semicolon.
    fn skip_item(&mut self, tokens: &[TokenTree], from: usize, at: &[String]) -> usize {
        for (offset, token) in tokens[from..].iter().enumerate() {
            match token {
                TokenTree::Ident(keyword) if *keyword == "mod" => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(from + offset + 1) {
                        self.tests.insert([at, &[name.to_string()]].concat());
                    }
                }
                TokenTree::Punct(mark) if mark.as_char() == ';' => return from + offset + 1,
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return from + offset + 1,
                _ => {}
            }
        }
        tokens.len()
    }

    fn inner_module(&mut self, tokens: &[TokenTree], here: usize, at: &[String]) -> usize {
        if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
            (tokens.get(here + 1), tokens.get(here + 2))
        {
            self.read(body.stream(), &[at, &[name.to_string()]].concat());
            return here + 3;
        }
        here + 2
    }

    /// A path that begins here, if one does.
    fn path(&mut self, tokens: &[TokenTree], here: usize, at: &[String]) -> usize {
        let Some(TokenTree::Ident(first)) = tokens.get(here) else { return here + 1 };
        let first = first.to_string();
        // `a::here`, and not the single colon of `name: here::Type`.
        let is_inside = here > 1 && is_colons(tokens, here - 2);
        if is_inside || !is_colons(tokens, here + 1) {
            return here + 1;
        }
        let base: Option<ModulePath> = match first.as_str() {
            "crate" => Some(Vec::new()),
            "self" => Some(at.to_vec()),
            "super" => Some(at[..at.len().saturating_sub(1)].to_vec()),
            name if self.declared.contains(name) => Some([&self.file[..], &[name.to_owned()]].concat()),
            name => {
                self.outside.insert(name.to_owned());
                None
            }
        };
        match base {
            Some(base) => self.segments(tokens, here + 3, base),
            None => here + 1,
        }
    }

    /// What follows `base::` at `here`.
    fn segments(&mut self, tokens: &[TokenTree], here: usize, mut base: ModulePath) -> usize {
        match tokens.get(here) {
            Some(TokenTree::Ident(name)) => {
                if *name == "super" {
                    base.pop();
                } else if *name != "self" {
                    base.push(name.to_string());
                }
                if is_colons(tokens, here + 1) {
                    return self.segments(tokens, here + 3, base);
                }
                self.names.insert(base);
                here + 1
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for part in
                    inner.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','))
                {
                    self.segments(part, 0, base.clone());
                }
                here + 1
            }
            // `crate::*`, or the end of a group.
            _ => {
                self.names.insert(base);
                here + 1
            }
        }
    }
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// `[cfg(test)]`, `[cfg(all(test, …))]`.
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = attribute else { return false };
    let text = group.stream().to_string().replace(' ', "");
    text.starts_with("cfg(") && text.contains("test") && !text.contains("not(test)")
}
