//! How upstreams are reached, each over real sockets: own authorities, proxies, HTTP/2, redirects, limits, and the
//! services that give tokens.

mod entra;
pub mod http2;
mod limits;
mod proxies;
pub mod proxy;
mod redirects;
mod tls;
pub mod tls_front;

use std::time::Duration;

use assistd::config::{Dialect, ProviderSettings, Settings};
use assistd::error::Error;
use assistd::provider::credentials::Credentials;
use assistd::provider::http::{Answer, Call, Endpoint, Failure, Http, Network, Scheme};
use serde_json::{Value, json};

pub use crate::dialect::KEY;
use crate::dialect::credentials;
use crate::upstream::{Reply, Upstream};

/// A provider at this base, on a network of these settings.
pub fn endpoint(base: &str, settings: &Settings) -> Endpoint {
    endpoint_with(base, settings, credentials())
}

pub fn endpoint_with(base: &str, settings: &Settings, credentials: Credentials) -> Endpoint {
    let own = settings.layer.providers.get("test").cloned();
    let own = own.unwrap_or_else(|| ProviderSettings::new(Dialect::Responses));
    Endpoint {
        http: Http::new().on(Network::of(settings, "test", &own).unwrap()),
        provider: "test".into(),
        base: Endpoint::base("test", base).unwrap(),
        query: Vec::new(),
        headers: Default::default(),
        credentials,
        scheme: Scheme::Bearer,
        idle: Duration::from_secs(20),
        only_model: Default::default(),
    }
}

/// Settings of nothing but these variables.
pub fn with_environment(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::ephemeral();
    let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    settings.environment = pairs.collect();
    settings
}

/// Asks for something small.
pub async fn ask(endpoint: &Endpoint) -> Result<Answer, Failure> {
    endpoint.send(&Call::get(["models"])).await
}

/// The answer to [`ask`], which comes.
pub async fn answer(endpoint: &Endpoint) -> Value {
    ask(endpoint).await.unwrap().json().await.unwrap()
}

/// Why [`ask`] is not answered. No secret is in it.
pub async fn error(endpoint: &Endpoint) -> Error {
    let error = ask(endpoint).await.unwrap_err().error;
    let wire = serde_json::to_string(&error).unwrap();
    assert!(
        !wire.contains(KEY) && !wire.contains("secret"),
        "a secret is in the error: {wire}"
    );
    error
}

/// What [`answer`] gives.
pub fn models() -> Value {
    json!({ "object": "list", "data": [] })
}

/// An upstream that answers so many times.
pub async fn upstream(answers: usize) -> Upstream {
    Upstream::start((0..answers).map(|_| Reply::json(200, models()))).await
}
