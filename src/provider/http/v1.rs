//! Where an upstream of the `/v1` shape is, which `responses` and `chat` share: api.openai.com, Azure and Foundry with
//! their own ways in, and everything compatible. `assistants` is found in the same places, below other paths.

use reqwest::Url;

use super::{Endpoint, Http, Scheme};
use crate::config::{ProviderSettings, Service};
use crate::error::{Error, Kind};
use crate::provider::credentials::Credentials;

/// Where the API is where nothing else is set.
const OPENAI: &str = "https://api.openai.com/v1";

/// OpenAI's own host, and the end of those of its regions.
const OPENAI_HOST: &str = "api.openai.com";

impl Endpoint {
    /// The endpoint that these settings lead to. An Azure or Foundry resource may be named by its host alone: its API
    /// is below `/openai/v1` there.
    pub fn v1(
        name: &str,
        settings: &ProviderSettings,
        credentials: Credentials,
        http: Http,
    ) -> Result<Endpoint, Error> {
        let (base, service) = Endpoint::place(name, settings)?;
        let version = settings.api_version.iter();
        Ok(Endpoint {
            http,
            provider: name.to_owned(),
            base: match service {
                Service::Openai => base,
                Service::Azure | Service::Foundry => below_v1(base),
            },
            query: version.map(|version| ("api-version", version.clone())).collect(),
            headers: Endpoint::headers(name, settings)?,
            credentials,
            scheme: match service {
                Service::Azure => Scheme::Header("api-key"),
                Service::Openai | Service::Foundry => Scheme::Bearer,
            },
            idle: settings.idle_timeout(),
            only_model: Default::default(),
        })
    }

    /// The base URL of these settings as it is written, and whose service that is. OpenAI's needs no saying.
    pub(in crate::provider) fn place(name: &str, settings: &ProviderSettings) -> Result<(Url, Service), Error> {
        let base = match (&settings.base_url, settings.service) {
            (Some(text), _) => Endpoint::base(name, text)?,
            (None, None | Some(Service::Openai)) => Endpoint::base(name, OPENAI)?,
            (None, Some(Service::Azure | Service::Foundry)) => {
                return Err(Error::new(
                    Kind::ConfigInvalid,
                    format!("expected `base_url` of provider `{name}`: every resource has its own"),
                )
                .with_provider(name)
                .with_hint("set AZURE_OPENAI_ENDPOINT, or `base_url` to `https://RESOURCE.openai.azure.com`"));
            }
        };
        Ok((base, settings.resolved_service()))
    }
}

/// Whether OpenAI itself answers there, in whatever region, and not somebody who imitates its API.
pub(in crate::provider) fn is_openai(base: &Url) -> bool {
    let host = base.host_str();
    host.is_some_and(|host| host == OPENAI_HOST || host.strip_suffix(OPENAI_HOST).is_some_and(|r| r.ends_with('.')))
}

/// An endpoint is often given without the path of its API, or with a part of it. The dated API of a deployment, which
/// only `chat` has, stays as it is.
fn below_v1(mut base: Url) -> Url {
    let path = base.path().trim_end_matches('/').to_owned();
    if path.ends_with("/openai") {
        base.set_path(&format!("{path}/v1"));
    } else if !path.ends_with("/v1") && !path.contains("/openai/deployments/") {
        base.set_path(&format!("{path}/openai/v1"));
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;

    fn at(base_url: &str) -> Endpoint {
        let mut settings = ProviderSettings::new(Dialect::Responses);
        settings.base_url = Some(base_url.to_owned());
        let credentials = Credentials::new("p", Some("k".into()), None);
        Endpoint::v1("p", &settings, credentials, Http::new()).unwrap()
    }

    #[test]
    fn a_resource_is_known_by_its_host() {
        let rows = [
            ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1"),
            (
                "https://r.openai.azure.com/openai/",
                "https://r.openai.azure.com/openai/v1",
            ),
            (
                "https://r.openai.azure.com/openai/v1/",
                "https://r.openai.azure.com/openai/v1/",
            ),
            (
                "https://r.services.ai.azure.com/api/projects/p",
                "https://r.services.ai.azure.com/api/projects/p/openai/v1",
            ),
            (
                "https://r.openai.azure.com/openai/deployments/d",
                "https://r.openai.azure.com/openai/deployments/d",
            ),
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ];
        for (given, base) in rows {
            assert_eq!(at(given).base.as_str(), base);
        }
        assert_eq!(at("https://r.openai.azure.com").scheme, Scheme::Header("api-key"));
        assert_eq!(
            at("https://r.services.ai.azure.com/api/projects/p").scheme,
            Scheme::Bearer
        );
    }
}
