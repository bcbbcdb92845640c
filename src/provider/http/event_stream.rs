//! The body of an answer, read as server-sent events.
//!
//! Notices a silent upstream, a connection that breaks, and what comes where events were promised: an error as JSON, a
//! web page, compressed bytes.

use std::pin::Pin;
use std::time::Duration;

use reqwest::header::CONTENT_ENCODING;
use tokio::time::{Instant, Sleep};

use super::Peer;
use crate::error::{Error, Kind};
use crate::provider::sse::{Parser, SseEvent};

/// The largest single event. Whoever sends more without an end means no good.
const EVENT_MAX: usize = 64 * 1024 * 1024;

/// The longest JSON text that is read where events were promised.
const JSON_MAX: usize = 64 * 1024;

/// Server-sent events as they come: [`EventStream::fill`] waits for bytes, [`EventStream::next`] gives what is whole.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    parser: Parser,
    peer: Peer,
    idle: Duration,
    /// Set anew at each wait, so that the time in which nobody asked for bytes does not count.
    silence: Pin<Box<Sleep>>,
    /// Whether a byte that is not white space has come, and the body is no JSON text.
    begun: bool,
    /// Whether it ended because nothing came for too long.
    was_silent: bool,
}

impl EventStream {
    pub(super) fn new(response: reqwest::Response, peer: Peer, idle: Duration) -> Self {
        EventStream {
            response,
            parser: Parser::default(),
            peer,
            idle,
            silence: Box::pin(tokio::time::sleep(idle)),
            begun: false,
            was_silent: false,
        }
    }

    /// Waits for more bytes; false at the end of the body. May be dropped while it waits: no byte is lost.
    pub async fn fill(&mut self) -> Result<bool, Error> {
        let Some(chunk) = self.chunk().await? else {
            return Ok(false);
        };
        if !self.begun {
            self.check_encoding()?;
            match chunk.iter().find(|byte| !byte.is_ascii_whitespace()) {
                // No field of an event is named so: this is an error, or an upstream that does not stream.
                Some(b'{') => return Err(self.json_instead(&chunk).await),
                Some(b'<') => return Err(self.peer.web_page()),
                found => self.begun = found.is_some(),
            }
        }
        self.parser.push(&chunk);
        Ok(true)
    }

    /// The next whole event of the bytes so far. Ask until there is none before the next [`EventStream::fill`].
    #[allow(
        clippy::should_implement_trait,
        reason = "an event borrows the stream, which no iterator's item may"
    )]
    pub fn next(&mut self) -> Result<Option<SseEvent<'_>>, Error> {
        if self.parser.pending() > EVENT_MAX {
            return Err(self
                .peer
                .error(Kind::Upstream, "sent an event of more than 64 MiB")
                .retryable(false));
        }
        Ok(self.parser.next())
    }

    /// Whose stream this is, for errors that are told in its events.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether it ended because nothing came for too long: asked again, it would be waited for in silence once more.
    pub fn was_silent(&self) -> bool {
        self.was_silent
    }

    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        self.silence.as_mut().reset(Instant::now() + self.idle);
        tokio::select! {
            biased;
            chunk = self.response.chunk() => chunk.map_err(|error| self.peer.broken(error)),
            () = &mut self.silence => {
                self.was_silent = true;
                Err(self.peer.silent(self.idle))
            }
        }
    }

    /// No `Accept-Encoding` is sent, so nothing may come compressed; read as text it would be an answer without events.
    fn check_encoding(&self) -> Result<(), Error> {
        let encoding = self.response.headers().get(CONTENT_ENCODING);
        let encoding = encoding.and_then(|encoding| encoding.to_str().ok()).unwrap_or_default();
        let known = ["gzip", "x-gzip", "deflate", "br", "zstd"];
        match known.iter().find(|known| known.eq_ignore_ascii_case(encoding.trim())) {
            Some(known) => {
                let did = format!("compressed its answer (`{known}`), which it was not asked to do");
                Err(self.peer.error(Kind::Upstream, &did).retryable(false))
            }
            None => Ok(()),
        }
    }

    async fn json_instead(&mut self, first: &[u8]) -> Error {
        let mut body = first.to_vec();
        while body.len() < JSON_MAX {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return error,
            }
        }
        self.peer
            .told(Some(self.response.status().as_u16()), &body)
            .unwrap_or_else(|| {
                let did = "answered with JSON where a stream of events was asked for";
                self.peer.error(Kind::Upstream, did).retryable(false)
            })
    }
}
