//! Files and resources as text, for models that read nothing else.
//!
//! Each is a block of its own: a line that says where it is from, then its text between fences that do not occur in it.
//! Nothing is told about it that the client did not say.

use super::{File, Position, Selection};

/// Appends a file whose text this is.
pub fn file(file: &File, text: &str, to: &mut String) {
    let name = file.name.as_deref();
    let extension = name.and_then(extension).unwrap_or_default();
    let language = file.mime_type.as_deref().and_then(language).unwrap_or(extension);
    block(name.unwrap_or("file"), language, text, to);
}

/// Appends a resource. Where the text is more than what is selected, the selection is said again behind it: models do
/// not count lines.
pub fn resource(uri: &str, mime_type: Option<&str>, text: &str, selection: Option<Selection>, to: &mut String) {
    let extension = extension(uri).unwrap_or_default();
    let language = mime_type.and_then(language).unwrap_or(extension);
    let Some(selection) = selection else {
        return block(uri, language, text, to);
    };
    let lines = lines(selection);
    if selection.start == selection.end {
        return block(&format!("{uri}, with the cursor in {lines}"), language, text, to);
    }
    match selected(text, selection) {
        None => block(&format!("{uri}, {lines}"), language, text, to),
        Some(selected) => {
            block(uri, language, text, to);
            block(&format!("Selected in it, {lines}:"), language, &selected, to);
        }
    }
}

fn block(head: &str, language: &str, text: &str, to: &mut String) {
    if !to.is_empty() {
        to.push_str(if to.ends_with('\n') { "\n" } else { "\n\n" });
    }
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    to.push_str(&format!("{head}\n{fence}{language}\n{text}{end}{fence}\n"));
}

/// How many backticks stand side by side, at most.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|character| character != '`');
    runs.map(str::len).max().unwrap_or_default()
}

/// `line 3` or `lines 3-7`, counted from 1 as people do. A selection that ends before the first character of a line
/// has nothing of that line.
fn lines(Selection { start, end }: Selection) -> String {
    let is_before_line = end.character == 0 && end.line > start.line;
    let last = if is_before_line { end.line - 1 } else { end.line };
    if last <= start.line {
        format!("line {}", u64::from(start.line) + 1)
    } else {
        format!("lines {}-{}", u64::from(start.line) + 1, u64::from(last) + 1)
    }
}

/// What is selected of a text that reaches to the end of the selection; none where the text is what is selected.
fn selected(text: &str, Selection { start, end }: Selection) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (first, last) = (start.line as usize, end.line as usize);
    let spanned = last.checked_sub(first)? + 1;
    let reaches = lines.len() > last || (lines.len() == last && end.character == 0);
    if !reaches || (first == 0 && lines.len() < spanned) {
        return None;
    }
    let tail = lines.get(last).copied().unwrap_or_default();
    let head = lines.get(first).copied()?;
    // Editors count bytes, UTF-16 units or characters. Where all of them agree the cut is exact, else whole lines count.
    let from = column(head, start).unwrap_or(0);
    let to = column(tail, end).unwrap_or(if end.character == 0 { 0 } else { tail.len() });
    let selected = if first == last {
        head.get(from..to)?.to_owned()
    } else {
        let middle = lines[first + 1..last].concat();
        [&head[from..], &middle, &tail[..to]].concat()
    };
    (selected.trim_end() != text.trim_end()).then_some(selected)
}

/// The byte of a line that a position means, whatever its editor counts.
fn column(line: &str, position: Position) -> Option<usize> {
    let column = position.character as usize;
    line.get(..column).filter(|before| before.is_ascii()).map(str::len)
}

/// The language that a media type tells, as fences name it; a word that is none stands for itself.
fn language(mime_type: &str) -> Option<&str> {
    let essence = mime_type.split(';').next()?.trim();
    let word = match essence.split_once('/') {
        None => essence,
        Some(("text", "plain") | ("application", "octet-stream")) => return None,
        Some((_, subtype)) => subtype.rsplit('+').next()?.trim_start_matches("x-"),
    };
    is_word(word).then_some(word)
}

fn extension(name: &str) -> Option<&str> {
    let name = name.rsplit(['/', '\\']).next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && is_word(extension)).then_some(extension)
}

fn is_word(text: &str) -> bool {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '#' | '-' | '_' | '.');
    !text.is_empty() && text.len() <= 32 && text.chars().all(is_of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: (u32, u32), end: (u32, u32)) -> Option<Selection> {
        let position = |(line, character)| Position { line, character };
        Some(Selection {
            start: position(start),
            end: position(end),
        })
    }

    fn shown(text: &str, selection: Option<Selection>) -> String {
        let mut shown = String::new();
        resource("file:///a.rs", None, text, selection, &mut shown);
        shown
    }

    #[test]
    fn a_resource_is_a_fenced_block_under_its_uri() {
        assert_eq!(shown("fn main() {}", None), "file:///a.rs\n```rs\nfn main() {}\n```\n");
        assert_eq!(shown("", None), "file:///a.rs\n```rs\n```\n");
        let mut said = "Explain".to_owned();
        resource("file:///a.rs", Some("text/x-rust"), "x\n", None, &mut said);
        assert_eq!(said, "Explain\n\nfile:///a.rs\n```rust\nx\n```\n");
    }

    #[test]
    fn fences_do_not_occur_in_the_text() {
        assert_eq!(shown("a ```` b", None), "file:///a.rs\n`````rs\na ```` b\n`````\n");
    }

    #[test]
    fn a_text_that_is_the_selection_says_which_lines_it_is() {
        assert_eq!(
            shown("two\nthree\n", at((9, 0), (11, 0))),
            "file:///a.rs, lines 10-11\n```rs\ntwo\nthree\n```\n"
        );
        assert!(shown("wo", at((1, 1), (1, 3))).starts_with("file:///a.rs, line 2\n"));
        assert!(shown("a", at((1, 1), (1, 1))).starts_with("file:///a.rs, with the cursor in line 2\n"));
        assert!(
            shown("one\ntwo\n", at((0, 0), (2, 0))).starts_with("file:///a.rs, lines 1-2\n"),
            "all is selected"
        );
    }

    #[test]
    fn a_whole_text_is_followed_by_what_is_selected_in_it() {
        let rows = [
            (at((1, 0), (2, 0)), "line 2", "two\n"),
            (at((1, 1), (1, 3)), "line 2", "wo"),
            (at((0, 2), (2, 4)), "lines 1-3", "e\ntwo\nfünf"),
            (at((2, 3), (3, 1)), "lines 3-4", "fünf\ns"),
        ];
        for (selection, lines, selected) in rows {
            let end = if selected.ends_with('\n') { "" } else { "\n" };
            assert_eq!(
                shown("one\ntwo\nfünf\nsix\n", selection),
                format!(
                    "file:///a.rs\n```rs\none\ntwo\nfünf\nsix\n```\n\nSelected in it, {lines}:\n```rs\n{selected}{end}```\n"
                )
            );
        }
    }

    #[test]
    fn selections_that_make_no_sense_still_show_the_text() {
        for selection in [
            at((5, 0), (2, 0)),
            at((2, 1), (2, 0)),
            at((0, 9), (0, 2)),
            at((0, 0), (u32::MAX, u32::MAX)),
        ] {
            assert!(shown("one\ntwo\n", selection).contains("one\ntwo\n"), "{selection:?}");
        }
    }

    #[test]
    fn the_language_is_the_media_types_or_the_extensions() {
        let rows = [
            ("text/x-python", Some("python")),
            ("application/json; charset=utf-8", Some("json")),
            ("image/svg+xml", Some("xml")),
            ("rust", Some("rust")),
            ("text/plain", None),
            ("two words", None),
        ];
        for (mime_type, expected) in rows {
            assert_eq!(language(mime_type), expected, "{mime_type}");
        }
        assert_eq!(extension("file:///a.b/Makefile"), None);
        assert_eq!(extension(".bashrc"), None);
        assert_eq!(extension("a.tar.gz"), Some("gz"));
    }
}
