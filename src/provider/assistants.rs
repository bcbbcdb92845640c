//! The `assistants` dialect: the Assistants v2 wire, as api.openai.com had it, Azure OpenAI's dated variant of it, and
//! Foundry Agent Service (classic), which still answers.
//!
//! One request a turn: the first opens thread, messages and run at once, later ones bring what the upstream's thread
//! does not have. Images and files by their bytes are uploaded before that, each once. The instructions of a request
//! replace those of the upstream's assistant for the run, and its tools add to the assistant's; since the wire only
//! knows how to replace those too, the first run with tools costs one more request, which asks what the assistant has.

mod anchor;
mod calls;
mod files;
mod mapper;
mod messages;
mod own_tools;
mod request;
mod steps;
mod stopping;
mod tools;
mod turn;
mod wire;

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::check::Offer;
use super::credentials::Credentials;
use super::http::{Call, Endpoint, Http, Scheme};
use super::{Asked, Event, Provider, Request};
use crate::config::{ProviderSettings, Service};
use crate::error::{Error, Kind};
use crate::protocol::AssistantEntry;

/// The first version of Azure's API that has all that is used here.
const AZURE_VERSION: &str = "2024-05-01-preview";

/// The only version of Foundry Agent Service (classic).
const FOUNDRY_VERSION: &str = "v1";

/// How many pages of assistants are asked for, of 100 each.
const LIST_PAGES: usize = 2;

/// An upstream that speaks the Assistants v2 wire.
pub struct Assistants {
    /// Set-up, or what is wrong with it: told when somebody wants an answer, not before.
    upstream: Result<Arc<Upstream>, Error>,
}

/// What every turn needs.
#[derive(Debug)]
struct Upstream {
    endpoint: Endpoint,
    assistant_id: Option<String>,
    max_retries: u32,
    /// The tools that the assistant has there, once a run has needed them.
    own_tools: OnceCell<Vec<Value>>,
}

impl Assistants {
    /// A provider of this name. `assistant_id` is the upstream's (`asst_…`). What is wrong with the settings
    /// is told by [`Provider::prepare`].
    pub fn new(
        name: &str,
        settings: &ProviderSettings,
        assistant_id: Option<String>,
        credentials: Credentials,
        http: Http,
    ) -> Assistants {
        let upstream = endpoint(name, settings, credentials, http).map(|endpoint| {
            Arc::new(Upstream {
                endpoint,
                assistant_id,
                max_retries: settings.max_retries(),
                own_tools: OnceCell::new(),
            })
        });
        Assistants { upstream }
    }

    fn upstream(&self) -> Result<&Arc<Upstream>, Error> {
        self.upstream.as_ref().map_err(Error::clone)
    }
}

impl Provider for Assistants {
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let upstream = self.upstream()?;
            upstream.assistant_id()?;
            upstream.endpoint.credentials.get().await?;
            Ok(())
        })
    }

    /// A run that waits for outputs locks its thread: nothing can be said in it meanwhile.
    fn takes(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let (Ok(upstream), true, [_, ..]) = (&self.upstream, asked.has_outputs, asked.content) else {
            return Ok(());
        };
        let provider = &upstream.endpoint.provider;
        Err(Error::invalid_params(format!(
            "provider `{provider}` takes either `toolOutputs` or `content`, not both at once"
        ))
        .with_hint("send the outputs first, and the message when the answer to them is there"))
    }

    fn answer(&self, request: Request) -> BoxStream<'static, Event> {
        match self.upstream() {
            Ok(upstream) => turn::answer(upstream.clone(), request).boxed(),
            Err(error) => super::failed(error),
        }
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.upstream.as_ref().ok().map(|upstream| &upstream.endpoint)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async { self.upstream()?.models().await })
    }

    fn offer(&self) -> BoxFuture<'_, Result<Offer, Error>> {
        Box::pin(async { self.upstream()?.offer().await })
    }

    fn assistants(&self) -> BoxFuture<'_, Result<Vec<AssistantEntry>, Error>> {
        Box::pin(async { self.upstream()?.list().await })
    }
}

impl Upstream {
    fn assistant_id(&self) -> Result<&str, Error> {
        self.assistant_id.as_deref().ok_or_else(|| {
            let provider = &self.endpoint.provider;
            Error::new(
                Kind::ConfigInvalid,
                format!("provider `{provider}` speaks the Assistants API, and no assistant of it is named"),
            )
            .with_provider(provider)
            .with_hint("set ASSISTANT_ID, or `assistant_id` of an assistant in config.toml, to an id such as `asst_…`")
        })
    }

    /// What the service lists; nothing where it has no such list, as Foundry.
    async fn models(&self) -> Result<Vec<String>, Error> {
        match self.endpoint.models().await {
            Err(failure) if matches!(failure.status, Some(404 | 405)) => Ok(Vec::new()),
            models => models.map_err(|failure| failure.error),
        }
    }

    /// The assistant that answers, which every service of this wire can be asked for.
    async fn offer(&self) -> Result<Offer, Error> {
        let id = self.assistant_id()?;
        let answer = match self.endpoint.send(&Call::get(["assistants", id])).await {
            Ok(answer) => answer,
            Err(failure) if failure.status == Some(404) => return Ok(Offer::Missing(failure.error)),
            Err(failure) => return Err(failure.error),
        };
        let assistant: wire::Assistant = answer.json().await?;
        let model = assistant
            .model
            .map(|model| format!(", with the model `{model}`"))
            .unwrap_or_default();
        Ok(Offer::Found(format!("the upstream has the assistant `{id}`{model}")))
    }

    async fn list(&self) -> Result<Vec<AssistantEntry>, Error> {
        let mut entries: Vec<AssistantEntry> = Vec::new();
        for _ in 0..LIST_PAGES {
            let mut call = Call::get(["assistants"]).with_query("limit", "100");
            if let Some(last) = entries.last() {
                call = call.with_query("after", &last.name);
            }
            let answer = self.endpoint.send(&call).await.map_err(|failure| failure.error)?;
            let page: wire::AssistantPage = answer.json().await?;
            let before = entries.len();
            let assistants = page.data.unwrap_or_default().into_iter();
            entries.extend(assistants.filter_map(|assistant| entry(&self.endpoint.provider, assistant)));
            if page.has_more != Some(true) || entries.len() == before {
                break;
            }
        }
        Ok(entries)
    }
}

fn entry(provider: &str, assistant: wire::Assistant) -> Option<AssistantEntry> {
    let id = assistant.id?;
    let tools = assistant.tools.unwrap_or_default();
    let tool_name = |tool: &Value| {
        let name = tool["function"]["name"].as_str().or(tool["type"].as_str());
        name.map(str::to_owned)
    };
    let description = assistant.description.filter(|description| !description.is_empty());
    Some(AssistantEntry {
        name: id.clone(),
        provider: provider.to_owned(),
        model: assistant.model,
        instructions: assistant.instructions,
        description: description.or(assistant.name),
        tools: tools.iter().filter_map(tool_name).collect(),
        upstream_id: Some(id),
        ..AssistantEntry::default()
    })
}

fn endpoint(name: &str, settings: &ProviderSettings, credentials: Credentials, http: Http) -> Result<Endpoint, Error> {
    let (base, service) = Endpoint::place(name, settings)?;
    let mut headers = Endpoint::headers(name, settings)?;
    if service == Service::Openai {
        let beta = HeaderName::from_static("openai-beta");
        headers.entry(beta).or_insert(HeaderValue::from_static("assistants=v2"));
    }
    let version = match service {
        Service::Openai => None,
        Service::Azure => Some(AZURE_VERSION),
        Service::Foundry => Some(FOUNDRY_VERSION),
    };
    let version = settings.api_version.as_deref().or(version);
    Ok(Endpoint {
        http,
        provider: name.to_owned(),
        base: if service == Service::Azure {
            below_openai(base)
        } else {
            base
        },
        query: version
            .map(|version| ("api-version", version.to_owned()))
            .into_iter()
            .collect(),
        headers,
        scheme: match service {
            Service::Azure => Scheme::Header("api-key"),
            Service::Openai | Service::Foundry => Scheme::Bearer,
        },
        credentials,
        idle: settings.idle_timeout(),
        only_model: Default::default(),
    })
}

/// Azure's resources have the API below `/openai`; an endpoint is often given without it.
fn below_openai(mut base: Url) -> Url {
    if base.path() == "/" {
        base.set_path("/openai");
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;

    fn settings(base_url: &str) -> ProviderSettings {
        let mut settings = ProviderSettings::new(Dialect::Assistants);
        settings.base_url = Some(base_url.to_owned());
        settings
    }

    fn no_key() -> Credentials {
        Credentials::new("p", None, None)
    }

    fn endpoint_at(base_url: &str) -> Endpoint {
        endpoint("p", &settings(base_url), no_key(), Http::new()).unwrap()
    }

    #[test]
    fn the_service_is_guessed_from_the_host() {
        let azure = endpoint_at("https://r.openai.azure.com");
        assert_eq!(azure.base.as_str(), "https://r.openai.azure.com/openai");
        assert_eq!(azure.scheme, Scheme::Header("api-key"));
        assert_eq!(azure.query, [("api-version", AZURE_VERSION.to_owned())]);

        let foundry = endpoint_at("https://r.services.ai.azure.com/api/projects/p");
        assert_eq!(foundry.base.as_str(), "https://r.services.ai.azure.com/api/projects/p");
        assert_eq!(foundry.scheme, Scheme::Bearer);
        assert_eq!(foundry.query, [("api-version", "v1".to_owned())]);

        let openai = endpoint("p", &ProviderSettings::new(Dialect::Assistants), no_key(), Http::new()).unwrap();
        assert_eq!(openai.base.as_str(), "https://api.openai.com/v1");
        assert_eq!(openai.headers["openai-beta"], "assistants=v2");
        assert!(openai.query.is_empty());
    }

    #[tokio::test]
    async fn a_missing_assistant_and_a_bad_url_are_told_before_a_run_exists() {
        let provider = Assistants::new("p", &settings("https://x.test/v1"), None, no_key(), Http::new());
        let error = provider.prepare().await.unwrap_err();
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        assert!(error.data.hint.unwrap().contains("ASSISTANT_ID"));

        let provider = Assistants::new(
            "p",
            &settings("x.test/v1"),
            Some("asst_1".into()),
            no_key(),
            Http::new(),
        );
        let error = provider.prepare().await.unwrap_err();
        assert_eq!(
            error.message,
            "expected `base_url` of provider `p` to be an http or https URL"
        );
    }
}
