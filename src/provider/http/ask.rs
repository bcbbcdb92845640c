//! Requests that change nothing upstream: they may be sent twice.
//!
//! Knows no dialect; which requests are such is for the dialect to say.

use tokio::time::Instant;

use super::{Answer, Call, Endpoint, Failure};
use crate::error::Kind;

impl Endpoint {
    /// Sends a request that changes nothing upstream, and so may be sent twice: at once where the connection breaks
    /// before anything is answered. Some servers close a connection that they said they would keep (llama.cpp behind
    /// every stream), and only the next request finds out.
    pub async fn ask(&self, call: &Call) -> Result<Answer, Failure> {
        let since = Instant::now();
        // Silence is not waited for twice.
        let broke = |failure: &Failure| {
            failure.status.is_none() && failure.error.kind() == Kind::Network && since.elapsed() < self.idle
        };
        match self.send(call).await {
            Err(failure) if broke(&failure) && !failure.repeatable => {}
            sent => return sent,
        }
        tracing::debug!(provider = self.provider, "the connection was gone: sends again");
        self.send(call).await.map_err(|failure| Failure {
            repeatable: failure.repeatable || broke(&failure),
            ..failure
        })
    }
}
