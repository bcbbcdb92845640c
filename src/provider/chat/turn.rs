//! One round: the request, sent until it is taken, then its stream.
//!
//! [`answer`] is the order of things. The upstream keeps nothing, so a cancelled round only drops its connection, and a
//! round of which nothing was shown may be asked for again.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::time::{sleep, timeout};

use super::mapper::Mapper;
use super::{Upstream, request};
use crate::error::Error;
use crate::protocol::RateLimit;
use crate::provider::http::{Answer, Call, EventStream, Failure, Retries};
use crate::provider::truncation::LeftOut;
use crate::provider::{End, Event, Request};

/// How long the figures and the end of a stream are waited for once its answer is over.
const TAIL_LIMIT: Duration = Duration::from_secs(1);

/// How long the end of a stream is waited for that has said it is over.
const LAST_LIMIT: Duration = Duration::from_millis(100);

/// The answer to this request. See the contract of [`crate::provider`].
pub fn answer(upstream: Arc<Upstream>, request: Request) -> impl Stream<Item = Event> + Send {
    stream! {
        let cancel = request.cancel.clone();
        let mut turn = Turn::new(upstream, request);
        let end = 'turn: loop {
            let Some(opened) = cancel.run_until_cancelled(turn.open()).await else {
                break End::Cancelled;
            };
            let failure = match opened {
                Err(failure) => failure,
                Ok(mut reading) => {
                    if let Some(limit) = reading.rate_limit.take() {
                        yield Event::RateLimit(limit);
                    }
                    loop {
                        let end = match cancel.run_until_cancelled(reading.go_on()).await {
                            None => break 'turn End::Cancelled,
                            Some(Some(End::Failed(error))) if !reading.mapper.has_shown() => {
                                break reading.failure(error);
                            }
                            Some(end) => end,
                        };
                        if let Some(event) = turn.left_out.news() {
                            yield event;
                        }
                        for event in reading.mapper.drain() {
                            yield event;
                        }
                        if let Some(end) = end {
                            break 'turn end;
                        }
                    }
                }
            };
            match turn.recover(failure) {
                Ok(None) => {}
                Ok(Some(event)) => yield event,
                Err(error) => break End::Failed(error),
            }
        };
        yield Event::End(end);
    }
}

/// A round before its stream says anything.
struct Turn {
    upstream: Arc<Upstream>,
    request: Request,
    retries: Retries,
    /// What comes before the request is sent again.
    pause: Option<Duration>,
    left_out: LeftOut,
    /// The size of what was sent last, in bytes.
    size: usize,
}

impl Turn {
    fn new(upstream: Arc<Upstream>, request: Request) -> Self {
        Turn {
            retries: Retries::new(request.options.max_retries.unwrap_or(upstream.max_retries)),
            upstream,
            request,
            pause: None,
            left_out: LeftOut::default(),
            size: 0,
        }
    }

    async fn open(&mut self) -> Result<Reading, Failure> {
        if let Some(pause) = self.pause.take() {
            sleep(pause).await;
        }
        let upstream = &self.upstream;
        let model = upstream.endpoint.model(self.request.model.as_deref()).await?;
        let body = request::body(&self.request, &model, self.left_out.messages(), upstream);
        self.size = body.len();
        let call = Call::post(["chat", "completions"]).json(body);
        let answer = upstream.endpoint.ask(&call).await?;
        Ok(self.read(answer))
    }

    fn read(&self, answer: Answer) -> Reading {
        let rate_limit = answer.rate_limit();
        let events = answer.events();
        let calls = self.request.rounds.iter().flat_map(|round| &round.calls);
        Reading {
            mapper: Mapper::new(events.peer().clone(), calls.map(|call| call.id.clone())),
            rate_limit,
            events,
        }
    }

    /// What to do about a failure before anything was shown: try again, and say so where that is news; or the error.
    fn recover(&mut self, failure: Failure) -> Result<Option<Event>, Error> {
        let (conversation, error) = (&self.request.conversation, &failure.error);
        if self.left_out.cut(conversation, error, Some(self.size)) || self.upstream.habits.learn(error) {
            return Ok(None);
        }
        let Some(delay) = self.retries.again(&failure) else {
            return Err(failure.error);
        };
        self.pause = Some(delay);
        Ok(Some(self.retries.event(&failure, delay)))
    }
}

/// A round whose stream is read.
struct Reading {
    events: EventStream,
    mapper: Mapper,
    rate_limit: Option<RateLimit>,
}

impl Reading {
    /// Waits for more events, or says how it ended.
    async fn go_on(&mut self) -> Option<End> {
        if self.mapper.is_done() {
            // A connection that is read to its end can be used again; one that breaks now has lost nothing.
            let _ = timeout(LAST_LIMIT, self.events.fill()).await;
            return Some(self.mapper.finish());
        }
        let filled = match self.mapper.has_ended() {
            true => timeout(TAIL_LIMIT, self.events.fill()).await.unwrap_or(Ok(false)),
            false => self.events.fill().await,
        };
        match filled.and_then(|more| self.take().map(|()| more)) {
            Ok(true) => None,
            Err(error) if !self.mapper.has_ended() => {
                self.mapper.close();
                Some(End::Failed(error))
            }
            Ok(false) | Err(_) => Some(self.mapper.finish()),
        }
    }

    /// Takes in all events that are whole.
    fn take(&mut self) -> Result<(), Error> {
        while let Some(event) = self.events.next()? {
            self.mapper.accept(&event.name, &event.data);
        }
        Ok(())
    }

    /// The failure of a stream that has shown nothing: the upstream keeps nothing, so it may be asked again, but not
    /// where that would mean to wait in silence once more.
    fn failure(&self, error: Error) -> Failure {
        Failure {
            repeatable: error.data.retryable && !self.events.was_silent(),
            status: None,
            error,
        }
    }
}
