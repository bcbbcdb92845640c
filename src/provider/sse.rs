//! Bytes to server-sent events, after the HTML standard's section "Server-sent events".
//!
//! Pure: nothing here reads, waits or knows what the events mean. However the bytes are cut, the events are the same.
//! `id` and `retry` are read over, since no dialect takes a stream up again by them.

use std::borrow::Cow;
use std::ops::Range;

/// One event, borrowed from the parser's buffer where its data is a single line of good UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The event's type; empty where the stream names none.
    pub name: Cow<'a, str>,
    /// The data; its lines are joined by `\n`.
    pub data: Cow<'a, str>,
}

/// Takes bytes as they come and gives events when they are whole.
///
/// An event that the stream ends in the middle of is never given: "Once the end of the file is reached, any pending
/// data must be discarded. (If the file ends in the middle of an event, before the final empty line, the incomplete
/// event is not dispatched.)"
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes from the event that is being read; those before `line` have been looked at.
    buffer: Vec<u8>,
    /// Where the current line begins.
    line: usize,
    /// Up to where the current line has been searched for its end.
    searched: usize,
    /// The last line ended with CR, so a LF that follows belongs to it.
    after_cr: bool,
    /// Whether a line has been read: only the very first may begin with a byte order mark.
    begun: bool,
    pending: Pending,
}

/// The fields of the event that is being read, as places in the buffer.
#[derive(Debug, Default)]
struct Pending {
    name: Range<usize>,
    data: Option<Range<usize>>,
    /// The data, where it has more than one line.
    joined: Option<Vec<u8>>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Parser {
    /// Appends bytes. Call [`Parser::next`] until it gives none before the next push, so that only the tail of an
    /// unfinished event has to be moved.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait for the rest of their event.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole event, if there is one.
    #[allow(
        clippy::should_implement_trait,
        reason = "an event borrows the parser, which no iterator's item may"
    )]
    pub fn next(&mut self) -> Option<SseEvent<'_>> {
        while let Some(line) = self.next_line() {
            if !line.is_empty() {
                self.accept_field(line);
                continue;
            }
            let event = std::mem::take(&mut self.pending);
            // "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty
            // string and return."
            if let Some(data) = event.data {
                return Some(SseEvent {
                    name: text(&self.buffer[event.name]),
                    data: match event.joined {
                        Some(joined) => Cow::Owned(text(&joined).into_owned()),
                        None => text(&self.buffer[data]),
                    },
                });
            }
        }
        self.forget_read();
        None
    }

    /// "Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair, a single
    /// U+000A LINE FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character."
    ///
    /// A CR ends the line at once: whoever waits to see whether a LF follows holds the event back.
    fn next_line(&mut self) -> Option<Range<usize>> {
        if self.after_cr && self.line < self.buffer.len() {
            self.after_cr = false;
            if self.buffer[self.line] == b'\n' {
                self.line += 1;
                self.searched = self.line;
            }
        }
        let Some(length) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + length;
        let mut start = self.line;
        self.after_cr = self.buffer[end] == b'\r';
        self.line = end + 1;
        self.searched = self.line;
        // "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any."
        if !self.begun && self.buffer[start..end].starts_with(BYTE_ORDER_MARK) {
            start += BYTE_ORDER_MARK.len();
        }
        self.begun = true;
        Some(start..end)
    }

    /// "Collect the characters on the line before the first U+003A COLON character (:), and let field be that string.
    /// Collect the characters on the line after the first U+003A COLON character (:), and let value be that string. If
    /// value starts with a U+0020 SPACE character, remove it from value." A line without a colon is a field whose
    /// value is empty; a line that starts with one is a comment, a field without a name.
    fn accept_field(&mut self, line: Range<usize>) {
        let bytes = &self.buffer[line.clone()];
        let colon = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        let space = usize::from(bytes.get(colon + 1) == Some(&b' '));
        let value = (line.start + colon + 1 + space).min(line.end)..line.end;
        match &bytes[..colon] {
            b"event" => self.pending.name = value,
            b"data" => self.pending.append(&self.buffer, value),
            _ => {}
        }
    }

    /// Drops what belongs to events that were given; keeps the lines of the one that is being read.
    fn forget_read(&mut self) {
        let pending = &self.pending;
        let data = pending.data.as_ref().map_or(self.line, |data| data.start);
        let name = if pending.name.is_empty() {
            self.line
        } else {
            pending.name.start
        };
        let keep = data.min(name).min(self.line);
        if keep == 0 {
            return;
        }
        self.buffer.drain(..keep);
        self.line -= keep;
        self.searched -= keep;
        self.pending.shift(keep);
    }
}

impl Pending {
    /// "Append the field value to the data buffer, then append a single U+000A LINE FEED (LF) character to the data
    /// buffer", the last of which is removed when the event is dispatched.
    fn append(&mut self, buffer: &[u8], value: Range<usize>) {
        let Some(first) = self.data.clone() else {
            self.data = Some(value);
            return;
        };
        let joined = self.joined.get_or_insert_with(|| buffer[first].to_vec());
        joined.push(b'\n');
        joined.extend_from_slice(&buffer[value]);
    }

    fn shift(&mut self, by: usize) {
        let shifted = |range: &Range<usize>| range.start.saturating_sub(by)..range.end.saturating_sub(by);
        self.name = shifted(&self.name);
        self.data = self.data.as_ref().map(shifted);
    }
}

/// "Streams must be decoded using the UTF-8 decode algorithm": bad bytes become U+FFFD. The strict check goes first,
/// since it is many times as fast as the lenient one and nearly always enough.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Events = Vec<(String, String)>;

    fn parse(chunks: &[&[u8]]) -> Events {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(event) = parser.next() {
                events.push((event.name.into_owned(), event.data.into_owned()));
            }
        }
        events
    }

    /// The same events whole, in two pieces at every place, and byte by byte.
    #[track_caller]
    fn check(stream: impl AsRef<[u8]>, expected: &[(&str, &str)]) {
        let stream = stream.as_ref();
        let expected: Events = expected.iter().map(|(n, d)| (n.to_string(), d.to_string())).collect();
        assert_eq!(parse(&[stream]), expected, "whole");
        for at in 0..=stream.len() {
            assert_eq!(parse(&[&stream[..at], &stream[at..]]), expected, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(parse(&bytes), expected, "byte by byte");
    }

    #[test]
    fn lines_end_with_cr_lf_or_both() {
        let expected = [("a", "1"), ("b", "2")];
        check("event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", &expected);
        check("event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n", &expected);
        check("event: a\rdata: 1\r\revent: b\rdata: 2\r\r", &expected);
        check("event: a\r\ndata: 1\n\revent: b\rdata: 2\r\n\n", &expected);
    }

    #[test]
    fn a_cr_ends_the_event_at_once() {
        let mut parser = Parser::default();
        parser.push(b"data: x\r\r");
        assert_eq!(parser.next().unwrap().data, "x");
        parser.push(b"\ndata: y\r\n\r");
        assert_eq!(parser.next().unwrap().data, "y");
    }

    #[test]
    fn lines_of_data_are_joined() {
        check("data: YHOO\ndata: +2\ndata\ndata:10\n\n", &[("", "YHOO\n+2\n\n10")]);
        check("data:\ndata:\n\n", &[("", "\n")]);
    }

    #[test]
    fn one_space_behind_the_colon_is_removed_and_no_more() {
        check(
            "data:test\n\ndata: test\n\ndata:  test\n\n",
            &[("", "test"), ("", "test"), ("", " test")],
        );
    }

    #[test]
    fn empty_data_is_an_event_and_no_data_is_none() {
        check(
            "data\n\ndata:\n\nevent: x\n\nretry: 10\n\n\n\n: c\n\n",
            &[("", ""), ("", "")],
        );
        check("event: x\n\ndata: 1\n\n", &[("", "1")]);
    }

    #[test]
    fn comments_ids_and_unknown_fields_are_read_over() {
        check(
            ": hello\nid: 7\nretry: 3\ndatum: 1\n event: x\nevent: a\n:data: no\ndata: 1:2\n\n",
            &[("a", "1:2")],
        );
    }

    #[test]
    fn a_byte_order_mark_is_stripped_once() {
        check(
            "\u{FEFF}data: 1\n\n\u{FEFF}data: 2\n\ndata: \u{FEFF}3\n\n",
            &[("", "1"), ("", "\u{FEFF}3")],
        );
    }

    #[test]
    fn text_of_many_bytes_survives_every_cut_and_bad_bytes_are_replaced() {
        check("data: 【4:0†é😀】\n\n", &[("", "【4:0†é😀】")]);
        check(b"data: a\xFFb\ndata: \xF0\x9F\n\n", &[("", "a\u{FFFD}b\n\u{FFFD}")]);
    }

    #[test]
    fn an_event_without_its_empty_line_is_not_given() {
        check("data: 1\n\ndata: 2\n", &[("", "1")]);
        check("data: 1\n\ndata: 2", &[("", "1")]);
    }

    #[test]
    fn the_done_mark_is_data_like_any_other() {
        check(
            "event: done\ndata: [DONE]\n\ndata: [DONE]x\n\n",
            &[("done", "[DONE]"), ("", "[DONE]x")],
        );
    }

    #[test]
    fn what_was_given_is_not_kept() {
        let mut parser = Parser::default();
        for _ in 0..100 {
            parser.push(b"event: a\ndata: 12345\n\nevent: b\nda");
            while parser.next().is_some() {}
            parser.push(b"ta: 6\n\n");
            while parser.next().is_some() {}
            assert_eq!(parser.pending(), 0);
        }
    }
}
