//! Why a run is stopped, and what its end is then.

use std::cell::Cell;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use crate::protocol::{RunStatus, StopReason};
use crate::transcript::RunEnd;

/// Ends a run, and says why. The first reason stands.
#[derive(Clone, Default)]
pub struct Stop {
    reason: Rc<Cell<Option<StopReason>>>,
    token: CancellationToken,
}

impl Stop {
    /// Ends the run for this reason: `cancelled`, `superseded` or `clientGone`. Harmless if it was stopped before.
    pub fn stop(&self, reason: StopReason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
        self.token.cancel();
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// What fires when it is stopped.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Whether it was stopped because nobody listens any more.
    pub fn is_left(&self) -> bool {
        self.reason.get() == Some(StopReason::ClientGone)
    }

    /// The end of a run that was stopped.
    pub fn end(&self) -> RunEnd {
        match self.reason.get() {
            Some(StopReason::ClientGone) => RunEnd::new(RunStatus::Interrupted, StopReason::ClientGone),
            Some(reason) => RunEnd::new(RunStatus::Cancelled, reason),
            None => RunEnd::new(RunStatus::Cancelled, StopReason::Cancelled),
        }
    }
}
