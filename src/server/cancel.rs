//! Stopping runs: by whoever asked for them, by what comes next, or because the client leaves.

use serde_json::Value;

use super::reply::ReplyTo;
use super::{LiveRun, Server, Stage};
use crate::error::Error;
use crate::protocol::{CancelParams, CancelRequestParams, CancelResult, CancelledRun, StopReason, Token};

impl Server {
    /// `assistant/cancel`: answered first, since a run that only waits ends at once.
    pub(super) fn cancel(&mut self, reply: ReplyTo, params: CancelParams) -> Result<(), Error> {
        let token = params.token.as_ref().map(Token::to_value);
        let given = [params.run_id.is_some(), params.thread_id.is_some(), token.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(Error::invalid_params(
                "expected exactly one of `runId`, `threadId` and `token`",
            ));
        }
        let matches = |run_id: &str, run: &LiveRun| {
            params.run_id.as_deref() == Some(run_id)
                || params.thread_id.as_deref() == Some(&run.thread_id)
                || (token.is_some() && run.token == token)
        };
        let mut runs: Vec<CancelledRun> = self
            .runs
            .iter()
            .filter(|(run_id, run)| matches(run_id, run))
            .map(|(run_id, run)| CancelledRun {
                run_id: run_id.clone(),
                status: run.stage.status(),
            })
            .collect();
        // In the order in which they were asked for, as ids sort.
        runs.sort_by(|one, other| one.run_id.cmp(&other.run_id));
        match params.run_id {
            Some(run_id) if runs.is_empty() => self.answer_of_ended(reply, run_id),
            _ => self.answer_and_stop(reply, runs),
        }
        Ok(())
    }

    fn answer_and_stop(&mut self, reply: ReplyTo, runs: Vec<CancelledRun>) {
        let run_ids: Vec<String> = runs.iter().map(|run| run.run_id.clone()).collect();
        let result = serde_json::to_string(&CancelResult { runs }).expect("a result is plain data");
        self.respond(reply, Ok(result));
        for run_id in run_ids {
            self.stop_run(&run_id, StopReason::Cancelled);
        }
    }

    /// A run that is not live has ended, and stays as it was; one that nobody knows is no error.
    fn answer_of_ended(&mut self, reply: ReplyTo, run_id: String) {
        let stored = self.store.run(run_id.clone());
        self.errand(reply, async move {
            let ended = stored.await.ok().map(|run| run.status);
            let runs = ended.map(|status| CancelledRun { run_id, status });
            Ok(CancelResult {
                runs: runs.into_iter().collect(),
            })
        });
    }

    /// `$/cancelRequest` as a request of its own: answered first, too.
    pub(super) fn cancel_request_answered(&mut self, reply: ReplyTo, params: CancelRequestParams) {
        self.respond(reply, Ok("null".to_owned()));
        self.cancel_request(&params.id);
    }

    /// `$/cancelRequest`: the run that this request waits for.
    pub(super) fn cancel_request(&mut self, id: &Value) {
        let waits = |run: &LiveRun| {
            let reply = run.reply.as_ref().and_then(|reply| reply.id.as_ref());
            reply.is_some_and(|waiting| waiting.as_value() == *id)
        };
        self.stop_runs(waits, StopReason::Cancelled);
    }

    /// Ends every run of a thread.
    pub(super) fn stop_thread(&mut self, thread_id: &str, reason: StopReason) {
        let is_in_it = |run: &LiveRun| run.thread_id == thread_id && run.stage != Stage::Preparing;
        self.stop_runs(is_in_it, reason);
    }

    /// Ends every run. Those that were taken up are left again: whoever asked for them did so elsewhere.
    pub(super) fn stop_all(&mut self, reason: StopReason) {
        self.stop_runs(|run| run.is_orphan, StopReason::ClientGone);
        self.stop_runs(|_| true, reason);
    }

    fn stop_runs(&mut self, wanted: impl Fn(&LiveRun) -> bool, reason: StopReason) {
        let runs = self.runs.iter().filter(|(_, run)| wanted(run));
        let run_ids: Vec<String> = runs.map(|(run_id, _)| run_id.clone()).collect();
        for run_id in run_ids {
            self.stop_run(&run_id, reason);
        }
    }

    /// Ends a run: at once if it only waits, else its task ends it.
    pub(super) fn stop_run(&mut self, run_id: &str, reason: StopReason) {
        let Some(run) = self.runs.get(run_id) else {
            return;
        };
        run.stop.stop(reason);
        if run.stage == Stage::Queued {
            let end = run.stop.end();
            self.finish(run_id, end, None);
        }
    }
}
