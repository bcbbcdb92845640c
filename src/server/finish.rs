//! The end of a run: it is folded into the database, the client is told, the request answered, the thread free.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

use super::reply::{self, ReplyTo};
use super::{Done, LiveRun, Owner, Server, Stage};
use crate::error::Error;
use crate::outbox::{Body, Lane};
use crate::protocol::{CompletedParams, SendResult};
use crate::rpc;
use crate::run;
use crate::store::{self, Journal};
use crate::transcript::{Entry, RunEnd, Transcript};

impl Server {
    /// A failure outside the run's own task, or its panic.
    pub(super) fn fail(&mut self, run_id: &str, error: Error) {
        let Some(run) = self.runs.get(run_id) else {
            return;
        };
        let (thread_id, is_known) = (run.thread_id.clone(), run.lane.is_some());
        if let Some(queue) = self.threads.get_mut(&thread_id)
            && run.stage == Stage::Preparing
        {
            queue.is_preparing = false;
        }
        if !is_known {
            return self.refuse(run_id, error);
        }
        let end = RunEnd::failed(error);
        if let Some(journal) = &run.journal {
            run.seq.set(run.seq.get() + 1);
            let mut batch = store::Batch::default();
            batch.entry(run_id, run.seq.get(), &Entry::End { end: end.clone() });
            if let Err(error) = journal.append(&batch) {
                tracing::error!(%error, "the journal cannot be written");
            }
        }
        self.finish(run_id, end, None);
    }

    /// The run's end: it is folded into the database, the client is told, and the thread is free.
    pub(super) fn finish(&mut self, run_id: &str, end: RunEnd, rest: Option<run::Rest>) {
        self.withdraw_asks(run_id);
        let Some(mut run) = self.runs.remove(run_id) else {
            return;
        };
        if run.stage != Stage::Running {
            // It never ran, so nobody has given its end a number yet.
            run.seq.set(run.seq.get() + 1);
        }
        let mut outcome = run.transcript.borrow().finish(end.clone());
        outcome.seq = run.seq.get();
        let folded = self.store.finish(run_id.to_owned(), outcome);
        self.unfolded += 1;
        self.spawn(Owner::Fold, async move { Done::Folded(folded.await) });
        if let Some(lane) = run.lane.clone() {
            self.tell_end(lane, run_id, &mut run, end);
        }
        self.release(&run.thread_id, run_id);
        if let Some(rest) = rest {
            self.drain(&run.thread_id, run.provider, rest);
        }
        self.advance(&run.thread_id);
    }

    /// A run that goes on upstream though its client is gone: the journal keeps it for the next daemon.
    pub(super) fn leave_run(&mut self, run_id: &str) {
        self.has_left_runs = true;
        if let Some(run) = self.runs.remove(run_id) {
            self.release(&run.thread_id, run_id);
            self.advance(&run.thread_id);
        }
    }

    /// `assistant/completed`, then the response. Both are made when they are written: the text is not held twice.
    fn tell_end(&mut self, lane: Lane, run_id: &str, run: &mut LiveRun, end: RunEnd) {
        let error = end.error.clone().map(|error| {
            let message_id = run.transcript.borrow().last_message();
            error.with_run(&run.thread_id, run_id, message_id.as_deref())
        });
        let said = Rc::new(Said {
            thread_id: run.thread_id.clone(),
            run_id: run_id.to_owned(),
            seq: run.seq.get(),
            token: run.token.clone(),
            end: RunEnd { error, ..end },
            transcript: run.transcript.clone(),
        });
        let max = lane.max_message();
        let completed = said.clone();
        lane.notify(Body::Later(Box::new(move || completed.notification(max))));
        let reply = run.reply.take();
        self.respond_in_lane(&lane, reply, move |max| said.result(max));
    }

    /// The response to the request that asked for the run, behind what the run has queued.
    pub(super) fn respond_in_lane(
        &mut self,
        lane: &Lane,
        reply: Option<ReplyTo>,
        result: impl FnOnce(usize) -> Result<String, Error> + 'static,
    ) {
        let Some(ReplyTo { id: Some(id), batch }) = reply else {
            return;
        };
        let max = lane.max_message();
        // What an envelope adds to a result.
        let room = max.saturating_sub(id.as_str().len() + 64);
        if batch.is_some() {
            let text = reply::response(&id, result(room), max);
            return self.send_response(batch, text);
        }
        lane.respond(Body::Later(Box::new(move || reply::response(&id, result(room), max))));
    }

    pub(super) fn on_folded(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            // The journal keeps what the database could not take; the next start folds it.
            tracing::error!(%error, "a run could not be folded into the database");
            return;
        }
        self.unfolded -= 1;
        if self.unfolded == 0 && self.runs.is_empty() && !self.has_left_runs {
            self.reset_journal();
        }
    }

    /// All of the journal is in the database.
    fn reset_journal(&self) {
        if let Some(Err(error)) = self.journal.as_ref().map(Journal::reset) {
            tracing::warn!(%error, "the journal could not be emptied");
        }
    }
}

/// What is said of a run when it has ended.
struct Said {
    thread_id: String,
    run_id: String,
    seq: u64,
    token: Option<Value>,
    end: RunEnd,
    transcript: Rc<RefCell<Transcript>>,
}

impl Said {
    /// `assistant/completed`, without its text where that does not fit.
    fn notification(&self, max_message: usize) -> String {
        let transcript = self.transcript.borrow();
        let mut params = CompletedParams {
            thread_id: self.thread_id.clone(),
            run_id: self.run_id.clone(),
            seq: self.seq,
            token: self.token.clone(),
            status: self.end.status,
            stop_reason: self.end.stop_reason,
            message_id: transcript.last_message().map(|id| id.to_string()),
            text: None,
            usage: transcript.usage(),
            error: self.end.error.clone(),
            omitted: None,
        };
        // A text is not copied to find that it is too long: within JSON it is no shorter.
        if transcript.text_len() <= max_message {
            params.text = Some(transcript.text());
            let text = rpc::notify("assistant/completed", &params);
            if text.len() <= max_message {
                return text;
            }
        }
        params.text = None;
        params.omitted = Some(vec!["text".into()]);
        rpc::notify("assistant/completed", &params)
    }

    /// The result of a waiting `assistant/send`, without what does not fit; the error, if the run failed.
    fn result(&self, room: usize) -> Result<String, Error> {
        if let Some(error) = &self.end.error {
            return Err(error.clone());
        }
        let transcript = self.transcript.borrow();
        let is_plain = transcript.is_plain();
        let mut result = SendResult {
            thread_id: self.thread_id.clone(),
            run_id: self.run_id.clone(),
            status: self.end.status,
            message_id: transcript.last_message().map(|id| id.to_string()),
            messages: Some(transcript.message_ids()),
            stop_reason: Some(self.end.stop_reason),
            text: None,
            content: None,
            tool_calls: Some(self.end.tool_calls.clone()).filter(|calls| !calls.is_empty()),
            usage: transcript.usage(),
            omitted: None,
        };
        let fits = |result: &SendResult| {
            let text = serde_json::to_string(result).expect("a result is plain data");
            (text.len() <= room).then_some(text)
        };
        let mut omitted = Vec::new();
        if transcript.text_len() <= room {
            result.text = Some(transcript.text());
            result.content = (!is_plain).then(|| transcript.last_content());
            if let Some(text) = fits(&result) {
                return Ok(text);
            }
        }
        if !is_plain {
            omitted.push("content".to_owned());
            result.content = None;
            result.omitted = Some(omitted.clone());
            if result.text.is_some()
                && let Some(text) = fits(&result)
            {
                return Ok(text);
            }
        }
        omitted.push("text".to_owned());
        result.text = None;
        result.omitted = Some(omitted);
        Ok(serde_json::to_string(&result).expect("a result is plain data"))
    }
}
