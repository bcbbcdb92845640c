//! The `responses` dialect: the Responses API at OpenAI, Azure (v1) and Foundry, and at the servers that imitate it.
//!
//! One request a round. The history comes from our own store with each request, and the upstream keeps nothing; or, as
//! set, the upstream keeps it and each request names the response before it. In the background a response outlives its
//! connection, and this process: it is taken up by the number of its last event.
//!
//! What is sent only to OpenAI, Azure and Foundry, since others may refuse what they do not know: `include`, for
//! reasoning that only they can read; to the first two also `stream_options`. Whatever else a server wants stands in
//! the provider's `body`.

mod anchor;
mod calls;
mod carry;
mod files;
mod input;
mod items;
mod mapper;
mod markers;
mod messages;
mod reading;
mod reasoning;
mod request;
mod turn;
mod wire;

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reqwest::Url;
use serde_json::{Map, Value};

use super::credentials::Credentials;
use super::http::{Endpoint, Http, is_openai};
use super::{Asked, Event, Provider, Request};
use crate::config::{History, ProviderSettings, Service};
use crate::error::Error;

/// The shortest answer that OpenAI and Azure can be asked for, in tokens.
const OUTPUT_TOKENS_MIN: u32 = 16;

/// An upstream that speaks the Responses API.
pub struct Responses {
    /// Set-up, or what is wrong with it: told when somebody wants an answer, not before.
    upstream: Result<Arc<Upstream>, Error>,
}

/// What every round needs.
#[derive(Debug)]
struct Upstream {
    endpoint: Endpoint,
    kind: ServiceKind,
    history: History,
    background: bool,
    /// More members for the body of a request.
    body: Map<String, Value>,
    max_retries: u32,
}

/// Who answers, as far as it matters for what may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServiceKind {
    OpenAi,
    Azure,
    Foundry,
    /// A server that imitates the API, or a part of it.
    Compatible,
}

impl ServiceKind {
    fn of(settings: &ProviderSettings, base: &Url) -> Self {
        match settings.service.unwrap_or_else(|| Service::of(base)) {
            Service::Azure => ServiceKind::Azure,
            Service::Foundry => ServiceKind::Foundry,
            Service::Openai if is_openai(base) => ServiceKind::OpenAi,
            Service::Openai => ServiceKind::Compatible,
        }
    }

    /// Whether it has all that the description has.
    fn is_first_party(self) -> bool {
        self != ServiceKind::Compatible
    }

    /// Whether it pads its events unless told not to.
    fn pads(self) -> bool {
        matches!(self, ServiceKind::OpenAi | ServiceKind::Azure)
    }

    fn taking(self) -> files::Taking {
        match self {
            ServiceKind::OpenAi => files::Taking::Upload { purpose: "user_data" },
            // Azure does not know OpenAI's word for it.
            ServiceKind::Azure | ServiceKind::Foundry => files::Taking::Upload { purpose: "assistants" },
            ServiceKind::Compatible => files::Taking::Inline,
        }
    }
}

impl Upstream {
    /// Whether the upstream keeps the responses.
    fn keeps(&self) -> bool {
        self.background || self.history == History::Upstream
    }
}

impl Responses {
    /// A provider of this name. What is wrong with the settings is told by [`Provider::prepare`].
    pub fn new(name: &str, settings: &ProviderSettings, credentials: Credentials, http: Http) -> Responses {
        let upstream = Endpoint::v1(name, settings, credentials, http).map(|endpoint| {
            Arc::new(Upstream {
                kind: ServiceKind::of(settings, &endpoint.base),
                endpoint,
                history: settings.history.unwrap_or(History::Local),
                background: settings.background.unwrap_or(false),
                body: settings.body.clone(),
                max_retries: settings.max_retries(),
            })
        });
        Responses { upstream }
    }

    fn upstream(&self) -> Result<&Arc<Upstream>, Error> {
        self.upstream.as_ref().map_err(Error::clone)
    }
}

impl Provider for Responses {
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.upstream()?.endpoint.credentials.get().await?;
            Ok(())
        })
    }

    fn answer(&self, request: Request) -> BoxStream<'static, Event> {
        match self.upstream() {
            Ok(upstream) => turn::answer(upstream.clone(), request, None).boxed(),
            Err(error) => super::failed(error),
        }
    }

    fn takes(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let Ok(upstream) = &self.upstream else {
            return Ok(());
        };
        let too_short = asked.options.max_output_tokens.filter(|max| *max < OUTPUT_TOKENS_MIN);
        if let (Some(max), true) = (too_short, upstream.kind.is_first_party()) {
            return Err(Error::invalid_params(format!(
                "expected `maxOutputTokens` of at least {OUTPUT_TOKENS_MIN} for the Responses API, found {max}"
            )));
        }
        Ok(())
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

    fn keeps_running(&self) -> bool {
        self.upstream.as_ref().is_ok_and(|upstream| upstream.background)
    }

    fn resume(&self, request: Request) -> Option<BoxStream<'static, Event>> {
        let upstream = self.upstream.as_ref().ok().filter(|upstream| upstream.background)?;
        let under_way = anchor::Anchor::read(request.anchor.as_ref()).under_way?;
        Some(turn::answer(upstream.clone(), request, Some(under_way)).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;
    use crate::protocol::Options;

    fn kind(base_url: &str, service: Option<Service>) -> ServiceKind {
        let mut settings = ProviderSettings::new(Dialect::Responses);
        settings.service = service;
        ServiceKind::of(&settings, &Url::parse(base_url).unwrap())
    }

    #[test]
    fn only_those_who_made_the_api_are_taken_for_them() {
        let rows = [
            ("https://api.openai.com/v1", None, ServiceKind::OpenAi),
            ("https://eu.api.openai.com/v1", None, ServiceKind::OpenAi),
            ("https://r.openai.azure.com/openai/v1", None, ServiceKind::Azure),
            ("https://gateway.example/v1", Some(Service::Azure), ServiceKind::Azure),
            (
                "https://r.services.ai.azure.com/api/projects/p",
                None,
                ServiceKind::Foundry,
            ),
            (
                "https://gateway.example/v1",
                Some(Service::Openai),
                ServiceKind::Compatible,
            ),
            ("http://127.0.0.1:8080/v1", None, ServiceKind::Compatible),
            ("https://api.openai.com.example/v1", None, ServiceKind::Compatible),
        ];
        for (base_url, service, expected) in rows {
            assert_eq!(kind(base_url, service), expected, "{base_url}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_a_sentence() {
        let credentials = Credentials::new("p", None, None);
        let provider = Responses::new(
            "p",
            &ProviderSettings::new(Dialect::Responses),
            credentials,
            Http::new(),
        );
        let refusal = |options: &Options| {
            let asked = Asked {
                has_outputs: false,
                content: &[],
                model: None,
                tools: &[],
                options,
            };
            provider.takes(&asked).unwrap_err().message.into_owned()
        };
        let short = Options {
            max_output_tokens: Some(5),
            ..Options::default()
        };
        assert_eq!(
            refusal(&short),
            "expected `maxOutputTokens` of at least 16 for the Responses API, found 5"
        );
    }
}
