//! The narrow waist: a request for an answer goes in, a stream of run events in our own words comes out.
//!
//! A provider knows HTTP (or a model) and its dialect; it knows nothing of JSON-RPC, of the client or of the store.
//!
//! The contract of [`Provider::answer`]:
//! - The stream gives events in order and ends with exactly one [`Event::End`]. A stream that stops without one has
//!   failed.
//! - When [`Request::cancel`] fires, the stream gives no more text; it tells its upstream to stop, waits for that
//!   within [`CANCEL_DEADLINE`], gives `End(End::Cancelled)` and stops. The run has gone on by then: somebody else
//!   polls the rest. Dropping the stream closes the connection and does nothing more.
//! - Nothing is spawned that outlives the stream, but for one worker thread that a model may have, which ends with its
//!   provider. Connections belong to the shared HTTP client, which keeps some open for the next request.
//! - Retries happen inside, before the first [`Event`] that shows anything, each announced by [`Event::Retry`].

pub mod assistants;
pub mod responses;
pub mod chat;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod scripted;
mod cancel;
pub mod check;
pub mod http;
pub mod local;
pub mod credentials;
mod json;
mod openai;
pub mod sse;
mod surrogates;
mod truncation;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::protocol::{
    Annotation, AssistantEntry, CheckStage, Image, Options, Part, PartKind, RateLimit, RunStep, StageName, StopReason,
    Tool, Usage,
};
use crate::thread::Conversation;
pub use crate::thread::{Round, ToolCall};
use check::{Checkup, Finding, Offer, Wanted};
use http::Endpoint;

/// How long a cancelled stream may take to tell its upstream.
pub const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

/// An upstream set-up: one dialect at one base URL with one set of credentials.
///
/// In the order of a run, from before it exists to after its process has died; then what is asked of an upstream beside
/// runs. A dialect has to write the first and [`Provider::answer`]; the others say what it cannot do otherwise. Every
/// future may be dropped, which ends what it does.
pub trait Provider: Send + Sync {
    /// Resolves what a run needs before it may exist: credentials, a script, a model file. Called before every run,
    /// so what was found is kept. An error here means that nothing is stored.
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Whether the dialect and the model can take what is asked. An error is a sentence that says what they cannot;
    /// nothing has been stored or sent by then. What is wrong with the settings is for [`Provider::prepare`] to say.
    fn takes(&self, _asked: &Asked<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The answer to this request. See the module's contract.
    fn answer(&self, request: Request) -> BoxStream<'static, Event>;

    /// Whether an answer goes on upstream though nobody listens, so that [`Provider::resume`] can take it up. Such a run
    /// is not cancelled when the client is gone: it is left to the next daemon.
    fn keeps_running(&self) -> bool {
        false
    }

    /// Takes up a round that was begun by a process that is dead, which [`Request::anchor`] tells of: the round's
    /// events from their beginning, so that whoever has some of them skips those, under the contract of
    /// [`Provider::answer`]. None where the dialect cannot, or the anchor tells of no round under way.
    fn resume(&self, _request: Request) -> Option<BoxStream<'static, Event>> {
        None
    }

    /// The models that the upstream offers, by name; empty where it lists none.
    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The assistants that the upstream itself lists; empty where the dialect has none.
    fn assistants(&self) -> BoxFuture<'_, Result<Vec<AssistantEntry>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The way to the upstream, which may be prepared before anybody asks; none where there is no network between, or
    /// the settings lead nowhere.
    fn endpoint(&self) -> Option<&Endpoint> {
        None
    }

    /// What the upstream has, asked in the cheapest way that it refuses to bad credentials: the last stage of
    /// [`Provider::check`] over a network.
    fn offer(&self) -> BoxFuture<'_, Result<Offer, Error>> {
        Box::pin(async { http::check::offer(self.models().await) })
    }

    /// Goes the way to the upstream, stage by stage, and says what it found.
    fn check<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Vec<CheckStage>> {
        Box::pin(async move {
            if let Some(endpoint) = self.endpoint() {
                return http::check::check(endpoint, self.offer(), wanted).await;
            }
            let mut checkup = Checkup::begin();
            let ready = async {
                self.prepare().await?;
                Ok(Finding::new("the provider is ready"))
            };
            // Whether it failed is in the report.
            let _ = checkup.stage(StageName::Settings, ready).await;
            checkup.end(&[StageName::Settings])
        })
    }
}

/// The answer of a provider whose settings are wrong.
fn failed(error: Error) -> BoxStream<'static, Event> {
    Box::pin(futures::stream::iter([Event::End(End::Failed(error))]))
}

/// What somebody wants answered, before there is a run.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the user says, paths read by now; empty where only outputs are sent.
    pub content: &'a [Part],
    /// Whether it brings the outputs of calls that an earlier run left open.
    pub has_outputs: bool,
    /// The model, if one is named.
    pub model: Option<&'a str>,
    /// The tools that the model may call.
    pub tools: &'a [Tool],
    /// Sampling, limits and the form of the answer.
    pub options: &'a Options,
}

/// What to answer, and how. One request is one round: after tool calls the run asks again with `rounds` longer by one.
///
/// Where a client sends the outputs of calls that an earlier run left open, and no message, the request looks like the
/// next round of that run: the conversation ends with the question that it answered, and `rounds` are its rounds (its
/// anchor tells whether the upstream still waits). With a message it is a new turn: the calls and outputs stand in the
/// conversation, in [`crate::thread::Message::round`], and the message stands behind them.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model's name at the upstream; the dialect's default where absent.
    pub model: Option<String>,
    /// The instructions, in full; nothing is added to them.
    pub instructions: Option<String>,
    /// The history and the new message.
    pub conversation: Arc<Conversation>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// Sampling and limits.
    pub options: Options,
    /// What this provider left on the thread with [`Event::Anchor`], in this run or an earlier one.
    pub anchor: Option<Value>,
    /// The rounds of this run so far, each ended by tool calls that have been answered; before them those of the runs
    /// that it goes on from, of whose last calls some may have no output (see [`Round::output`]).
    pub rounds: Vec<Round>,
    /// Fires when the run is cancelled.
    pub cancel: CancellationToken,
}

/// What happens in a run, in our own words.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The upstream's own word for how far it is, in camelCase: `queued`, `inProgress`, `requiresAction`.
    Status(String),
    /// What this provider wants back with the next request of the same thread (the upstream's thread and run, how much
    /// it has been told). Stored with the thread; the newest one counts.
    Anchor(Value),
    /// What this provider wants back with this round, word for word, whenever the round goes upstream again: reasoning
    /// that only the upstream can read. The newest one of a round counts.
    Carry(Value),
    /// A message begins; text that follows belongs to it. `upstream_id` is the upstream's name for it.
    MessageStarted {
        /// The upstream's id, if it has one.
        upstream_id: Option<String>,
    },
    /// A piece of text. `index` counts the parts of the message. Neighbouring pieces of one part may be joined.
    /// Without a `MessageStarted` before it, it starts a message.
    Delta {
        /// Which content part of the message.
        index: u32,
        /// Text or refusal.
        part: PartKind,
        /// The piece.
        text: String,
    },
    /// An annotation of a text part; offsets count code points.
    Annotation {
        /// Which content part of the message.
        index: u32,
        /// The annotation.
        annotation: Annotation,
    },
    /// An image in the message; it comes whole.
    Image {
        /// Which content part of the message.
        index: u32,
        /// The image.
        image: Image,
    },
    /// The message is over. What it holds is what the events before it said.
    MessageDone,
    /// A run step began, changed or ended: the whole step, as known by now.
    Step(RunStep),
    /// A piece of a tool call's arguments or code, as it is written.
    ToolArguments {
        /// The step's id.
        step_id: String,
        /// The call's id.
        call_id: String,
        /// The tool's name, where known.
        name: Option<String>,
        /// The piece.
        text: String,
    },
    /// A piece of the model's reasoning; never part of the answer's text.
    Reasoning {
        /// The piece.
        text: String,
        /// Whether it is a summary made for people.
        summary: bool,
    },
    /// Tokens used; the newest one counts, and counts for the round.
    Usage(Usage),
    /// The request failed in a way that may pass; it is sent again after the delay.
    Retry {
        /// 1 for the first repetition.
        attempt: u32,
        /// How long it waits first.
        delay: Duration,
        /// Why.
        error: Error,
    },
    /// What the upstream says of its limits.
    RateLimit(RateLimit),
    /// The history did not fit; this many of the oldest messages were left out.
    Truncated {
        /// How many messages.
        messages: u32,
    },
    /// Something that this build has no word for, passed on as it came.
    Upstream {
        /// The upstream's name for it.
        name: String,
        /// What it said.
        data: Value,
    },
    /// The round is over. The last event of the stream.
    End(End),
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The answer is whole: `endTurn` or `refusal`.
    Completed(StopReason),
    /// The answer was cut: `maxTokens`, `contextFull`, `contentFilter`, `expired`.
    Incomplete(StopReason),
    /// The model wants these called and their outputs sent with the next round.
    ToolCalls(Vec<ToolCall>),
    /// The cancel token fired, or the upstream says that somebody cancelled it.
    Cancelled,
    /// It failed.
    Failed(Error),
}
