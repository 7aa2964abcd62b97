//! Markdown → WhatsApp's own marks: what a language model writes, as a phone shows it (`REPLY_FORMAT=markdown`). Pure.
//!
//! The parser is a library's. WhatsApp knows `*bold*`, `_italic_`, `~struck~`, `` `code` ``, three back-quotes around a
//! block, `- ` and `1. ` before an item and `> ` before a line. It has no escapes, and a mark counts only on one line and
//! not inside a word. A mark that would not count is left out, so that nobody reads a bare star.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

/// Deeper lists are shown at this depth.
const DEEPEST: usize = 4;
/// What stands in front of an item of each level.
const INDENT: &str = "   ";
const FENCE: &str = "```";
/// An address is written in no more pieces than this.
const ADDRESS: usize = 64;

/// The text as a phone shows it best.
pub fn to_whatsapp(markdown: &str) -> String {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, options) {
        page.take(event);
    }
    page.written()
}

/// A part of what is written.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Opens(char),
    Closes(char),
}

impl Piece {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Opens(_) | Self::Closes(_) => None,
        }
    }
}

/// A list that is open: the number of its next item, if it is numbered.
type List = Option<u64>;

#[derive(Debug, Default)]
struct Page {
    pieces: Vec<Piece>,
    /// The marks that are open, the outermost first, and how often each was opened.
    marks: Vec<(char, usize)>,
    lists: Vec<List>,
    quotes: usize,
    in_code: bool,
    /// How many line breaks come before what is written next.
    breaks: usize,
    /// Nothing stands behind an item's mark yet.
    after_mark: bool,
    /// Where the link or picture leads that is open, and the piece with which its words begin.
    links: Vec<(String, usize)>,
    /// The cells of this row before the one that is being written.
    cells: usize,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.starts(tag),
            Event::End(tag) => self.ends(tag),
            Event::Text(text) | Event::InlineHtml(text) | Event::Html(text) => self.text(&text),
            Event::Code(code) => self.code(&code),
            Event::SoftBreak | Event::HardBreak => self.line_break(1),
            Event::Rule => {
                self.line_break(2);
                self.text("———");
                self.line_break(2);
            }
            Event::TaskListMarker(done) => self.text(if done { "☑ " } else { "☐ " }),
            // None of these is switched on.
            Event::FootnoteReference(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.text(&text);
            }
        }
    }

    fn starts(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.paragraph(),
            Tag::Heading { .. } => {
                self.line_break(2);
                self.opens('*');
            }
            Tag::BlockQuote(_) => {
                self.line_break(2);
                self.quotes += 1;
            }
            Tag::CodeBlock(_) => self.fence(),
            Tag::List(first) => {
                self.line_break(if self.lists.is_empty() { 2 } else { 1 });
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Emphasis => self.opens('_'),
            Tag::Strong => self.opens('*'),
            Tag::Strikethrough => self.opens('~'),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push((dest_url.into_string(), self.pieces.len()));
            }
            Tag::Table(_) => self.line_break(2),
            Tag::TableHead => {
                self.cells = 0;
                self.opens('*');
            }
            Tag::TableRow => {
                self.line_break(1);
                self.cells = 0;
            }
            Tag::TableCell => {
                if self.cells > 0 {
                    self.text(" | ");
                }
                self.cells += 1;
            }
            _ => {}
        }
    }

    fn ends(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.paragraph(),
            TagEnd::Heading(_) => {
                self.closes('*');
                self.line_break(2);
            }
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                self.line_break(2);
            }
            TagEnd::CodeBlock => {
                self.line_break(1);
                self.text(FENCE);
                self.in_code = false;
                self.line_break(2);
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.line_break(if self.lists.is_empty() { 2 } else { 1 });
            }
            TagEnd::Item => self.line_break(1),
            TagEnd::Emphasis => self.closes('_'),
            TagEnd::Strong => self.closes('*'),
            TagEnd::Strikethrough => self.closes('~'),
            TagEnd::Link | TagEnd::Image => self.leads(),
            TagEnd::TableHead => self.closes('*'),
            TagEnd::Table => self.line_break(2),
            _ => {}
        }
    }

    /// The items of a loose list stay together: a phone's screen is small.
    fn paragraph(&mut self) {
        self.line_break(if self.lists.is_empty() { 2 } else { 1 });
    }

    fn item(&mut self) {
        self.after_mark = false;
        self.line_break(1);
        let depth = self.lists.len().saturating_sub(1).min(DEEPEST);
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            _ => "- ".to_owned(),
        };
        self.text(&format!("{}{mark}", INDENT.repeat(depth)));
        self.after_mark = true;
    }

    /// Without the language: a phone would show it as code.
    fn fence(&mut self) {
        self.line_break(2);
        self.text(FENCE);
        self.in_code = true;
        self.line_break(1);
    }

    /// Code with a back-quote in it cannot be marked.
    fn code(&mut self, code: &CowStr<'_>) {
        if code.contains('`') {
            return self.text(code);
        }
        self.opens('`');
        self.text(code);
        self.closes('`');
    }

    /// The end of a link's words: where it leads, unless the words say so.
    fn leads(&mut self) {
        let Some((target, from)) = self.links.pop() else { return };
        let target = target.trim_start_matches("mailto:");
        // Words in many pieces are no address; nobody makes us read them over and over.
        let words = self.pieces.get(from..).unwrap_or_default().iter().take(ADDRESS);
        let words: String = words.filter_map(Piece::text).collect();
        let words = words.trim();
        if target.is_empty() || words.trim_end_matches('/') == target.trim_end_matches('/') {
            return;
        }
        let target = if words.is_empty() { target.to_owned() } else { format!(" ({target})") };
        self.text(&target);
    }

    fn line_break(&mut self, breaks: usize) {
        if !self.after_mark {
            self.breaks = self.breaks.max(breaks);
        }
    }

    fn text(&mut self, text: &str) {
        // Also in code, each line of a quote has its mark.
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                self.breaks += 1;
            }
            if !line.is_empty() {
                self.begins();
                self.after_mark = false;
                self.pieces.push(Piece::Text(line.to_owned()));
            }
        }
    }

    /// Writes the line breaks that are due. No mark reaches over them.
    fn begins(&mut self) {
        let breaks = std::mem::take(&mut self.breaks);
        if breaks == 0 && !self.pieces.is_empty() {
            return;
        }
        let open: Vec<char> = self.marks.iter().map(|(mark, _)| *mark).collect();
        if !self.pieces.is_empty() {
            self.pieces.extend(open.iter().rev().map(|mark| Piece::Closes(*mark)));
            self.pieces.push(Piece::Text("\n".repeat(if self.in_code { breaks } else { breaks.min(2) })));
        }
        if self.quotes > 0 {
            self.pieces.push(Piece::Text("> ".to_owned()));
        }
        self.pieces.extend(open.iter().map(|mark| Piece::Opens(*mark)));
    }

    /// A mark within the same mark is none.
    fn opens(&mut self, mark: char) {
        match self.marks.iter_mut().find(|(open, _)| *open == mark) {
            Some((_, times)) => *times += 1,
            None => {
                if self.breaks == 0 && !self.pieces.is_empty() {
                    self.pieces.push(Piece::Opens(mark));
                    self.marks.push((mark, 1));
                } else {
                    self.marks.push((mark, 1));
                    // It is opened with the line.
                    self.breaks = self.breaks.max(usize::from(!self.pieces.is_empty()));
                }
            }
        }
    }

    fn closes(&mut self, mark: char) {
        let Some(at) = self.marks.iter().position(|(open, _)| *open == mark) else { return };
        let Some((_, times)) = self.marks.get_mut(at) else { return };
        *times -= 1;
        if *times == 0 {
            self.marks.remove(at);
            self.pieces.push(Piece::Closes(mark));
        }
    }

    /// All pieces in one text, with the marks that count.
    fn written(self) -> String {
        let counts = counting(&self.pieces);
        let mut written = String::new();
        for (piece, counts) in self.pieces.iter().zip(counts) {
            match piece {
                Piece::Text(text) => written.push_str(text),
                Piece::Opens(mark) | Piece::Closes(mark) if counts => written.push(*mark),
                Piece::Opens(_) | Piece::Closes(_) => {}
            }
        }
        written.trim_end().to_owned()
    }
}

/// Which pieces are marks that count: around something, with nothing of a word right outside and no space right inside.
fn counting(pieces: &[Piece]) -> Vec<bool> {
    let mut counts = vec![false; pieces.len()];
    // What is written right before each piece, and right after it, marks left out.
    let mut before = Vec::with_capacity(pieces.len());
    let mut last = None;
    for piece in pieces {
        before.push(last);
        if let Piece::Text(text) = piece {
            last = text.chars().next_back().or(last);
        }
    }
    let mut after = vec![None; pieces.len()];
    let mut next = None;
    for (after, piece) in after.iter_mut().zip(pieces).rev() {
        *after = next;
        if let Piece::Text(text) = piece {
            next = text.chars().next().or(next);
        }
    }
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let is_space = |c: Option<char>| c.is_none_or(char::is_whitespace);
    let mut open: Vec<(char, usize)> = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(_) => {}
            Piece::Opens(mark) => open.push((*mark, at)),
            Piece::Closes(mark) => {
                let Some(place) = open.iter().rposition(|(opened, _)| opened == mark) else { continue };
                let (_, from) = open.remove(place);
                let (Some(before_open), Some(after_open)) = (before.get(from), after.get(from)) else {
                    continue;
                };
                let (Some(before_close), Some(after_close)) = (before.get(at), after.get(at)) else {
                    continue;
                };
                let has_words = pieces
                    .get(from..at)
                    .unwrap_or_default()
                    .iter()
                    .any(|piece| matches!(piece, Piece::Text(_)));
                let is_marked = has_words
                    && !is_word(*before_open)
                    && !is_space(*after_open)
                    && !is_space(*before_close)
                    && !is_word(*after_close);
                for end in [from, at] {
                    if let Some(counts) = counts.get_mut(end) {
                        *counts = is_marked;
                    }
                }
            }
        }
    }
    counts
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
