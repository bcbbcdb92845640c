//! Citation marks that a model writes into its text, such as `【4:0†source】`: taken out of what is shown, and given as
//! annotations.
//!
//! Pure. What is shown is the text without the marks, so the offsets that the upstream counts in its own text are moved
//! by what was taken out. Whatever only begins like a mark is text, and is shown once that is clear.

use std::borrow::Cow;

use crate::protocol::Annotation;

/// The longest mark, in bytes: what is longer is text.
const MARK_MAX: usize = 400;

/// Where OpenAI's models begin a mark, divide its fields and end it: characters that mean nothing to anybody else.
const BEGIN: char = '\u{E200}';
const DIVIDE: char = '\u{E202}';
const END: char = '\u{E201}';

/// The text of one part on its way from the upstream to the client.
#[derive(Debug, Default)]
pub struct Markers {
    /// What may become a mark.
    held: String,
    /// Code points shown.
    shown: u32,
    /// Marks taken out.
    marks: Vec<Mark>,
}

#[derive(Debug)]
struct Mark {
    /// Where it began in the text that is shown, in code points.
    at: u32,
    /// How long it was, in code points.
    length: u32,
    kind: &'static str,
    /// What it names: a source, or the upstream's references.
    label: String,
    /// Whether the upstream has given an annotation for it.
    is_cited: bool,
}

/// What a text that begins like a mark is.
enum Verdict {
    Mark(&'static str, String),
    Undecided,
    Text,
}

impl Markers {
    /// What is to be shown of a piece and of what was held back before it.
    pub fn pass<'a>(&mut self, piece: &'a str) -> Cow<'a, str> {
        if self.held.is_empty() && !may_begin(piece) {
            self.shown += code_points(piece);
            return Cow::Borrowed(piece);
        }
        let mut shown = String::with_capacity(piece.len());
        for character in piece.chars() {
            self.take(character, &mut shown);
        }
        Cow::Owned(shown)
    }

    /// What was held back, at the end of the text.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        self.shown += code_points(&held);
        held
    }

    /// The upstream's annotation, with its offsets in the text that is shown.
    pub fn place(&mut self, annotation: &mut Annotation) {
        let (start, end) = (annotation.start, annotation.end);
        let mut before = 0;
        for mark in &mut self.marks {
            let begins = mark.at + before;
            let ends = begins + mark.length;
            mark.is_cited |= match (start, end) {
                // A place, which may be either side of the mark.
                (Some(start), Some(end)) if start == end => (begins..=ends).contains(&start),
                (Some(start), Some(end)) => start < ends && end > begins,
                _ => false,
            };
            before += mark.length;
        }
        let moved = |offset: u32| {
            let mut before = 0;
            for mark in &self.marks {
                let begins = mark.at + before;
                if offset <= begins {
                    break;
                }
                before += mark.length.min(offset - begins);
            }
            offset - before
        };
        annotation.start = start.map(moved);
        annotation.end = end.map(moved);
    }

    /// The marks that the upstream has given no annotation for, each once.
    pub fn uncited(&mut self) -> impl Iterator<Item = Annotation> {
        let marks = self.marks.iter_mut().filter(|mark| !mark.is_cited);
        marks.map(|mark| {
            mark.is_cited = true;
            Annotation {
                kind: mark.kind.to_owned(),
                start: Some(mark.at),
                end: Some(mark.at),
                title: Some(mark.label.clone()),
                ..Annotation::default()
            }
        })
    }

    fn take(&mut self, character: char, shown: &mut String) {
        let begins = matches!(character, '【' | BEGIN);
        if self.held.is_empty() && !begins {
            shown.push(character);
            self.shown += 1;
            return;
        }
        if begins {
            // No mark holds another: what was held is text.
            shown.push_str(&self.finish());
        }
        self.held.push(character);
        match verdict(&self.held) {
            Verdict::Undecided => {}
            Verdict::Text => shown.push_str(&self.finish()),
            Verdict::Mark(kind, label) => {
                let length = code_points(&self.held);
                self.held.clear();
                self.marks.push(Mark {
                    at: self.shown,
                    length,
                    kind,
                    label,
                    is_cited: false,
                });
            }
        }
    }
}

/// Whether a mark may begin in this piece. Nearly every text has neither byte, so this is what a delta costs.
fn may_begin(piece: &str) -> bool {
    // The first bytes of `【` and of the private-use character in UTF-8.
    memchr::memchr2(0xE3, 0xEE, piece.as_bytes()).is_some() && piece.contains(['【', BEGIN])
}

fn verdict(held: &str) -> Verdict {
    if held.len() > MARK_MAX || held.ends_with('\n') {
        return Verdict::Text;
    }
    match held.strip_prefix('【') {
        Some(rest) => bracketed(rest),
        None => private(&held[BEGIN.len_utf8()..]),
    }
}

/// `4:0†source】`: numbers, then what is cited. Brackets with anything else are text.
fn bracketed(rest: &str) -> Verdict {
    let Some((number, label)) = rest.split_once('†') else {
        let is_number = rest.chars().all(|c| c.is_ascii_digit() || c == ':');
        return if is_number { Verdict::Undecided } else { Verdict::Text };
    };
    if number.is_empty() {
        return Verdict::Text;
    }
    match label.strip_suffix('】') {
        Some(label) => Verdict::Mark("fileCitation", label.to_owned()),
        None => Verdict::Undecided,
    }
}

/// `cite`, then references, divided. Marks of other names stand for text.
fn private(rest: &str) -> Verdict {
    let Some(rest) = rest.strip_suffix(END) else {
        let name = rest.split(DIVIDE).next().unwrap_or_default();
        let may_be = ["cite", "filecite"].iter().any(|known| known.starts_with(name));
        return if may_be { Verdict::Undecided } else { Verdict::Text };
    };
    let mut fields = rest.split(DIVIDE);
    let kind = match fields.next() {
        Some("cite") => "citation",
        Some("filecite") => "fileCitation",
        _ => return Verdict::Text,
    };
    Verdict::Mark(kind, fields.collect::<Vec<_>>().join(" "))
}

fn code_points(text: &str) -> u32 {
    text.chars().count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a text that comes in these pieces, and the citations.
    fn shown(pieces: &[&str]) -> (String, Vec<(u32, String)>) {
        let mut markers = Markers::default();
        let mut shown: String = pieces.iter().map(|piece| markers.pass(piece).into_owned()).collect();
        shown += &markers.finish();
        let marks = markers.uncited();
        let marks = marks.map(|mark| (mark.start.unwrap(), mark.title.unwrap())).collect();
        (shown, marks)
    }

    /// The same however the text is cut.
    #[track_caller]
    fn check(text: &str, expected: &str, marks: &[(u32, &str)]) {
        let marks: Vec<_> = marks.iter().map(|(at, label)| (*at, (*label).to_owned())).collect();
        let places = text.char_indices().map(|(place, _)| place);
        for at in places {
            let (before, after) = text.split_at(at);
            assert_eq!(
                shown(&[before, after]),
                (expected.to_owned(), marks.clone()),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn marks_are_taken_out_and_given_as_citations() {
        check("é【4:0†a b.txt】.", "é.", &[(1, "a b.txt")]);
        check("a【1†x】【2†y】", "a", &[(1, "x"), (1, "y")]);
        check(
            "a\u{E200}cite\u{E202}turn0search1\u{E202}turn0search2\u{E201} b",
            "a b",
            &[(1, "turn0search1 turn0search2")],
        );
    }

    #[test]
    fn what_only_looks_like_a_mark_is_text() {
        for text in [
            "これは【重要】です",
            "【4】",
            "【†x】",
            "x【12:",
            "【4:0†\n】",
            "\u{E200}entity\u{E202}[\"a\"]\u{E201}",
            "\u{E200}cite",
        ] {
            check(text, text, &[]);
        }
        check("【【1†x】", "【", &[(1, "x")]);
    }

    #[test]
    fn offsets_of_the_upstream_are_moved_and_its_citations_count_once() {
        let mut markers = Markers::default();
        assert_eq!(markers.pass("ab【1†x】cd【2†y】ef"), "abcdef");
        let mut annotation = Annotation {
            start: Some(2),
            end: Some(7),
            ..Annotation::default()
        };
        markers.place(&mut annotation);
        assert_eq!((annotation.start, annotation.end), (Some(2), Some(2)));
        let mut behind = Annotation {
            start: Some(14),
            end: Some(16),
            ..Annotation::default()
        };
        markers.place(&mut behind);
        assert_eq!((behind.start, behind.end), (Some(4), Some(6)));
        let left: Vec<_> = markers.uncited().map(|mark| mark.title.unwrap()).collect();
        assert_eq!(left, ["y"]);
        assert_eq!(markers.uncited().count(), 0);
    }
}
