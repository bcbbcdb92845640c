//! The `embedded` dialect: a real model inside the process, so that a machine with no key and no server answers.
//!
//! Takes GGUF files of the architecture `llama`; the default is SmolLM2-135M-Instruct, fetched once. It knows text only
//! and calls no tools: tools are passed over, and an event says so. Nothing is added to the instructions; without any,
//! the system message is empty, since the template would put in one of its own.
//!
//! All conversations of a provider share one thread and take turns on it; the thread starts with the first answer and
//! ends when the provider and its streams are gone. A stream only hands over what that thread says.

mod llama;
mod memory;
mod model;
mod prompt;
mod sampler;
mod template;
mod utf8;
mod vocabulary;
mod warm;
pub mod weights;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use async_stream::stream;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::json;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;

use self::llama::Llama;
use self::worker::{Job, Worker};
use super::check::{Checkup, Fault, Finding, Wanted};
use super::{Asked, CANCEL_DEADLINE, End, Event, Provider, Request};
use crate::config::ProviderSettings;
use crate::error::{Error, Kind};
use crate::protocol::{CheckDetails, CheckStage, File, Format, Options, Part, StageName};

/// How long a model that has nothing to do stays in memory.
const IDLE: Duration = Duration::from_secs(300);

/// How many events may wait for a slow reader before the model waits too.
const EVENTS: usize = 64;

/// Makes the model's threads spin only briefly while they wait for each other, unless the environment says how long.
/// On an idle machine nothing changes; where the cores have other work too, answers come five times as fast (measured
/// with six jobs to a core). Candle reads this from the environment only.
///
/// # Safety
///
/// It changes the environment, so no other thread may run yet: to be called at the beginning of `main`.
pub unsafe fn spin_briefly() {
    const LIMIT: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";
    if std::env::var_os(LIMIT).is_none() {
        // SAFETY: the caller has only this thread.
        unsafe { std::env::set_var(LIMIT, "1000") };
    }
}

/// A model inside the process.
pub struct Embedded {
    name: String,
    model: Option<String>,
    cache_dir: PathBuf,
    may_fetch: bool,
    hub_url: Option<String>,
    idle: Duration,
    is_prepared: OnceCell<()>,
    worker: OnceLock<Worker>,
}

impl Embedded {
    /// The provider of this name. Cheap: reads no file and starts no thread. `may_fetch` lets [`Provider::prepare`]
    /// fetch the default model's weights into `cache_dir` if they are not there.
    pub fn new(name: &str, settings: &ProviderSettings, cache_dir: PathBuf, may_fetch: bool) -> Embedded {
        Embedded {
            name: name.to_owned(),
            model: settings.model.clone(),
            cache_dir,
            may_fetch,
            hub_url: None,
            idle: IDLE,
            is_prepared: OnceCell::new(),
            worker: OnceLock::new(),
        }
    }

    /// The same provider, unloading its model when it had nothing to do for this long; 5 minutes where not called.
    pub fn unloading_after(mut self, idle: Duration) -> Embedded {
        self.idle = idle;
        self
    }

    /// The same provider, fetching the default model's weights from this URL rather than [`weights::HUB_URL`].
    pub fn fetching_from(mut self, url: Option<String>) -> Embedded {
        self.hub_url = url;
        self
    }

    /// Whether a model is in memory, now and later; closed when the thread has ended. None before the first answer.
    pub fn loaded(&self) -> Option<watch::Receiver<bool>> {
        self.worker.get().map(Worker::loaded)
    }

    /// The file that this model's name means: a path, or the default model by name.
    fn file(&self, model: Option<&str>) -> Result<PathBuf, Error> {
        match model.or(self.model.as_deref()) {
            None => Ok(weights::path(&self.cache_dir)),
            Some(name) if name.eq_ignore_ascii_case(weights::MODEL_NAME) => Ok(weights::path(&self.cache_dir)),
            Some(path) if path.contains(['/', std::path::MAIN_SEPARATOR]) || path.ends_with(".gguf") => Ok(path.into()),
            Some(name) => Err(Error::not_found("model", name).with_hint(format!(
                "the embedded model, which answers where no provider is set up, is `{}` or any GGUF file by its path",
                weights::MODEL_NAME
            ))),
        }
    }

    fn worker(&self) -> Result<Worker, Error> {
        if let Some(worker) = self.worker.get() {
            return Ok(worker.clone());
        }
        let started = Worker::start(Llama::default(), self.idle)
            .map_err(|cause| Error::new(Kind::Internal, format!("failed to start the model's thread: {cause}")))?;
        // If another was first, this one ends at once: it is held by nobody.
        Ok(self.worker.get_or_init(|| started).clone())
    }

    /// The file's stages: that it is there, and that it can be computed.
    async fn look_at(&self, checkup: &mut Checkup, model: Option<&str>) -> Option<()> {
        let named = async {
            let file = self.file(model)?;
            let message = format!("the model is the file `{}`", file.display());
            Ok(Finding::new(message).with(file))
        };
        let file = checkup.stage(StageName::Settings, named).await?;
        checkup.stage(StageName::Weights, async { self.weigh(&file) }).await?;
        let opened = async {
            let file = file.clone();
            let opened = tokio::task::spawn_blocking(move || model::open(&file).map(drop)).await;
            opened.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "looking into the model's file panicked")))?;
            Ok(Finding::new("its architecture is `llama`, which this dialect computes"))
        };
        checkup.stage(StageName::Architecture, opened).await
    }

    fn weigh(&self, file: &Path) -> Result<Finding, Fault> {
        let bytes = match std::fs::metadata(file) {
            Ok(found) => found.len(),
            Err(_) if file == weights::path(&self.cache_dir) => return Err(weights::missing(&self.cache_dir).into()),
            Err(_) => return Err(Error::not_found("model file", &file.display().to_string()).into()),
        };
        let details = CheckDetails {
            file: Some(file.display().to_string()),
            bytes: Some(bytes),
            ..CheckDetails::default()
        };
        let megabytes = bytes / 1_000_000;
        Ok(Finding::new(format!("the weights are there, {megabytes} MB")).seeing(details))
    }

    async fn find_model(&self) -> Result<(), Error> {
        let file = self.file(None)?;
        let cache_dir = self.cache_dir.clone();
        let hub_url = self.hub_url.clone().filter(|_| self.may_fetch);
        let may_fetch = self.may_fetch;
        let found = tokio::task::spawn_blocking(move || {
            if file != weights::path(&cache_dir) {
                return model::open(&file).map(drop);
            }
            if may_fetch {
                return weights::fetch(&cache_dir, hub_url.as_deref(), &mut |_| {}).map(drop);
            }
            if file.is_file() {
                Ok(())
            } else {
                Err(weights::missing(&cache_dir))
            }
        });
        let found = found.await.unwrap_or_else(|_| {
            let message = "looking for the model's file panicked";
            Err(Error::new(Kind::Internal, message))
        });
        found.map_err(|error| error.with_provider(&self.name))
    }
}

impl Provider for Embedded {
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.is_prepared.get_or_try_init(|| self.find_model()).await.copied() })
    }

    fn takes(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let taken = only_text(asked.content).and_then(|()| any_form(asked.options));
        taken.map_err(|error| error.with_provider(&self.name))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        let name = self.model.as_deref().unwrap_or(weights::MODEL_NAME);
        let is_there = self.file(None).map(|file| file.is_file());
        let listed = match is_there {
            Ok(is_there) if is_there || self.may_fetch => Ok(vec![name.to_owned()]),
            Ok(_) if self.model.is_none() => Err(weights::missing(&self.cache_dir)),
            Ok(_) => Err(Error::not_found("model file", name)),
            Err(error) => Err(error),
        };
        let listed = listed.map_err(|error| error.with_provider(&self.name));
        Box::pin(std::future::ready(listed))
    }

    /// Fetches nothing.
    fn check<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Vec<CheckStage>> {
        Box::pin(async move {
            let mut checkup = Checkup::begin();
            // None is the first stage that failed, which the report has.
            let _ = self.look_at(&mut checkup, wanted.model).await;
            checkup.end(&[StageName::Settings, StageName::Weights, StageName::Architecture])
        })
    }

    fn answer(&self, request: Request) -> BoxStream<'static, Event> {
        let name = self.name.clone();
        let newest = request.conversation.messages.last();
        let readable = newest.map_or(Ok(()), |message| only_text(&message.content));
        let file = readable.and_then(|()| self.file(request.model.as_deref()));
        let start = file.and_then(|file| Ok((file, self.worker()?)));
        stream! {
            let (model, worker) = match start {
                Ok(start) => start,
                Err(error) => {
                    yield Event::End(End::Failed(error.with_provider(name)));
                    return;
                }
            };
            let cancel = request.cancel.clone();
            let turn = match worker.turns().clone().try_acquire_owned() {
                Ok(turn) => Some(turn),
                Err(_) => {
                    yield Event::Status("queued".to_owned());
                    wait_for_turn(&worker, &request).await
                }
            };
            let Some(turn) = turn else {
                yield Event::End(End::Cancelled);
                return;
            };
            yield Event::Status("inProgress".to_owned());
            for event in ignored(&request) {
                yield event;
            }
            let (events, mut incoming) = mpsc::channel(EVENTS);
            if let Err(error) = worker.send(Job { model, request, events, turn }) {
                yield Event::End(End::Failed(error.with_provider(name)));
                return;
            }
            loop {
                let event = tokio::select! {
                    biased;
                    () = cancel.cancelled() => break,
                    event = incoming.recv() => event,
                };
                match event {
                    Some(Event::End(End::Failed(error))) => {
                        yield Event::End(End::Failed(error.with_provider(name)));
                        return;
                    }
                    Some(Event::End(end)) => {
                        yield Event::End(end);
                        return;
                    }
                    Some(event) => yield event,
                    None => {
                        let error = Error::new(Kind::Internal, "the model's thread ended");
                        yield Event::End(End::Failed(error.with_provider(name)));
                        return;
                    }
                }
            }
            if let Some(usage) = timeout(CANCEL_DEADLINE, usage_at_end(&mut incoming)).await.ok().flatten() {
                yield usage;
            }
            yield Event::End(End::Cancelled);
        }
        .boxed()
    }
}

/// None if it was cancelled meanwhile.
async fn wait_for_turn(worker: &Worker, request: &Request) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        biased;
        () = request.cancel.cancelled() => None,
        turn = worker.turns().clone().acquire_owned() => turn.ok(),
    }
}

/// Takes what a cancelled answer still says until it has ended, and keeps only its figures.
async fn usage_at_end(incoming: &mut mpsc::Receiver<Event>) -> Option<Event> {
    let mut usage = None;
    while let Some(event) = incoming.recv().await {
        match event {
            Event::Usage(_) => usage = Some(event),
            Event::End(_) => break,
            _ => {}
        }
    }
    usage
}

/// Whether all of a new message is text. Other parts in older ones are passed over.
fn only_text(content: &[Part]) -> Result<(), Error> {
    let Some(index) = content.iter().position(is_no_text) else {
        return Ok(());
    };
    let found = match &content[index] {
        Part::File(File { data: Some(_), .. }) => "a file that is no text in UTF-8",
        Part::File(_) => "a file that only an upstream has",
        _ => "an image",
    };
    Err(Error::invalid_params(format!(
        "expected `content[{index}]` to be text, found {found}: the embedded model reads only text"
    )))
}

fn is_no_text(part: &Part) -> bool {
    match part {
        Part::Image(_) => true,
        Part::File(file) => file.text().is_none(),
        Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => false,
    }
}

/// The model cannot be held to a form: its tokens are chosen without one.
fn any_form(options: &Options) -> Result<(), Error> {
    match options.format {
        None | Some(Format::Text) => Ok(()),
        Some(Format::JsonObject | Format::JsonSchema { .. }) => Err(Error::invalid_params(
            "expected `options.format` to be `text`: the embedded model cannot be held to JSON",
        )
        .with_hint("ask for JSON in the instructions, or choose another provider")),
    }
}

/// Says what of the request the model does not get.
fn ignored(request: &Request) -> Vec<Event> {
    let tools: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    let messages = request
        .conversation
        .messages
        .iter()
        .filter(|message| message.content.iter().any(is_no_text))
        .count();
    let mut events = Vec::new();
    if !tools.is_empty() {
        events.push(Event::Upstream {
            name: "toolsIgnored".to_owned(),
            data: json!({ "tools": tools }),
        });
    }
    if messages > 0 {
        events.push(Event::Upstream {
            name: "filesIgnored".to_owned(),
            data: json!({ "messages": messages }),
        });
    }
    events
}
