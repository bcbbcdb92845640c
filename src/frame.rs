//! Bytes to JSON texts and back, in either framing: one JSON text per line, or `Content-Length` headers.
//!
//! Nothing here knows JSON-RPC. A bad frame is an item and never an error of the stream, since a stream that has failed
//! is deaf to what follows: whatever arrives, the next good frame is found. What is held in memory is one frame of at
//! most `max_input` bytes; larger ones are skipped as they arrive.

mod header;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::io;

use bytes::{Buf, BytesMut};
use memchr::memchr;
use tokio_util::codec::Decoder;

use crate::config::Framing;
use crate::error::{Error, Kind};

/// The longest header block that is read, in bytes.
const MAX_HEADER: usize = 8 * 1024;

const COUNTS_BYTES: &str = "`Content-Length` counts the bytes of the body in UTF-8, not its characters";
const ONE_PER_LINE: &str = "one JSON text per line: use `jq -c`";
const RAISE_THE_LIMIT: &str = "send less at once, or raise `max_input_bytes` in the settings";

/// Appends one JSON text as a frame. The text must not hold a line break if the framing is by lines; serde's compact
/// form has none.
pub fn encode(framing: Framing, json: &str, to: &mut Vec<u8>) {
    match framing {
        Framing::Lines => {
            to.extend_from_slice(json.as_bytes());
            to.push(b'\n');
        }
        Framing::Headers => {
            to.extend_from_slice(format!("Content-Length: {}\r\n\r\n", json.len()).as_bytes());
            to.extend_from_slice(json.as_bytes());
        }
    }
}

/// A frame that could not be read. The frames behind it can.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameError {
    /// Which of the two it is.
    pub kind: FrameErrorKind,
    /// What was expected and what was found; nothing of the frame's own text.
    pub message: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

/// Why a frame could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameErrorKind {
    /// The frame is broken, or what is in it is no JSON text.
    Parse,
    /// It is larger than the limit.
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
}

impl FrameError {
    fn parse(message: impl Into<String>, hint: Option<&'static str>) -> Self {
        FrameError {
            kind: FrameErrorKind::Parse,
            message: message.into(),
            hint,
        }
    }

    fn too_large(size: u64, limit: usize) -> Self {
        FrameError {
            kind: FrameErrorKind::TooLarge { size },
            message: format!("expected a message of at most {limit} bytes, found one of {size}"),
            hint: Some(RAISE_THE_LIMIT),
        }
    }
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        let refusal = match error.kind {
            FrameErrorKind::Parse => Error::new(Kind::ParseError, error.message),
            FrameErrorKind::TooLarge { size } => Error::new(Kind::InputTooLarge, error.message)
                .with_code(Kind::InvalidRequest.code())
                .with_size(size),
        };
        match error.hint {
            Some(hint) => refusal.with_hint(Cow::Borrowed(hint)),
            None => refusal,
        }
    }
}

/// What was in a frame: one checked JSON text, or why there is none.
pub type Frame = Result<String, FrameError>;

/// The receiving end. Tells the framing by the first bytes, unless it is set.
///
/// Each frame gives one item; so does each stretch of bytes that holds none. The texts are JSON without lone surrogates,
/// so whoever parses one further fails only by nesting or by type.
#[derive(Debug)]
pub struct Frames {
    framing: Option<Framing>,
    max_input: usize,
    state: State,
    /// Whether a line that ends inside a JSON text should carry its hint: once, until a line parses.
    hints: bool,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first ones, which may be a byte order mark.
    Mark,
    /// Those that tell the framing.
    Start,
    /// A line, of which this many bytes hold no line break.
    Line { searched: usize },
    /// The rest of a line that is too large, of which this many bytes are gone.
    SkipLine { skipped: u64 },
    /// A header block, of which this much was read.
    Header { length: Option<u64>, read: usize },
    /// A body of this length.
    Body { length: usize },
    /// The rest of a body that is too large.
    SkipBody { left: u64 },
    /// Something that no frame begins with; it was answered, and the next `Content-Length:` ends it.
    Lost,
}

/// What a look at the bytes gave.
enum Step {
    /// The state changed; look again.
    Again,
    /// More bytes are needed.
    Wait,
    /// A frame.
    Give(Frame),
}

impl Frames {
    /// A receiving end that takes frames of up to `max_input` bytes, in this framing or in the one that it finds.
    pub fn new(framing: Option<Framing>, max_input: usize) -> Self {
        Frames {
            framing,
            max_input,
            state: State::Mark,
            hints: true,
        }
    }

    /// The framing, as set or found; none before the first bytes. Every item comes after it is known.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Sets the limit for the frames to come.
    pub fn set_max_input(&mut self, max_input: usize) {
        self.max_input = max_input;
    }

    fn next(&mut self, src: &mut BytesMut, ended: bool) -> Option<Frame> {
        loop {
            let step = match self.state {
                State::Mark => self.mark(src, ended),
                State::Start => self.start(src, ended),
                State::Line { searched } => self.line(src, ended, searched),
                State::SkipLine { skipped } => self.skip_line(src, ended, skipped),
                State::Header { length, read } => self.header(src, ended, length, read),
                State::Body { length } => self.body(src, ended, length),
                State::SkipBody { left } => self.skip_body(src, left),
                State::Lost => self.lost(src),
            };
            match step {
                Step::Again => continue,
                Step::Wait => return None,
                Step::Give(frame) => return Some(frame),
            }
        }
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Step::Again
    }

    fn give(&mut self, frame: Frame, next: State) -> Step {
        self.state = next;
        Step::Give(frame)
    }

    fn lines(&mut self) -> Step {
        self.framing = Some(Framing::Lines);
        self.go(State::Line { searched: 0 })
    }

    fn headers(&mut self) -> Step {
        self.framing = Some(Framing::Headers);
        self.go(HEADER)
    }

    fn mark(&mut self, src: &mut BytesMut, ended: bool) -> Step {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if src.starts_with(MARK) {
            src.advance(MARK.len());
        } else if MARK.starts_with(src) && !ended {
            return Step::Wait;
        }
        match self.framing {
            None => self.go(State::Start),
            Some(Framing::Lines) => self.lines(),
            Some(Framing::Headers) => self.headers(),
        }
    }

    /// `{` or `[` means lines. Else the first line decides: `token:` means headers, anything else lines, where it will
    /// be answered as a broken one: nobody may wait in silence because of a shell's greeting.
    fn start(&mut self, src: &mut BytesMut, ended: bool) -> Step {
        skip_white_space(src);
        let token = src.iter().take_while(|byte| header::is_token(**byte)).count();
        match src.get(token) {
            Some(b':') if token > 0 => self.headers(),
            None if src.is_empty() || (!ended && token <= MAX_HEADER) => Step::Wait,
            _ => self.lines(),
        }
    }

    /// A last line without a line break counts.
    fn line(&mut self, src: &mut BytesMut, ended: bool, searched: usize) -> Step {
        let newline = memchr(b'\n', &src[searched..]).map(|at| searched + at);
        let end = newline.unwrap_or(src.len());
        if end > self.max_input {
            return self.go(State::SkipLine { skipped: 0 });
        }
        if newline.is_none() && !ended {
            self.state = State::Line { searched: end };
            return Step::Wait;
        }
        let line = src.split_to(end);
        src.advance(usize::from(newline.is_some()));
        let line = line.trim_ascii();
        if !line.is_empty() {
            let frame = self.line_text(line);
            return self.give(frame, State::Line { searched: 0 });
        }
        self.state = State::Line { searched: 0 };
        if newline.is_some() { Step::Again } else { Step::Wait }
    }

    fn line_text(&mut self, line: &[u8]) -> Frame {
        let flaw = match text::check(line) {
            Ok(text) => {
                self.hints = true;
                return Ok(text);
            }
            Err(flaw) => flaw,
        };
        let hint = (flaw.is_cut && std::mem::take(&mut self.hints)).then_some(ONE_PER_LINE);
        let message = format!("expected one JSON text per line, {}", flaw.found);
        Err(FrameError::parse(message, hint))
    }

    fn skip_line(&mut self, src: &mut BytesMut, ended: bool, skipped: u64) -> Step {
        let newline = memchr(b'\n', src);
        let end = newline.unwrap_or(src.len());
        let size = skipped + end as u64;
        src.advance(end + usize::from(newline.is_some()));
        if newline.is_none() && !ended {
            self.state = State::SkipLine { skipped: size };
            return Step::Wait;
        }
        let error = FrameError::too_large(size, self.max_input);
        self.give(Err(error), State::Line { searched: 0 })
    }

    /// Reads one line of a header block, or passes over a blank line before it.
    fn header(&mut self, src: &mut BytesMut, ended: bool, length: Option<u64>, read: usize) -> Step {
        if read == 0 {
            skip_white_space(src);
        }
        let Some(end) = memchr(b'\n', &src[..src.len().min(MAX_HEADER - read)]) else {
            return match read + src.len() {
                MAX_HEADER.. => self.unreadable(src, "one larger than 8 KiB"),
                1.. if ended => self.unreadable(src, "the end of the input inside it"),
                _ => Step::Wait,
            };
        };
        let line = src[..end].trim_ascii();
        if line.is_empty() {
            return match length {
                Some(length) => {
                    src.advance(end + 1);
                    self.begin_body(length)
                }
                None => self.unreadable(src, "none in the header block"),
            };
        }
        match header::length(line) {
            Ok(found) if found.is_none() || length.is_none() || found == length => {
                src.advance(end + 1);
                self.go(State::Header {
                    length: found.or(length),
                    read: read + end + 1,
                })
            }
            Ok(_) => self.unreadable(src, "two that differ"),
            Err(found) => self.unreadable(src, found),
        }
    }

    /// Answers a header once and looks for the next one behind its first byte.
    fn unreadable(&mut self, src: &mut BytesMut, found: &str) -> Step {
        let message = format!("expected a header `Content-Length: <bytes>` and a blank line, found {found}");
        src.advance(src.len().min(1));
        self.give(Err(FrameError::parse(message, Some(COUNTS_BYTES))), State::Lost)
    }

    /// What is too large is answered at once, since its size is known, and skipped by it.
    fn begin_body(&mut self, length: u64) -> Step {
        match usize::try_from(length) {
            Ok(length) if length <= self.max_input => self.go(State::Body { length }),
            _ => {
                let error = FrameError::too_large(length, self.max_input);
                self.give(Err(error), State::SkipBody { left: length })
            }
        }
    }

    /// A body that is no JSON text may have a length that was counted in characters. Then it ends before its text
    /// does, or holds the next header: the search for that header begins inside it.
    fn body(&mut self, src: &mut BytesMut, ended: bool, length: usize) -> Step {
        if src.len() < length {
            if !ended {
                return Step::Wait;
            }
            let message = format!(
                "expected a body of {length} bytes, found the end of the input after {} of them",
                src.len()
            );
            return self.give(Err(FrameError::parse(message, Some(COUNTS_BYTES))), State::Lost);
        }
        match text::check(&src[..length]) {
            Ok(text) => {
                src.advance(length);
                self.give(Ok(text), HEADER)
            }
            Err(flaw) => {
                let message = format!(
                    "expected a body of {length} bytes that is one JSON text, {}",
                    flaw.found
                );
                self.give(Err(FrameError::parse(message, Some(COUNTS_BYTES))), State::Lost)
            }
        }
    }

    fn skip_body(&mut self, src: &mut BytesMut, left: u64) -> Step {
        let here = src.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        src.advance(here);
        match left - here as u64 {
            0 => self.go(HEADER),
            left => {
                self.state = State::SkipBody { left };
                Step::Wait
            }
        }
    }

    fn lost(&mut self, src: &mut BytesMut) -> Step {
        let (start, is_header) = header::find_length(src);
        src.advance(start);
        if is_header { self.go(HEADER) } else { Step::Wait }
    }
}

/// The beginning of a header block.
const HEADER: State = State::Header { length: None, read: 0 };

impl Decoder for Frames {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Frame>> {
        Ok(self.next(src, false))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Frame>> {
        Ok(self.next(src, true))
    }
}

fn skip_white_space(src: &mut BytesMut) {
    let blank = src.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    src.advance(blank);
}
