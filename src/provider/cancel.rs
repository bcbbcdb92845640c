//! A run's cancel token, and how long its upstream may take to be told.
//!
//! Nothing here knows what telling it means.

use std::sync::OnceLock;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::CANCEL_DEADLINE;

/// The cancel token, and the deadline that counts from when its firing was seen.
pub struct Cancel {
    token: CancellationToken,
    fired: OnceLock<Instant>,
}

impl Cancel {
    pub fn new(token: CancellationToken) -> Self {
        Cancel {
            token,
            fired: OnceLock::new(),
        }
    }

    pub fn has_fired(&self) -> bool {
        self.token.is_cancelled()
    }

    /// When the upstream has had long enough.
    pub fn deadline(&self) -> Instant {
        *self.fired.get_or_init(Instant::now) + CANCEL_DEADLINE
    }

    /// What the future gives; none if the token fires first.
    pub async fn before<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.token.cancelled() => None,
            value = future => Some(value),
        }
    }

    /// What the future gives; none if the token has fired and the deadline has passed.
    pub async fn bound<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let passed = async {
            self.token.cancelled().await;
            sleep_until(self.deadline()).await;
        };
        tokio::select! {
            biased;
            value = future => Some(value),
            () = passed => None,
        }
    }
}
