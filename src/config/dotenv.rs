//! The grammar of `.env`. Pure. docs/configuration.md has it for operators.
//!
//! A value is taken as it is written: nothing in it is replaced. What could be read in two ways is refused.

/// The variables of a file with this text, in its order; or the number of the first line that cannot be read.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    // Editors on Windows put a byte-order mark in front.
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut number = 1;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let bare = line.trim();
        let next = if bare.is_empty() || bare.starts_with('#') {
            after
        } else {
            let (variable, next) = variable(rest).ok_or(number)?;
            variables.push(variable);
            next
        };
        let read = rest.len() - next.len();
        number += rest.get(..read).unwrap_or_default().matches('\n').count();
        rest = next;
    }
    Ok(variables)
}

/// The first variable of a text, and what follows after its line.
fn variable(text: &str) -> Option<((String, String), &str)> {
    let text = blanks(text);
    let exported = text.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    // A variable may have that name.
    let text = exported.map(blanks).filter(|rest| !rest.starts_with('=')).unwrap_or(text);
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let (name, rest) = text.split_at(text.find(|c| !in_name(c))?);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let rest = blanks(rest).strip_prefix('=')?;
    let value = blanks(rest);
    let (value, next) = match value.chars().next() {
        Some('\'') => {
            closed(value.get(1..)?.split_once('\'').map(|(value, rest)| (value.to_owned(), rest))?)?
        }
        Some('"') => closed(escaped(value.get(1..)?)?)?,
        _ => plain(rest)?,
    };
    Some(((name.to_owned(), value), next))
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// A value without quotes: the line, up to a comment. A space in it could be the end of the value as well.
fn plain(text: &str) -> Option<(String, &str)> {
    let (line, next) = text.split_once('\n').unwrap_or((text, ""));
    let comment = [" #", "\t#"].iter().filter_map(|begin| line.find(begin)).min();
    let value = line.get(..comment.unwrap_or(line.len()))?.trim();
    (!value.contains(char::is_whitespace)).then(|| (value.to_owned(), next))
}

/// The text up to the closing double quote, and what follows. A backslash is for the quote, itself, and a line break.
fn escaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                same @ ('\\' | '"' | '\'' | '$' | ' ') => same,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

/// After the closing quote there is nothing but a comment.
fn closed((value, rest): (String, &str)) -> Option<(String, &str)> {
    let (line, next) = rest.split_once('\n').unwrap_or((rest, ""));
    let is_comment = line.starts_with([' ', '\t']) && line.trim_start().starts_with('#');
    (line.trim().is_empty() || is_comment).then_some((value, next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Option<String> {
        let mut variables = parse(line).ok()?;
        assert_eq!(variables.len(), 1, "{line:?}");
        let (name, value) = variables.remove(0);
        assert_eq!(name, "A", "{line:?}");
        Some(value)
    }

    #[test]
    fn a_value_is_taken_as_it_is_written() {
        for (line, value) in [
            ("A=", ""),
            ("A=b", "b"),
            ("A = b", "b"),
            ("  export A=b", "b"),
            ("export\tA=b", "b"),
            ("A=http://me:pa$sword-1@h:8000/", "http://me:pa$sword-1@h:8000/"),
            ("A=${HOME}$$", "${HOME}$$"),
            (r"A=pa\ss\n", r"pa\ss\n"),
            ("A=b#c", "b#c"),
            ("A=#b", "#b"),
            ("A=b # c", "b"),
            ("A=b\t#c # d", "b"),
            ("A= # c", ""),
            ("A=b\"c'd", "b\"c'd"),
            ("A=b=c==", "b=c=="),
            ("A=b  \r", "b"),
            ("A='b c'", "b c"),
            ("A='$b \\n # \"'  # c", "$b \\n # \""),
            ("A=''", ""),
            ("A=\"b c\"\r\n", "b c"),
            (r#"A="$b \"c\" \\ \$ \n""#, "$b \"c\" \\ $ \n"),
            ("A=\"b\nc\"\n", "b\nc"),
            ("A=sí", "sí"),
            ("\u{feff}A=b", "b"),
        ] {
            assert_eq!(one(line).as_deref(), Some(value), "{line:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_with_its_line() {
        for line in [
            "A",
            "=b",
            "1A=b",
            "A-B=c",
            "A=b c",
            "A='b",
            "A=\"b",
            "A='b'c",
            "A=\"b\"#c",
            r#"A="\t""#,
            r#"A="b\"#,
            "export A",
            "set A=b",
            "{",
            "A=b\rB=c",
        ] {
            assert_eq!(parse(line), Err(1), "{line:?}");
            assert_eq!(parse(&format!("# {line}\n\nB='1\n2'\n{line}\nC=3")), Err(5), "{line:?}");
        }
    }

    #[test]
    fn lines_follow_each_other_however_they_end() {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let want = own(&[("A", "1"), ("B", "2 3"), ("export", "4"), ("A", "")]);
        let text = "# first\nA=1\n\n \t\nexport B='2 3' # two\nexport=4\nA=\n";
        assert_eq!(parse(text), Ok(want.clone()));
        assert_eq!(parse(&text.replace('\n', "\r\n")), Ok(want.clone()));
        assert_eq!(parse(text.trim_end()), Ok(want));
        assert_eq!(parse("\u{feff}"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn every_value_can_be_written(value in "[^\0\r]{0,20}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(one(&format!("A=\"{quoted}\" # c")), Some(value.clone()));
            if !value.contains('\'') {
                prop_assert_eq!(one(&format!("export A='{value}'\n")), Some(value.clone()));
            }
            if !value.contains(char::is_whitespace) && !value.starts_with(['\'', '"']) {
                prop_assert_eq!(one(&format!("A={value}\r\n")), Some(value));
            }
        }

        #[test]
        fn whatever_is_in_the_file_it_is_read_or_refused(text in "(A|=|'|\"|\\\\|#| |\n|\r|\\$|export |x|\u{feff}|é){0,24}") {
            match parse(&text) {
                Ok(variables) => {
                    for (name, _) in variables {
                        prop_assert!(name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
                    }
                }
                Err(line) => prop_assert!((1..=text.matches('\n').count() + 1).contains(&line)),
            }
        }
    }
}
