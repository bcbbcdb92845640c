//! HTTP for every dialect that speaks it: one way to send a request, one mapping of its failures.
//!
//! Knows credentials, proxies and statuses; knows no dialect.

mod account;
mod ask;
mod authorities;
mod body;
mod cause;
pub mod check;
mod clients;
mod event_stream;
mod failure;
mod limits;
mod models;
mod network;
mod proxy;
mod retry;
mod v1;
mod warm;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::credentials::{Credentials, Secret};
use crate::config::ProviderSettings;
use crate::error::{Error, Kind};
use crate::protocol::RateLimit;

pub use authorities::Authorities;
use body::Body;
pub use body::Form;
pub use cause::Cause;
pub use clients::Http;
pub use event_stream::EventStream;
pub use failure::{Failure, Peer};
pub use network::Network;
pub(in crate::provider) use proxy::is_this_machine;
pub use proxy::{Proxy, Way};
pub use retry::Retries;
pub(in crate::provider) use v1::is_openai;

/// The most of an answer that is kept in memory where it is not a stream of events: lists and errors are small.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// How the secret is put into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of its own, such as `api-key`; but a token goes the first way, as Azure has it for its two kinds of
    /// credentials.
    Header(&'static str),
}

impl Scheme {
    fn header(self, secret: &Secret) -> (HeaderName, String) {
        let text = secret.expose();
        match self {
            Scheme::Header(name) if !secret.is_token() => (HeaderName::from_static(name), text.to_owned()),
            Scheme::Header(_) | Scheme::Bearer => (AUTHORIZATION, format!("Bearer {text}")),
        }
    }
}

/// One provider's way to its upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// The shared client.
    pub http: Http,
    /// The provider's name in the settings, for errors.
    pub provider: String,
    /// What every path is put behind.
    pub base: Url,
    /// What every query begins with, such as `api-version`.
    pub query: Vec<(&'static str, String)>,
    /// What every request carries besides its credentials.
    pub headers: HeaderMap,
    /// The key or token.
    pub credentials: Credentials,
    /// How it is sent.
    pub scheme: Scheme,
    /// How long the upstream may be silent before the connection counts as broken.
    pub idle: Duration,
    /// The model that the upstream offers, where it was asked and offers just one. Empty at first.
    pub only_model: OnceCell<String>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Body,
}

impl Call {
    /// `GET` of the path made of these segments, which are escaped.
    pub fn get<S: Into<String>>(path: impl IntoIterator<Item = S>) -> Self {
        Call {
            method: Method::GET,
            path: path.into_iter().map(Into::into).collect(),
            query: Vec::new(),
            body: Body::None,
        }
    }

    /// `POST` to the path made of these segments, without a body.
    pub fn post<S: Into<String>>(path: impl IntoIterator<Item = S>) -> Self {
        Call {
            method: Method::POST,
            ..Call::get(path)
        }
    }

    /// The same with a body of JSON.
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Json(body.into());
        self
    }

    /// The same with a form that brings a file.
    pub fn multipart(mut self, form: Form) -> Self {
        self.body = Body::Form(form);
        self
    }

    /// The same with one more pair in its query.
    pub fn with_query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

/// A URL without what may be secret in it, to be shown or asked.
pub(in crate::provider) fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// An answer that is no error.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    peer: Peer,
    idle: Duration,
}

impl Endpoint {
    /// The headers that a provider's settings add to every request.
    pub fn headers(provider: &str, settings: &ProviderSettings) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let wrong = |what: &str| {
                Error::new(
                    Kind::ConfigInvalid,
                    format!("expected a valid HTTP header in `headers` of provider `{provider}`, found the {what} of `{name}`"),
                )
                .with_provider(provider)
            };
            let header = HeaderName::try_from(name.as_str()).map_err(|_| wrong("name"))?;
            headers.insert(
                header,
                HeaderValue::try_from(value.as_str()).map_err(|_| wrong("value"))?,
            );
        }
        Ok(headers)
    }

    /// A base URL, checked.
    pub fn base(provider: &str, text: &str) -> Result<Url, Error> {
        let url = Url::parse(text.trim()).ok();
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Error::new(
                    Kind::ConfigInvalid,
                    format!("expected `base_url` of provider `{provider}` to be an http or https URL"),
                )
                .with_provider(provider)
            })
    }

    /// Sends a request once, and once more with new credentials if the upstream refuses those that it has and there
    /// are others. Gives every status but 2xx as a failure.
    pub async fn send(&self, call: &Call) -> Result<Answer, Failure> {
        let mut renewed = false;
        loop {
            let secret = self.credentials.get().await?;
            let peer = Peer::new(&self.provider, secret.clone()).through(self.http.proxy(&self.base));
            let request = self.request(call, secret.as_ref())?;
            tracing::debug!(provider = self.provider, method = %call.method, path = request.url().path(), "sends");
            let client = self.http.client(&self.base)?;
            let request = call.body.put_into(request, &client);
            let request = request.map_err(|error| peer.unreachable(error))?;
            let patience = call.body.patience(self.idle);
            let response = match tokio::time::timeout(patience, client.execute(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(peer.unreachable(error)),
                Err(_) => return Err(peer.silent(patience).into()),
            };
            let status = response.status();
            tracing::debug!(provider = self.provider, status = status.as_u16(), "is answered");
            let answer = Answer {
                response,
                peer,
                idle: self.idle,
            };
            if status.is_success() {
                return answer.unless_web_page();
            }
            if status.as_u16() == 401 && !renewed && self.credentials.renew(secret.as_ref()).await? {
                renewed = true;
                continue;
            }
            return Err(answer.into_failure().await);
        }
    }

    fn request(&self, call: &Call, secret: Option<&Secret>) -> Result<reqwest::Request, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .extend(&call.path);
        let query = self.query.iter().chain(&call.query);
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut request = reqwest::Request::new(call.method.clone(), url);
        *request.headers_mut() = self.headers.clone();
        if let Some(secret) = secret {
            let (name, value) = self.scheme.header(secret);
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                Error::new(
                    Kind::AuthRequired,
                    format!(
                        "expected the key of provider `{}` to be printable text on one line",
                        self.provider
                    ),
                )
                .with_provider(&self.provider)
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}

impl Answer {
    /// What the upstream says of its limits, if it says anything.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        limits::told(self.response.headers())
    }

    /// Whether the body is one JSON text, by its `Content-Type`: a server that does not stream.
    pub fn is_json(&self) -> bool {
        let media_type = self.response.headers().get(CONTENT_TYPE);
        media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/json"))
    }

    /// Whose answer this is, for errors that are told in it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The body as server-sent events, whatever `Content-Type` says: some proxies leave it out.
    pub fn events(self) -> EventStream {
        EventStream::new(self.response, self.peer, self.idle)
    }

    /// The body as one JSON text.
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        let body = self.body().await?;
        serde_json::from_slice(&body).map_err(|error| {
            // The parser's words may quote what it found.
            let problem = self.peer.cut(&error.to_string());
            let provider = self.peer.provider();
            Error::new(
                Kind::Upstream,
                format!("expected JSON from provider `{provider}`: {problem}"),
            )
            .with_provider(provider)
            .with_hint("does `base_url` lead to the API, with its `/v1` or the like?")
        })
    }

    /// A web page is nobody's API: the base URL leads beside it.
    fn unless_web_page(self) -> Result<Answer, Failure> {
        let kind = self.response.headers().get(CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
            return Ok(self);
        }
        Err(self.peer.web_page().into())
    }

    async fn into_failure(mut self) -> Failure {
        // A body that breaks off, or never comes, still leaves the status to tell of.
        let body = self.body().await.unwrap_or_default();
        self.peer
            .refused(self.response.status(), self.response.headers(), &body)
    }

    async fn body(&mut self) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let chunk = tokio::time::timeout(self.idle, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| self.peer.silent(self.idle))?;
            match chunk.map_err(|error| self.peer.broken(error))? {
                Some(chunk) if body.len() + chunk.len() <= BODY_MAX => body.extend_from_slice(&chunk),
                _ => return Ok(body),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        let url = Url::parse("https://user:pass@host.example/v1?key=secret#part").unwrap();
        assert_eq!(bare(&url).as_str(), "https://host.example/v1");
    }

    #[test]
    fn azure_gets_a_key_in_its_own_header_and_a_token_as_a_bearer() {
        let with = |secret: Secret| Scheme::Header("api-key").header(&secret);
        let header = |secret: &str| with(Secret::new(secret));
        assert_eq!(
            header("0123abc"),
            (HeaderName::from_static("api-key"), "0123abc".into())
        );
        assert_eq!(
            header("eyJhbGc.eyJpc3M.c2ln"),
            (AUTHORIZATION, "Bearer eyJhbGc.eyJpc3M.c2ln".into())
        );
        assert_eq!(with(Secret::token("opaque")), (AUTHORIZATION, "Bearer opaque".into()));
    }
}
