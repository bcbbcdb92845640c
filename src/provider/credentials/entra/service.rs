//! One question to a token service, and what is wrong with its answer.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;

use super::super::Token;
use crate::error::Kind;
use crate::provider::http::{Cause, Http, is_this_machine};

/// How much of a service's words is passed on, in characters.
const SAID_MAX: usize = 300;

/// A request for a token.
pub struct Ask<'a> {
    method: Method,
    url: Url,
    limit: Duration,
    /// The body, as forms have it; none if empty.
    pub form: Vec<(&'a str, &'a str)>,
    /// One more header. Its value may be a secret.
    pub header: Option<(&'static str, &'a str)>,
}

/// Why there is no token.
pub struct Problem {
    pub kind: Kind,
    /// For the end of a sentence. It may quote what was sent.
    pub what: String,
    pub hint: Option<&'static str>,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, url: Url, limit: Duration) -> Self {
        Ask {
            method,
            url,
            limit,
            form: Vec::new(),
            header: None,
        }
    }

    /// Sends it once.
    pub async fn send(self, http: &Http) -> Result<Token, Problem> {
        let client = http
            .client(&self.url)
            .map_err(|error| Problem::new(error.kind(), error.message))?;
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let limit = self.limit;
        let request = self.request()?;
        let asking = async {
            let response = client.execute(request).await?;
            let status = response.status();
            Ok((status, response.bytes().await?))
        };
        let (status, body) = match tokio::time::timeout(limit, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Problem::unreachable(&host, &error)),
            Err(_) => {
                let what = format!("{host} did not answer within {} s", limit.as_secs());
                return Err(Problem::new(Kind::Network, what));
            }
        };
        let body = String::from_utf8_lossy(&body);
        if status.is_success() {
            // A bare text would be taken for a token.
            let json = Some(&*body).filter(|body| body.trim_start().starts_with('{'));
            let token = json.and_then(|body| Token::read(body, SystemTime::now()));
            return token.ok_or_else(|| Problem::new(Kind::Upstream, format!("{host} answered without a token")));
        }
        let kind = if status.is_server_error() {
            Kind::Upstream
        } else {
            Kind::AuthRequired
        };
        let said = said(&body).map(|said| format!(": {said}")).unwrap_or_default();
        let what = format!("{host} refused (HTTP {}){said}", status.as_u16());
        Err(Problem::new(kind, what))
    }

    fn request(self) -> Result<reqwest::Request, Problem> {
        let mut request = reqwest::Request::new(self.method, self.url);
        if let Some((name, value)) = self.header {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| Problem::new(Kind::AuthRequired, "IDENTITY_HEADER cannot be sent as it is"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        if !self.form.is_empty() {
            let mut body = Url::parse("form:").expect("this is a URL");
            body.query_pairs_mut().extend_pairs(self.form);
            let body = body.query().unwrap_or_default().to_owned();
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, form);
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }
}

impl Problem {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Problem {
            kind,
            what: what.into(),
            hint: None,
        }
    }

    fn unreachable(host: &str, error: &reqwest::Error) -> Self {
        let cause = Cause::of(error);
        Problem {
            hint: cause.hint.filter(|hint| !hint.contains("base_url")),
            ..Problem::new(Kind::Network, format!("{host} cannot be reached: {}", cause.what))
        }
    }
}

/// Whether a secret may be sent there.
pub fn is_safe(url: &Url) -> bool {
    let is_near = url.host_str().is_some_and(is_this_machine);
    url.has_host() && (url.scheme() == "https" || (url.scheme() == "http" && is_near))
}

/// The first line of what the service says is wrong: RFC 6749, 5.2, or the metadata service's own form.
fn said(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let said = text(&body["error_description"])
        .or_else(|| text(&body["error"]["message"]))
        .or_else(|| text(&body["message"]))
        .or_else(|| text(&body["error"]))?;
    let line = said.lines().next()?.trim();
    Some(line.chars().take(SAID_MAX).collect())
}
