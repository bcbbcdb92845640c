//! The `chat` dialect: Chat Completions, as api.openai.com and Azure have it, and everything compatible: Ollama,
//! llama.cpp, LM Studio, vLLM, OpenRouter and the rest, with their quirks.
//!
//! The upstream keeps nothing: every round brings the whole conversation, and a cancelled one only drops its
//! connection. What an upstream wants otherwise than others is learnt from its refusals, see `habits.rs`.

mod calls;
mod content;
mod habits;
mod mapper;
mod messages;
mod reasoning;
mod request;
mod scalar;
mod turn;
mod wire;

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::{Map, Value};

use super::credentials::Credentials;
use super::http::{Endpoint, Http, is_openai};
use super::{Asked, Event, Provider, Request};
use crate::config::{ProviderSettings, Service};
use crate::error::Error;
use content::Takes;
use habits::Habits;

/// An upstream that speaks Chat Completions.
pub struct Chat {
    /// Set-up, or what is wrong with it: told when somebody wants an answer, not before.
    upstream: Result<Arc<Upstream>, Error>,
}

/// What every round needs.
#[derive(Debug)]
struct Upstream {
    endpoint: Endpoint,
    takes: Takes,
    habits: Habits,
    /// More members for the body of each request.
    extra: Map<String, Value>,
    max_retries: u32,
}

impl Chat {
    /// A provider of this name. What is wrong with the settings is told by [`Provider::prepare`].
    pub fn new(name: &str, settings: &ProviderSettings, credentials: Credentials, http: Http) -> Chat {
        let upstream = Endpoint::v1(name, settings, credentials, http).map(|endpoint| {
            let is_first_party = settings.resolved_service() != Service::Openai || is_openai(&endpoint.base);
            Arc::new(Upstream {
                endpoint,
                takes: Takes { files: is_first_party },
                habits: Habits::assumed(is_first_party),
                extra: settings.body.clone(),
                max_retries: settings.max_retries(),
            })
        });
        Chat { upstream }
    }

    fn upstream(&self) -> Result<&Arc<Upstream>, Error> {
        self.upstream.as_ref().map_err(Error::clone)
    }
}

impl Provider for Chat {
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.upstream()?.endpoint.credentials.get().await?;
            Ok(())
        })
    }

    fn takes(&self, asked: &Asked<'_>) -> Result<(), Error> {
        content::check(asked.content, self.upstream()?.takes)
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.upstream.as_ref().ok().map(|upstream| &upstream.endpoint)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async {
            let models = self.upstream()?.endpoint.models().await;
            models.map_err(|failure| failure.error)
        })
    }

    fn answer(&self, request: Request) -> BoxStream<'static, Event> {
        match self.upstream() {
            Ok(upstream) => turn::answer(upstream.clone(), request).boxed(),
            Err(error) => super::failed(error),
        }
    }
}
