//! A long text → the messages that it is sent as. The same text is always cut at the same places, because what was sent before a
//! kill is sent again under the same ids. Pure.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::wire::visible;

/// The longest message, in UTF-16 units: that is how phones count, and what they count differently is fewer.
pub const LONGEST: usize = 4_096;
/// The most messages of one text.
pub const MOST: usize = 16;
const FENCE: &str = "```";
/// Opens a fence again.
const OPENS: &str = "```\n";
/// Closes a fence before its end.
const CLOSES: &str = "\n```";
/// At the end of what is cut off.
const MORE: &str = "…";

/// A text as messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The messages, in their order. At most `MOST`, and at least one, if anything of the text can be seen.
    pub texts: Vec<String>,
    /// The text is longer than that; the rest is missing.
    pub cut_off: bool,
}

/// The messages of a text. Its last `menu` bytes, behind a blank line, are options; they come last and in one message, if they
/// fit into one.
pub fn parts(text: &str, menu: usize) -> Parts {
    if fits(text, LONGEST) {
        return Parts { texts: vec![text.to_owned()], cut_off: false };
    }
    let split = text.len().checked_sub(menu).and_then(|at| text.split_at_checked(at));
    match split {
        Some((words, menu)) if words.ends_with("\n\n") && !menu.is_empty() && fits(menu, LONGEST) => {
            // The blank lines in front of the options stay if both are in one message.
            let blanks = &words[words.trim_end().len()..];
            let Parts { mut texts, cut_off } = cut(words.trim_end(), MOST - 1);
            match texts.last_mut() {
                Some(last) if fits(&format!("{last}{blanks}{menu}"), LONGEST) => {
                    last.push_str(blanks);
                    last.push_str(menu);
                }
                _ => texts.push(menu.to_owned()),
            }
            Parts { texts, cut_off }
        }
        _ => cut(text, MOST),
    }
}

/// The messages of a text, as many as there may be. What nobody can see is none.
fn cut(text: &str, most: usize) -> Parts {
    let (mut texts, mut rest) = (Vec::new(), text.to_owned());
    while !fits(&rest, LONGEST) {
        if texts.len() + 1 == most {
            let (mut last, _) = take(&rest, LONGEST - units(MORE));
            last.push_str(MORE);
            texts.push(last);
            return Parts { texts, cut_off: true };
        }
        let (part, remainder) = take(&rest, LONGEST);
        texts.extend(Some(part).filter(|part| visible::is_any(part)));
        rest = remainder;
    }
    texts.extend(Some(rest).filter(|rest| visible::is_any(rest)));
    Parts { texts, cut_off: false }
}

/// The first message of a text that is too long for one, and the rest. A fence is moved whole if it fits into a message;
/// else it is closed and opened again.
fn take(text: &str, room: usize) -> (String, String) {
    let at = place(text, room);
    let fence = fences(text).into_iter().find(|fence| fence.start < at && at < fence.end);
    let Some(fence) = fence else { return apart(text, at) };
    let before = text[..fence.start].trim_end();
    if !before.is_empty() && fits(&text[fence.clone()], LONGEST) {
        return apart(text, fence.start);
    }
    let at = place(text, room - units(CLOSES)).min(fence.end - FENCE.len());
    let inside = fence.start + FENCE.len();
    if text.get(inside..at).is_none_or(|code| code.trim().is_empty()) {
        // Nothing of its code fits behind what comes before it; or there are only blanks for as long as a message.
        return apart(text, if before.is_empty() { at } else { fence.start });
    }
    let (mut part, rest) = apart(text, at);
    part.push_str(CLOSES);
    match rest.strip_prefix(FENCE) {
        // Only its end was left.
        Some(behind) => (part, after_blanks(behind).to_owned()),
        None => (part, format!("{OPENS}{rest}")),
    }
}

/// What is on both sides of a cut, without the blanks there. The next line keeps its indent.
fn apart(text: &str, at: usize) -> (String, String) {
    let (part, rest) = text.split_at_checked(at).unwrap_or((text, ""));
    (part.trim_end().to_owned(), after_blanks(rest).to_owned())
}

/// A text without blank lines at its start; or, if it does not begin with a line, without the blanks before its first word.
fn after_blanks(text: &str) -> &str {
    let words = text.trim_start();
    let blanks = &text[..text.len() - words.len()];
    blanks.rfind('\n').map_or(words, |line| &text[line + 1..])
}

/// Where to cut: before the last blank line, line break or blank that leaves at least half of the room used, in this order of
/// choice; else between two characters as people see them. Never at the start.
fn place(text: &str, room: usize) -> usize {
    let mut found = [None; 3];
    // Where the blanks began that are being passed, and their line breaks.
    let mut blanks: Option<(usize, usize)> = None;
    let (mut used, mut between) = (0, 0);
    for (at, seen) in text.grapheme_indices(true) {
        between = at;
        if is_blank(seen) {
            let begin = (used >= room / 2).then_some((at, 0));
            blanks = blanks.or(begin).map(|(start, lines)| (start, lines + seen.matches('\n').count()));
            if let Some((start, lines)) = blanks {
                found[2 - lines.min(2)] = Some(start);
            }
        } else {
            blanks = None;
        }
        used += units(seen);
        if used > room {
            break;
        }
    }
    let [blank_line, line, blank] = found;
    match blank_line.or(line).or(blank) {
        Some(at) => at,
        None if between > 0 => between,
        // One character with marks without end.
        None => hard(text, room),
    }
}

/// The last place between two code points that leaves no more than `room` before it.
fn hard(text: &str, room: usize) -> usize {
    let mut used = 0;
    let mut fitting = text.char_indices().take_while(|(_, c)| {
        used += c.len_utf16();
        used <= room
    });
    fitting.by_ref().last().map_or(text.len(), |(at, c)| at + c.len_utf8())
}

/// May be cut there, and left out.
fn is_blank(seen: &str) -> bool {
    let joins = |c| matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}');
    seen.chars().all(|c| c.is_whitespace() && !joins(c))
}

/// From the opening marks to behind the closing ones. What is never closed is no fence.
fn fences(text: &str) -> Vec<Range<usize>> {
    let marks: Vec<usize> = text.match_indices(FENCE).map(|(at, _)| at).collect();
    marks.chunks_exact(2).filter_map(|pair| Some(*pair.first()?..pair.last()? + FENCE.len())).collect()
}

fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

fn fits(text: &str, room: usize) -> bool {
    // A unit has no more than three bytes.
    text.len() <= room || (text.len() <= room * 3 && units(text) <= room)
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
