//! Standard output for text that comes in pieces: each is written and flushed at once, by a thread of its own.
//!
//! A reader that is slow must not keep Ctrl-C from working, and a blocked write cannot be interrupted: so the write is
//! elsewhere, and the pieces wait in a short channel. Control characters reach a file or a pipe as they are, but not a
//! terminal, where an answer could move the cursor or set the title.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// That nobody reads standard output any more.
#[derive(Debug)]
pub struct Closed;

/// The sending end. [`settle`](Printer::settle) before it is dropped: the thread is not waited for, since a reader that
/// never reads would hold it for ever.
pub struct Printer {
    pieces: mpsc::Sender<Piece>,
    ends_line: bool,
    failure: Failure,
}

/// Why writing has failed, where it is not that the reader has gone: then somebody wants what is lost.
type Failure = Arc<Mutex<Option<io::Error>>>;

enum Piece {
    Text(String),
    /// Tells when everything before it is written.
    Mark(oneshot::Sender<()>),
}

impl Printer {
    /// Starts the thread.
    pub fn start() -> Printer {
        let (pieces, received) = mpsc::channel(16);
        let failure = Failure::default();
        let told = failure.clone();
        std::thread::spawn(move || {
            let mut received = received;
            let written = write_all(&mut received);
            if let Err(error) = written
                && error.kind() != ErrorKind::BrokenPipe
            {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            // Only now does whoever waits see that it is over.
            drop(received);
        });
        Printer {
            pieces,
            failure,
            ends_line: true,
        }
    }

    /// Waits until a piece can be put. Safe to drop and ask again.
    pub async fn ready(&self) -> Result<(), Closed> {
        self.pieces.reserve().await.map(drop).map_err(|_| Closed)
    }

    /// Hands a piece over, after [`ready`](Printer::ready): nobody else puts any, so there is room. What is put after
    /// the reader has gone is lost.
    pub fn put(&mut self, text: String) {
        if let Some(last) = text.chars().next_back() {
            self.ends_line = last == '\n';
            let _ = self.pieces.try_send(Piece::Text(text));
        }
    }

    /// Waits for room and hands a piece over.
    pub async fn print(&mut self, text: impl Into<String>) -> Result<(), Closed> {
        self.ready().await?;
        self.put(text.into());
        Ok(())
    }

    /// Whether what comes next is the first of its line.
    pub fn is_at_line_start(&self) -> bool {
        self.ends_line
    }

    /// Ends the line, unless it is at its beginning.
    pub async fn end_line(&mut self) -> Result<(), Closed> {
        if self.ends_line { Ok(()) } else { self.print("\n").await }
    }

    /// Notes that somebody else has ended the line on the screen: the user, with the Enter key.
    pub fn line_ended_elsewhere(&mut self) {
        self.ends_line = true;
    }

    /// Why something could not be written, once [`settle`](Printer::settle) has said so; none where nobody reads.
    pub fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until all is written.
    pub async fn settle(&self) -> Result<(), Closed> {
        let (mark, reached) = oneshot::channel();
        self.pieces.send(Piece::Mark(mark)).await.map_err(|_| Closed)?;
        reached.await.map_err(|_| Closed)
    }
}

fn write_all(pieces: &mut mpsc::Receiver<Piece>) -> io::Result<()> {
    let mut out = std::io::stdout();
    let is_terminal = out.is_terminal();
    while let Some(piece) = pieces.blocking_recv() {
        let written = match piece {
            Piece::Text(text) if is_terminal => out.write_all(tame(&text).as_bytes()),
            Piece::Text(text) => out.write_all(text.as_bytes()),
            Piece::Mark(reached) => {
                let _ = reached.send(());
                continue;
            }
        };
        written.and_then(|()| out.flush())?;
    }
    Ok(())
}

/// The text without what a terminal would obey.
fn tame(text: &str) -> Cow<'_, str> {
    let is_wild = |character: char| match character {
        '\n' | '\t' => false,
        // These turn what follows around, so that it reads otherwise than it is.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        character => character.is_control(),
    };
    if text.contains(is_wild) {
        Cow::Owned(text.replace(is_wild, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_escape_codes() {
        assert_eq!(tame("a\tb\n\u{1b}[2J\u{9b}c\r"), "a\tb\n\u{fffd}[2J\u{fffd}c\u{fffd}");
        assert_eq!(tame("a\u{202e}b\u{2066}c\u{200f}"), "a\u{fffd}b\u{fffd}c\u{200f}");
        assert!(matches!(tame("plain é\n"), Cow::Borrowed(_)));
    }
}
