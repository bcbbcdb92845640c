//! One round: the request, sent until it is taken, then what comes of it.
//!
//! [`answer`] is the order of things. A round of which nothing was shown may be asked for again; one of which anything
//! was shown never is: where it runs in the background it is taken up, else it has failed.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::time::{sleep, timeout_at};

use super::Upstream;
use super::anchor::{Anchor, Opening, Previous};
use super::files::Files;
use super::reading::Reading;
use super::request::{self, Asking};
use crate::config::History;
use crate::error::{Error, Kind};
use crate::provider::cancel::Cancel;
use crate::provider::http::{Call, Failure, Peer, Retries};
use crate::provider::truncation::LeftOut;
use crate::provider::{End, Event, Request};

/// The answer to this request; `under_way` is a response that is to be taken up from its beginning instead of asking
/// for one. See the contract of [`crate::provider`].
pub fn answer(
    upstream: Arc<Upstream>,
    request: Request,
    under_way: Option<String>,
) -> impl Stream<Item = Event> + Send {
    stream! {
        let cancel = Cancel::new(request.cancel.clone());
        let mut turn = Turn::new(upstream, request, under_way);
        let end = 'turn: loop {
            let mut reading = match turn.open(&cancel).await {
                Opened::Reading(reading) => reading,
                Opened::Again(event) => {
                    if let Some(event) = event {
                        yield event;
                    }
                    continue;
                }
                Opened::End(end) => break end,
            };
            if let Some(event) = turn.left_out.news() {
                yield event;
            }
            loop {
                let end = turn.go_on(&mut reading, &cancel).await;
                for event in reading.drain() {
                    // What is kept of a thread is not forgotten, though nobody wants to see more of the answer.
                    if !cancel.has_fired() || matches!(event, Event::Anchor(_)) {
                        yield event;
                    }
                }
                match end {
                    None => {}
                    Some(End::Failed(error)) if !reading.has_shown() && !cancel.has_fired() => {
                        match turn.recover(reading.failure(error)) {
                            Opened::Again(event) => {
                                if let Some(event) = event {
                                    yield event;
                                }
                                continue 'turn;
                            }
                            Opened::End(end) => break 'turn end,
                            Opened::Reading(_) => unreachable!("a failure opens nothing"),
                        }
                    }
                    Some(end) => break 'turn end,
                }
            }
        };
        yield Event::End(end);
    }
}

/// A round, from before its request is sent.
pub struct Turn {
    pub upstream: Arc<Upstream>,
    request: Request,
    /// As it is kept with the thread by now.
    anchor: Anchor,
    opening: Opening,
    under_way: Option<String>,
    /// Somebody else has begun the response and shown some of it: it is never begun anew.
    is_taken_up: bool,
    files: Files,
    retries: Retries,
    /// What comes before the request is sent again.
    pause: Duration,
    left_out: LeftOut,
    /// The size of what was sent last, in bytes.
    size: usize,
    /// What only the upstream can read goes along, until it says that it cannot.
    with_carried: bool,
    /// Files that are gone upstream are sent again once.
    has_forgotten: bool,
}

/// What came of an attempt.
enum Opened {
    Reading(Box<Reading>),
    /// The next attempt may be made; the event says why where that is news.
    Again(Option<Event>),
    End(End),
}

impl Turn {
    fn new(upstream: Arc<Upstream>, request: Request, under_way: Option<String>) -> Self {
        let messages = &request.conversation.messages;
        let mut anchor = Anchor::read(request.anchor.as_ref());
        // What an earlier run has lost is none of this one's, whoever takes this one up.
        anchor.under_way.clone_from(&under_way);
        if upstream.history == History::Local {
            anchor.previous = None;
        }
        let mut files = Files {
            taking: upstream.kind.taking(),
            uploaded: anchor.files.clone(),
        };
        files.retain(messages);
        Turn {
            opening: anchor.opening(messages, &request.rounds),
            retries: Retries::new(request.options.max_retries.unwrap_or(upstream.max_retries)),
            anchor,
            is_taken_up: under_way.is_some(),
            under_way,
            files,
            pause: Duration::ZERO,
            left_out: LeftOut::default(),
            size: 0,
            with_carried: true,
            has_forgotten: false,
            upstream,
            request,
        }
    }

    async fn open(&mut self, cancel: &Cancel) -> Opened {
        let upstream = self.upstream.clone();
        // Also where it is cancelled by now: it goes on upstream, which has to be told.
        if let Some(response_id) = self.under_way.take() {
            return match cancel.bound(upstream.endpoint.credentials.get()).await {
                Some(Ok(secret)) => {
                    let peer = Peer::new(&upstream.endpoint.provider, secret);
                    Opened::Reading(Box::new(Reading::take_up(
                        &upstream,
                        peer,
                        &self.request.options,
                        response_id,
                    )))
                }
                Some(Err(error)) => Opened::End(End::Failed(error)),
                None => Opened::End(End::Cancelled),
            };
        }
        let pause = std::mem::take(&mut self.pause);
        if cancel.has_fired() || cancel.before(sleep(pause)).await.is_none() {
            return Opened::End(End::Cancelled);
        }
        match cancel.before(self.upload()).await {
            None => return Opened::End(End::Cancelled),
            Some(Ok(None)) => {}
            Some(Ok(event @ Some(_))) => return Opened::Again(event),
            Some(Err(failure)) => return self.recover(failure),
        }
        let model = upstream.endpoint.model(self.request.model.as_deref());
        let model = match cancel.before(model).await {
            None => return Opened::End(End::Cancelled),
            Some(Ok(model)) => model,
            Some(Err(failure)) => return self.recover(failure),
        };
        let body = self.body(&model);
        self.size = body.len();
        let call = Call::post(["responses"]).json(body);
        let endpoint = &upstream.endpoint;
        let answer = if upstream.background {
            // A request under way is not given up at once: it may have begun a response that must be told to stop.
            cancel.bound(endpoint.send(&call)).await
        } else if upstream.keeps() {
            cancel.before(endpoint.send(&call)).await
        } else {
            cancel.before(endpoint.ask(&call)).await
        };
        match answer {
            None => Opened::End(End::Cancelled),
            Some(Ok(answer)) => Opened::Reading(Box::new(Reading::new(&upstream, answer, &self.request.options))),
            Some(Err(failure)) => self.recover(failure),
        }
    }

    fn body(&self, model: &str) -> bytes::Bytes {
        request::body(&Asking {
            upstream: &self.upstream,
            request: &self.request,
            model,
            opening: &self.opening,
            files: &self.files,
            left_out: self.left_out.messages(),
            with_carried: self.with_carried,
        })
    }

    /// Uploads one file, if any is missing, and gives what is to be kept of that.
    async fn upload(&mut self) -> Result<Option<Event>, Failure> {
        let messages = &self.request.conversation.messages[self.left_out.messages()..];
        let Some(upload) = self.files.missing(messages) else {
            return Ok(None);
        };
        let file_id = self.upstream.upload(&upload).await?;
        self.files.uploaded.insert(upload.key, file_id);
        self.anchor.files = self.files.uploaded.clone();
        Ok(Some(Event::Anchor(self.anchor.to_value())))
    }

    /// What to do about a request that failed, or a response of which nothing was shown.
    fn recover(&mut self, failure: Failure) -> Opened {
        if self.is_taken_up {
            return Opened::End(End::Failed(failure.error));
        }
        if self.opening != Opening::Whole && lost_previous(&failure) {
            tracing::info!("the upstream does not have the response before this one; it gets the whole history");
            self.opening = Opening::Whole;
            return Opened::Again(Some(Retries::at_once(&failure.error)));
        }
        if self.with_carried && failure.status == Some(400) && speaks_of_reasoning(&failure.error) {
            tracing::info!("the upstream does not take its own reasoning back; it gets the text");
            self.with_carried = false;
            return Opened::Again(Some(Retries::at_once(&failure.error)));
        }
        if self.forget_file(&failure) {
            return Opened::Again(Some(Retries::at_once(&failure.error)));
        }
        let size = (self.opening == Opening::Whole).then_some(self.size);
        if self.left_out.cut(&self.request.conversation, &failure.error, size) {
            // The upstream's own history cannot be shortened: a new one begins.
            self.opening = Opening::Whole;
            return Opened::Again(None);
        }
        let Some(delay) = self.retries.again(&failure) else {
            return Opened::End(End::Failed(failure.error));
        };
        self.pause = delay;
        Opened::Again(Some(self.retries.event(&failure, delay)))
    }

    /// Whether this is about a file that went up and is gone, which then goes up again.
    fn forget_file(&mut self, failure: &Failure) -> bool {
        if self.has_forgotten || !matches!(failure.status, Some(400 | 404)) {
            return false;
        }
        let message = failure.error.upstream_message();
        let before = self.files.uploaded.len();
        self.files
            .uploaded
            .retain(|_, file_id| !message.contains(file_id.as_str()));
        self.has_forgotten = self.files.uploaded.len() < before;
        self.has_forgotten
    }

    /// Waits for more of the response, or says how it ended.
    async fn go_on(&mut self, reading: &mut Reading, cancel: &Cancel) -> Option<End> {
        let end = match cancel.before(reading.more(&self.upstream)).await {
            Some(Ok(())) if reading.mapper.has_ended() => {
                reading.finish().await;
                reading.mapper.take_end()
            }
            Some(Ok(())) => {
                self.keep_under_way(reading);
                return None;
            }
            Some(Err(error)) => {
                let _ = reading.mapper.take_end();
                End::Failed(error)
            }
            None => {
                let _ = timeout_at(cancel.deadline(), reading.stop(&self.upstream)).await;
                End::Cancelled
            }
        };
        self.keep_end(reading, &end);
        Some(end)
    }

    /// A response that goes on without us is kept as soon as its id is known.
    fn keep_under_way(&mut self, reading: &mut Reading) {
        if self.upstream.background && self.anchor.under_way.as_deref() != reading.mapper.response_id() {
            self.anchor.under_way = reading.mapper.response_id().map(str::to_owned);
            reading.announce(Event::Anchor(self.anchor.to_value()));
        }
    }

    /// What the next turn begins with.
    fn keep_end(&mut self, reading: &mut Reading, end: &End) {
        let before = self.anchor.clone();
        // A response that could not be followed to its end may be taken up later.
        let is_lost = matches!(end, End::Failed(error) if error.kind() == Kind::Network) && self.upstream.background;
        self.anchor.under_way = reading.mapper.response_id().filter(|_| is_lost).map(str::to_owned);
        let newest = self.request.conversation.messages.last();
        let is_whole = matches!(end, End::Completed(_) | End::Incomplete(_) | End::ToolCalls(_));
        if let (History::Upstream, true, Some(id), Some(newest)) =
            (self.upstream.history, is_whole, reading.mapper.response_id(), newest)
        {
            self.anchor.previous = Some(Previous {
                id: id.to_owned(),
                synced: newest.id.clone(),
                rounds: self.request.rounds.len(),
                waits: matches!(end, End::ToolCalls(_)),
            });
        }
        self.anchor.files = self.files.uploaded.clone();
        if self.anchor != before {
            reading.announce(Event::Anchor(self.anchor.to_value()));
        }
    }
}

/// Whether the upstream cannot go on from the response before this one: it is gone, or the server keeps none.
fn lost_previous(failure: &Failure) -> bool {
    let error = &failure.error;
    matches!(failure.status, Some(404))
        || error.upstream_code() == "previous_response_not_found"
        || matches!(failure.status, Some(400 | 422 | 501))
            && error
                .upstream_message()
                .to_ascii_lowercase()
                .contains("previous_response")
}

/// Whether the upstream refuses what it gave us for itself: keys change, and models read only their own.
fn speaks_of_reasoning(error: &Error) -> bool {
    let message = error.upstream_message().to_ascii_lowercase();
    error.upstream_code() == "invalid_encrypted_content"
        || [
            "encrypted content",
            "encrypted_content",
            "'reasoning'",
            "reasoning item",
            "item with id",
        ]
        .iter()
        .any(|words| message.contains(words))
}
