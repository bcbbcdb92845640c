//! The tools that the upstream's assistant has by itself: a run with tools of its own must name them again.
//!
//! The tools of a request add to the assistant's for one run, but on this wire those of a run take the place of the
//! assistant's. They are fetched once, by the first run that needs them, and kept as they came, whatever their kinds.

use serde_json::Value;

use super::{Upstream, wire};
use crate::provider::http::{Call, Failure};

impl Upstream {
    /// The assistant's own tools. Whoever asks first fetches them, and others that ask meanwhile wait for that; if it
    /// fails or is dropped, the next one tries. Once known, they count until the provider is dropped.
    pub async fn own_tools(&self) -> Result<&[Value], Failure> {
        let tools = self.own_tools.get_or_try_init(|| self.fetch_own_tools()).await?;
        Ok(tools)
    }

    async fn fetch_own_tools(&self) -> Result<Vec<Value>, Failure> {
        let call = Call::get(["assistants", self.assistant_id()?]);
        match self.endpoint.send(&call).await {
            Ok(answer) => {
                let assistant: wire::Assistant = answer.json().await?;
                Ok(assistant.tools.unwrap_or_default())
            }
            // Some servers imitate runs only. If it is the assistant that does not exist, its run will say so.
            Err(failure) if matches!(failure.status, Some(404 | 405)) => {
                tracing::debug!(error = %failure.error, "the upstream does not tell which tools its assistant has");
                Ok(Vec::new())
            }
            Err(failure) => Err(failure),
        }
    }
}
