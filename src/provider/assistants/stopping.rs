//! Stopping runs upstream, each within a time limit: nobody waits for an upstream that does not answer.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Upstream;
use super::turn::Reading;
use super::wire::Run;
use crate::provider::CANCEL_DEADLINE;
use crate::provider::http::Call;

/// How long a run of our own that is in the way may take to end.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

impl Upstream {
    /// Asks the upstream to cancel a run. A refusal means that it has ended already.
    pub async fn cancel(&self, thread_id: &str, run_id: &str) {
        let call = Call::post(["threads", thread_id, "runs", run_id, "cancel"]);
        if let Err(failure) = self.endpoint.send(&call).await {
            tracing::debug!(error = %failure.error, "the upstream did not cancel the run");
        }
    }

    /// Cancels a run and waits until it has ended; false if it does not.
    pub async fn stop_and_wait(&self, thread_id: &str, run_id: &str) -> bool {
        let waiting = async {
            self.cancel(thread_id, run_id).await;
            let mut delay = Duration::from_millis(100);
            while self.is_under_way(thread_id, run_id).await {
                sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(2));
            }
        };
        timeout(LOCK_LIMIT, waiting).await.is_ok()
    }

    async fn is_under_way(&self, thread_id: &str, run_id: &str) -> bool {
        let run: Run = match self
            .endpoint
            .send(&Call::get(["threads", thread_id, "runs", run_id]))
            .await
        {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            // A run that is gone is in nobody's way; of any other failure nothing can be learnt.
            Err(failure) => return failure.status != Some(404),
        };
        let status = run.status.as_deref();
        !matches!(
            status,
            Some("completed" | "incomplete" | "failed" | "cancelled" | "expired")
        )
    }
}

impl Reading {
    /// Cancels the run of this stream as soon as it is known which one it is, and reads on until it has ended, so that
    /// its thread is free for the next. The caller sets the limit.
    pub async fn stop(&mut self) {
        while self.mapper.run().is_none() && !self.mapper.has_ended() {
            if !matches!(self.more().await, Ok(true)) {
                break;
            }
        }
        if self.mapper.has_ended() {
            return;
        }
        self.tell_upstream().await;
        while !self.mapper.has_ended() && matches!(self.more().await, Ok(true)) {}
    }

    /// Tells the upstream to stop a run that nobody listens to any more, if it is known which one.
    pub async fn tell_upstream(&self) {
        if let Some((thread_id, run_id)) = self.mapper.run() {
            let _ = timeout(CANCEL_DEADLINE, self.upstream.cancel(thread_id, run_id)).await;
        }
    }
}
