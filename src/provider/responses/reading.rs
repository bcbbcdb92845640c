//! One response as it arrives: over a stream, over further streams that go on where the last one broke, or asked for
//! again and again where the upstream does not let a stream be taken up.
//!
//! Each event counts once, however many connections bring it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Upstream, request};
use crate::error::{Error, Kind};
use crate::protocol::Options;
use crate::provider::Event;
use crate::provider::http::{Answer, Call, EventStream, Failure, Peer};

use super::mapper::Mapper;
use super::wire::Response;

/// How long the end of a stream is waited for once its response has ended: a connection that is read to its end can be
/// used again.
const TAIL_LIMIT: Duration = Duration::from_millis(100);

/// How long a background response is left alone between two questions.
const POLL_PAUSE: Duration = Duration::from_secs(1);

/// How often in a row a response is looked for that cannot be reached: about four minutes in all, in which a laptop
/// that was suspended finds its network.
const TAKE_UP_MAX: u32 = 14;

/// The longest pause between two of them.
const TAKE_UP_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A response under way.
pub struct Reading {
    pub mapper: Mapper,
    source: Source,
    /// What is to be told besides what the mapper tells.
    announced: Vec<Event>,
    /// How often in a row the connection broke without having brought anything.
    broken: u32,
    /// The upstream does not let a stream be taken up, or has given more than its streams have numbers for.
    polls: bool,
    has_shown: bool,
}

enum Source {
    Stream(EventStream),
    /// One JSON text, from a server that does not stream.
    Whole(Option<Answer>),
    /// There is none; it is looked for after a pause.
    Broken(Duration),
}

impl Reading {
    /// The answer to a request for a response.
    pub fn new(upstream: &Upstream, answer: Answer, options: &Options) -> Self {
        let peer = answer.peer().clone();
        let rate_limit = answer.rate_limit();
        let source = if answer.is_json() {
            Source::Whole(Some(answer))
        } else {
            Source::Stream(answer.events())
        };
        let mut reading = Reading::from(upstream, peer, options, source);
        reading.announced.extend(rate_limit.map(Event::RateLimit));
        reading
    }

    /// A response that somebody else has begun, from its beginning.
    pub fn take_up(upstream: &Upstream, peer: Peer, options: &Options, response_id: String) -> Self {
        let mut reading = Reading::from(upstream, peer, options, Source::Broken(Duration::ZERO));
        reading.mapper.expect(response_id);
        reading
    }

    fn from(upstream: &Upstream, peer: Peer, options: &Options, source: Source) -> Self {
        // The first-hand services say themselves that an answer was cut.
        let max_output_tokens =
            request::max_output_tokens(upstream, options).filter(|_| !upstream.kind.is_first_party());
        Reading {
            mapper: Mapper::new(peer, max_output_tokens),
            source,
            announced: Vec::new(),
            broken: 0,
            polls: false,
            has_shown: false,
        }
    }

    /// The events since the last call, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Event> {
        let announced = std::mem::take(&mut self.announced).into_iter();
        let has_shown = &mut self.has_shown;
        let events = self.mapper.drain().inspect(|event| *has_shown |= shows(event));
        announced.chain(events)
    }

    /// One more event of our own.
    pub fn announce(&mut self, event: Event) {
        self.announced.push(event);
    }

    /// Whether anything of the response was shown: then it is never begun anew.
    pub fn has_shown(&self) -> bool {
        self.has_shown
    }

    /// A response that failed before anything was shown, for those who decide whether to ask again.
    pub fn failure(&self, error: Error) -> Failure {
        // A response that goes on upstream, out of reach, must not be begun twice.
        let goes_on = error.kind() == Kind::Network && self.polls_or_resumes();
        let was_silent = matches!(&self.source, Source::Stream(events) if events.was_silent());
        Failure {
            status: error.upstream_status(),
            repeatable: error.data.retryable && !goes_on && !was_silent,
            error,
        }
    }

    fn polls_or_resumes(&self) -> bool {
        self.polls || self.broken > 0
    }

    /// Waits for more, from wherever it comes. An error is the end.
    pub async fn more(&mut self, upstream: &Upstream) -> Result<(), Error> {
        let problem = match &mut self.source {
            Source::Stream(events) => match events.fill().await {
                Ok(true) => {
                    let had = self.mapper.sequence();
                    while let Some(event) = events.next()? {
                        self.mapper.accept(&event.name, &event.data);
                    }
                    if self.mapper.sequence() > had {
                        self.broken = 0;
                    }
                    return Ok(());
                }
                Ok(false) if self.mapper.has_ended() => return Ok(()),
                Ok(false) => self.mapper.cut_off(),
                Err(problem) => problem,
            },
            Source::Whole(answer) => match answer.take() {
                Some(answer) => return self.accept_whole(answer).await,
                None => self.mapper.cut_off(),
            },
            Source::Broken(pause) => {
                sleep(std::mem::take(pause)).await;
                match self.look_for(upstream).await {
                    Ok(()) => return Ok(()),
                    Err(failure) if failure.repeatable || failure.error.kind() == Kind::Network => failure.error,
                    Err(failure) => return Err(failure.error),
                }
            }
        };
        self.break_off(upstream, problem)
    }

    /// The connection is gone: a background response is looked for, any other has failed.
    fn break_off(&mut self, upstream: &Upstream, problem: Error) -> Result<(), Error> {
        let may_go_on = upstream.background && self.mapper.response_id().is_some();
        if !may_go_on || !problem.data.retryable || self.broken >= TAKE_UP_MAX {
            return Err(problem);
        }
        // The first break is most often the connection's alone: nothing is gained by waiting.
        let delay = match self.broken {
            0 => Duration::ZERO,
            n => TAKE_UP_PAUSE_MAX.min(Duration::from_millis(500) * (1 << (n - 1).min(10))),
        };
        self.broken += 1;
        self.announced.push(Event::Retry {
            attempt: self.broken,
            delay,
            error: problem,
        });
        self.source = Source::Broken(delay);
        Ok(())
    }

    /// Takes the response up where it broke.
    async fn look_for(&mut self, upstream: &Upstream) -> Result<(), Failure> {
        let Some(response_id) = self.mapper.response_id() else {
            return Err(self.mapper.cut_off().into());
        };
        let call = Call::get(["responses", response_id]);
        // Without numbers nothing tells which events we have had.
        self.polls |= self.mapper.has_begun() && self.mapper.sequence().is_none();
        if self.polls {
            return self.poll(upstream, call).await;
        }
        let mut streaming = call.clone().with_query("stream", "true");
        if let Some(sequence) = self.mapper.sequence() {
            streaming = streaming.with_query("starting_after", sequence.to_string());
        }
        match upstream.endpoint.send(&streaming).await {
            Ok(answer) if answer.is_json() => {
                self.polls = true;
                self.take_poll(answer).await
            }
            Ok(answer) => {
                self.mapper.resume();
                self.source = Source::Stream(answer.events());
                Ok(())
            }
            // No stream of this response can be had (any more); the response itself may be there.
            Err(failure) if matches!(failure.status, Some(400 | 404 | 405 | 422 | 501)) => {
                self.polls = true;
                self.poll(upstream, call).await
            }
            Err(failure) => Err(failure),
        }
    }

    async fn poll(&mut self, upstream: &Upstream, call: Call) -> Result<(), Failure> {
        let answer = upstream.endpoint.send(&call).await?;
        self.take_poll(answer).await
    }

    async fn take_poll(&mut self, answer: Answer) -> Result<(), Failure> {
        self.accept_whole(answer).await?;
        self.broken = 0;
        self.source = Source::Broken(POLL_PAUSE);
        Ok(())
    }

    /// A whole response, or an error in a whole text.
    async fn accept_whole(&mut self, answer: Answer) -> Result<(), Error> {
        let peer = answer.peer().clone();
        let body: serde_json::Value = answer.json().await?;
        if body["id"].is_string() || body["output"].is_array() {
            let response: Response = serde_json::from_value(body).unwrap_or_default();
            self.mapper.accept_whole(response);
            return Ok(());
        }
        let told = peer.told(None, body.to_string().as_bytes());
        Err(told.unwrap_or_else(|| peer.error(Kind::Upstream, "answered with JSON that is no response")))
    }

    /// Reads the stream to its end. A connection that breaks now has lost nothing.
    pub async fn finish(&mut self) {
        if let Source::Stream(events) = &mut self.source {
            let tail = async { while let Ok(true) = events.fill().await {} };
            let _ = timeout(TAIL_LIMIT, tail).await;
        }
    }

    /// Tells the upstream to stop a background response, as soon as it is known which one it is. Any other stops when
    /// its connection is dropped. The caller sets the limit.
    ///
    /// A response that is given up before its first event would stay `queued` upstream for ever, so that is waited for.
    pub async fn stop(&mut self, upstream: &Upstream) {
        if !upstream.background {
            return;
        }
        while self.mapper.response_id().is_none() && !self.mapper.has_ended() {
            if self.more(upstream).await.is_err() {
                return;
            }
        }
        if let (Some(response_id), false) = (self.mapper.response_id(), self.mapper.has_ended()) {
            let call = Call::post(["responses", response_id, "cancel"]);
            if let Err(failure) = upstream.endpoint.send(&call).await {
                tracing::debug!(error = %failure.error, "the upstream did not cancel the response");
            }
        }
    }
}

/// Whether an event shows something of the answer.
fn shows(event: &Event) -> bool {
    matches!(
        event,
        Event::MessageStarted { .. }
            | Event::Delta { .. }
            | Event::Annotation { .. }
            | Event::Image { .. }
            | Event::Step(_)
            | Event::ToolArguments { .. }
            | Event::Reasoning { .. }
    )
}
