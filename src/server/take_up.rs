//! Runs that lost their process and go on upstream: they are taken up, or end as interrupted.
//!
//! The client asked for none of them, so it hears nothing of them; it sees them where it looks, and what it sends to
//! their threads waits behind them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::lifecycle::Phase;
use super::{Done, LiveRun, Owner, Server, Stage};
use crate::error::{Error, Kind};
use crate::outbox::{Address, Outbox};
use crate::protocol::StopReason;
use crate::provider::{Provider, Request};
use crate::run::{self, Ended, Events, Start, Stop};
use crate::store::Orphan;

/// How many numbers are passed over: events that were shown and are not kept had some of them, and a client that sees a
/// number again would take what bears it for old.
const SEQ_GAP: u64 = 1 << 20;

impl Server {
    /// The store has found one. Settings that come with `initialize` may be what it needs, so it waits for the client's
    /// first word.
    pub(super) fn on_orphan(&mut self, orphan: Orphan) {
        self.orphans.push(orphan);
        if self.client.has_spoken {
            self.take_up_orphans();
        }
    }

    /// Takes up those that may be. After the end of input only one whose thread somebody waits for: the others are left
    /// to the next daemon.
    pub(super) fn take_up_orphans(&mut self) {
        for orphan in std::mem::take(&mut self.orphans) {
            if self.phase == Phase::Open || self.threads.contains_key(&orphan.run.thread_id) {
                self.take_up(orphan);
            } else {
                self.orphans.push(orphan);
            }
        }
    }

    /// No more requests come: runs that were taken up and that nobody waits behind are left again.
    pub(super) fn leave_orphans(&mut self) {
        let is_alone = |run: &LiveRun| {
            let queue = self.threads.get(&run.thread_id);
            run.is_orphan && queue.is_none_or(|queue| !queue.is_wanted())
        };
        let alone = self.runs.iter().filter(|(_, run)| is_alone(run));
        let alone: Vec<String> = alone.map(|(run_id, _)| run_id.clone()).collect();
        for run_id in alone {
            self.stop_run(&run_id, StopReason::ClientGone);
        }
    }

    fn take_up(&mut self, orphan: Orphan) {
        let transcript = orphan.transcript();
        let Orphan {
            run: kept,
            background,
            snapshot,
            ..
        } = orphan;
        let (run_id, thread_id) = (kept.run_id, kept.thread_id);
        let stop = Stop::default();
        let mut rounds = snapshot.rounds;
        rounds.extend(transcript.rounds());
        let request = Request {
            model: kept.model.clone(),
            instructions: background.instructions,
            conversation: Arc::new(snapshot.conversation),
            tools: background.tools,
            options: background.options,
            anchor: transcript.anchor().cloned(),
            rounds,
            cancel: stop.token(),
        };
        let seq = Rc::new(Cell::new(transcript.seq() + SEQ_GAP));
        let transcript = Rc::new(RefCell::new(transcript));
        let lane = Outbox::nowhere().lane(Address::new(&thread_id, &run_id, None));
        let provider = self.provider_of(&kept.provider, kept.assistant.as_deref(), kept.model.as_deref());
        self.journal = Some(snapshot.journal.clone());
        self.runs.insert(
            run_id.clone(),
            LiveRun {
                stage: Stage::Running,
                stop: stop.clone(),
                provider: kept.provider,
                lane: Some(lane.clone()),
                journal: Some(snapshot.journal.clone()),
                transcript: transcript.clone(),
                seq: seq.clone(),
                is_orphan: true,
                ..LiveRun::new(&thread_id)
            },
        );
        self.threads.entry(thread_id).or_default().put_in_front(run_id.clone());
        let tool_timeout = self.settings.tool_timeout();
        self.spawn(Owner::Run(run_id.clone()), async move {
            let start = |provider| Start {
                provider,
                request,
                lane,
                journal: snapshot.journal,
                transcript,
                seq,
                events: Events::only(&[]),
                was_queued: false,
                desk: None,
                tool_timeout,
                servers: Vec::new(),
                approval: None,
                stop: stop.clone(),
            };
            let ended = match ready(provider, &stop).await {
                Ok(Some(provider)) => run::take_up(start(provider)).await,
                Ok(None) => Ended::before_taken_up(&stop),
                Err(error) => {
                    tracing::info!(%error, run = run_id, "a run of a dead process cannot be taken up");
                    Ended::interrupted(None)
                }
            };
            Done::Ended(run_id, ended)
        });
    }

    /// The provider that a run had, as the settings have it now.
    fn provider_of(
        &self,
        name: &str,
        assistant: Option<&str>,
        model: Option<&str>,
    ) -> Result<Arc<dyn Provider>, Error> {
        let choice = self.settings.choose(assistant, model)?;
        if choice.provider != name {
            let message = format!(
                "provider `{name}` answered, and the settings now choose `{}`",
                choice.provider
            );
            return Err(Error::new(Kind::ConfigInvalid, message));
        }
        self.providers.provider(&self.settings, &choice)
    }
}

/// The provider, once it has its credentials; none if the run is stopped before. One that has them at once is given
/// though the run was stopped: its upstream has to be told.
async fn ready(provider: Result<Arc<dyn Provider>, Error>, stop: &Stop) -> Result<Option<Arc<dyn Provider>>, Error> {
    let provider = provider?;
    let token = stop.token();
    tokio::select! {
        biased;
        ready = provider.prepare() => ready?,
        () = token.cancelled() => return Ok(None),
    }
    Ok(Some(provider))
}
