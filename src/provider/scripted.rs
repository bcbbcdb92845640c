//! The `scripted` dialect: plays answers from a file, for people who test their plugin, offline and the same each time.
//!
//! `docs/script.md` describes the file for authors. It knows no upstream. Time passes only where the script says so.

mod play;
mod script;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_stream::stream;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::play::{Act, Scene};
use self::script::{Refused, Script};
use super::check::{Checkup, Finding, Wanted};
use super::credentials::Credentials;
use super::{Asked, End, Event, Provider, Request};
use crate::error::{Error, Kind};
use crate::protocol::{CheckStage, Format, Part, PartKind, StageName, StopReason};

/// A script as a provider. The file is read again before every run, so its author edits it while assistd goes on.
#[derive(Debug)]
pub struct Scripted {
    name: String,
    path: PathBuf,
    /// Asked for as an upstream's would be, and used for nothing.
    credentials: Credentials,
    /// The newest script that was read, with its text, so that an unchanged file is not parsed again.
    script: Mutex<Option<(String, Arc<Script>)>>,
}

impl Scripted {
    /// A provider of this name that plays the file at `path`: TOML or JSON, by its extension.
    pub fn new(name: &str, path: PathBuf) -> Scripted {
        Scripted {
            name: name.to_owned(),
            path,
            credentials: Credentials::new(name, None, None),
            script: Mutex::new(None),
        }
    }

    /// The same, which asks for these credentials before each run.
    pub fn with_credentials(mut self, credentials: Credentials) -> Scripted {
        self.credentials = credentials;
        self
    }

    /// The script as the file has it now.
    fn read(&self) -> Result<(), Error> {
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| format!("failed to read the script `{}`: {error}", self.path.display()))
            .map_err(|problem| self.invalid(problem))?;
        let mut kept = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|(known, _)| *known == text) {
            return Ok(());
        }
        let script = Script::parse(&self.path, &text).map_err(|problem| self.invalid(problem))?;
        *kept = Some((text, Arc::new(script)));
        Ok(())
    }

    fn invalid(&self, problem: String) -> Error {
        Error::new(Kind::ConfigInvalid, problem)
            .with_provider(&self.name)
            .with_hint("docs/script.md describes scripts; the file is read again before every run")
    }

    fn kept(&self) -> Option<Arc<Script>> {
        let kept = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|(_, script)| script.clone())
    }
}

impl Provider for Scripted {
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.read()?;
            self.credentials.get().await?;
            Ok(())
        })
    }

    fn takes(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let needed = needed(asked);
        if needed.is_empty() {
            return Ok(());
        }
        self.read()?;
        let script = self.kept();
        let refused = needed.into_iter().find(|(need, _)| {
            let refuses = script.as_ref().map(|script| &script.refuses);
            refuses.is_some_and(|refuses| refuses.contains(need))
        });
        match refused {
            None => Ok(()),
            Some((_, member)) => {
                let message = format!("the model that this script plays cannot take `{member}`");
                Err(Error::invalid_params(message).with_provider(&self.name))
            }
        }
    }

    fn check<'a>(&'a self, _: Wanted<'a>) -> BoxFuture<'a, Vec<CheckStage>> {
        Box::pin(async {
            let mut checkup = Checkup::begin();
            let read = async {
                self.read()?;
                let message = format!("the script `{}` can be played", self.path.display());
                Ok(Finding::new(message))
            };
            // Whether it failed is in the report.
            let _ = checkup.stage(StageName::Script, read).await;
            checkup.end(&[StageName::Script])
        })
    }

    fn answer(&self, request: Request) -> BoxStream<'static, Event> {
        let script = self.kept();
        let provider = self.name.clone();
        let Some(script) = script else {
            let error = Error::new(Kind::Internal, "the script was not read before the run").with_provider(provider);
            return futures::stream::iter([Event::End(End::Failed(error))]).boxed();
        };
        let cancel = request.cancel.clone();
        let anchor = script.background.then(|| Act::Give(Event::Anchor(anchor(&request))));
        let acts = Scene::new(provider, request).acts(&script);
        perform(anchor.into_iter().chain(acts), cancel).boxed()
    }

    fn keeps_running(&self) -> bool {
        self.kept().is_some_and(|script| script.background)
    }

    /// There is no upstream that would have gone on: the round is played again, waits and all.
    fn resume(&self, request: Request) -> Option<BoxStream<'static, Event>> {
        let is_under_way = request.anchor.as_ref() == Some(&anchor(&request));
        (is_under_way && self.keeps_running()).then(|| self.answer(request))
    }
}

/// Which round of the run it is: all that has to be known to play it again.
fn anchor(request: &Request) -> Value {
    json!({ "round": request.rounds.len() })
}

/// What of a request not every model can take, with the member that asks for it.
fn needed(asked: &Asked<'_>) -> Vec<(Refused, String)> {
    let parts = asked.content.iter().enumerate();
    let mut needed: Vec<_> = parts
        .filter_map(|(index, part)| match part {
            Part::Image(_) => Some((Refused::Image, format!("content[{index}]"))),
            Part::File(_) => Some((Refused::File, format!("content[{index}]"))),
            Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => None,
        })
        .collect();
    if !matches!(asked.options.format, None | Some(Format::Text)) {
        needed.push((Refused::Format, "options.format".to_owned()));
    }
    needed
}

/// Does one act after the other. The token is looked at before each of them and during every wait.
fn perform(
    acts: impl Iterator<Item = Act> + Send + 'static,
    cancel: CancellationToken,
) -> impl futures::Stream<Item = Event> + Send + 'static {
    stream! {
        let mut is_open = false;
        let mut has_refused = false;
        for act in acts {
            // A script without waits is always ready: the other runs of this thread get their turn here.
            tokio::task::consume_budget().await;
            if cancel.is_cancelled() {
                yield Event::End(End::Cancelled);
                return;
            }
            match act {
                Act::Give(event) => {
                    has_refused |= matches!(event, Event::Delta { part: PartKind::Refusal, .. });
                    match event {
                        Event::Delta { .. } | Event::Image { .. } => is_open = true,
                        Event::MessageDone => is_open = false,
                        _ => {}
                    }
                    yield event;
                }
                Act::Wait(delay) => pause(delay, &cancel).await,
                Act::Stall => cancel.cancelled().await,
                Act::Drop => return,
                Act::Panic(message) => panic!("{message}"),
                Act::End(end) => {
                    // Only a whole message is done; a cut one takes the status of its run.
                    if is_open && matches!(end, End::Completed(_) | End::ToolCalls(_)) {
                        yield Event::MessageDone;
                    }
                    yield Event::End(end);
                    return;
                }
            }
        }
        if cancel.is_cancelled() {
            yield Event::End(End::Cancelled);
            return;
        }
        if is_open {
            yield Event::MessageDone;
        }
        let reason = if has_refused { StopReason::Refusal } else { StopReason::EndTurn };
        yield Event::End(End::Completed(reason));
    }
}

async fn pause(delay: Duration, cancel: &CancellationToken) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(delay) => {}
    }
}

#[cfg(test)]
mod tests;
