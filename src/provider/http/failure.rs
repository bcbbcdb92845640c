//! What went wrong with a request, in a sentence and as a kind: one mapping for every dialect.
//!
//! Nothing gets past here that holds the provider's secret: every word of an upstream is scrubbed and cut first.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};
use serde_json::Value;

use super::Proxy;
use super::account::Account;
use super::cause::{Cause, was_not_begun};
use super::limits::retry_after;
use crate::error::{Error, Kind, UPSTREAM_MESSAGE_MAX, Upstream};
use crate::provider::credentials::Secret;

/// How much of an upstream's message stands in our own sentence, in bytes.
const QUOTE_MAX: usize = 300;

/// A request that failed.
#[derive(Debug)]
pub struct Failure {
    /// As the client is told.
    pub error: Error,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Whether the request may be sent again as it is, because it cannot have had an effect.
    pub repeatable: bool,
}

/// A failure that no repetition mends.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            error,
            status: None,
            repeatable: false,
        }
    }
}

/// Whom a failure is about.
#[derive(Debug, Clone)]
pub struct Peer {
    provider: String,
    secret: Option<Secret>,
    proxy: Option<Proxy>,
}

impl Peer {
    /// The provider of this name, to which this secret was sent.
    pub fn new(provider: &str, secret: Option<Secret>) -> Self {
        Peer {
            provider: provider.to_owned(),
            secret,
            proxy: None,
        }
    }

    /// The same, reached through this proxy.
    pub fn through(mut self, proxy: Option<Proxy>) -> Peer {
        self.proxy = proxy;
        self
    }

    /// The provider's name.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What the upstream said, with every copy of the secret blanked.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.secret {
            Some(secret) => secret.scrub(text),
            None => text.into(),
        }
    }

    /// ``provider `openai` did this``
    pub fn error(&self, kind: Kind, did: &str) -> Error {
        Error::new(kind, format!("provider `{}` {did}", self.provider)).with_provider(&self.provider)
    }

    /// A web page in place of an answer: from a server of pages, or from somebody on the way, as a proxy or a network
    /// that wants one to sign in.
    pub fn web_page(&self) -> Error {
        self.error(Kind::Upstream, "answered with a web page")
            .retryable(false)
            .with_hint(
                "`base_url` has to be that of the API (most end in `/v1`), and no proxy or sign-in page may answer in its place",
            )
    }

    /// Not a byte came for this long.
    pub fn silent(&self, idle: Duration) -> Error {
        self.error(Kind::Network, &format!("was silent for {} s", idle.as_secs_f64()))
            .with_hint("`idle_timeout` of the provider says how long it may be silent")
    }

    /// The connection broke while the body came.
    pub fn broken(&self, error: reqwest::Error) -> Error {
        let cause = Cause::of(&error);
        log(&self.provider, error);
        self.error(
            Kind::Network,
            &format!("broke the connection before its answer was whole: {}", cause.what),
        )
    }

    /// No answer came at all. Where no connection was made the request may be repeated; where one broke the upstream
    /// may have begun to answer it, unless it says that it has not.
    pub fn unreachable(&self, error: reqwest::Error) -> Failure {
        let cause = Cause::of(&error);
        let connecting = error.is_connect();
        let not_begun = connecting || was_not_begun(&error);
        let place = error.url().and_then(|url| url.host_str()).unwrap_or("?").to_owned();
        log(&self.provider, error);
        let message = if connecting {
            let proxy = self.proxy.as_ref();
            let through = proxy.map(|proxy| format!(" through the proxy {}", proxy.place()));
            format!(
                "failed to reach provider `{}` at {place}{}: {}",
                self.provider,
                through.unwrap_or_default(),
                cause.what
            )
        } else if not_begun {
            format!(
                "provider `{}` closed the connection before it took the request",
                self.provider
            )
        } else {
            format!(
                "the connection to provider `{}` broke after the request was sent, and it may have been acted upon: {}",
                self.provider, cause.what
            )
        };
        let mut error = Error::new(Kind::Network, message)
            .with_provider(&self.provider)
            .retryable(cause.passes);
        error.data.hint = cause.hint.map(Into::into);
        if connecting && self.proxy.is_some() && cause.what == "connection refused" {
            error.data.hint = Some("is the proxy running? see the setting `proxy`, HTTPS_PROXY and NO_PROXY".into());
        }
        Failure {
            error,
            status: None,
            repeatable: not_begun && cause.passes,
        }
    }

    /// The upstream answered with a status that is no success.
    pub fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let code = status.as_u16();
        let mut error = match self.told(Some(code), body) {
            // What the proxy says of itself is not the upstream's word.
            _ if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => return self.stopped_by_proxy(),
            Some(error) => error,
            None if status.is_redirection() => self.redirected(code, headers),
            None => self.describe(Account {
                status: Some(code),
                message: text_of(body),
                ..Account::default()
            }),
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(upstream) = &mut error.data.upstream {
            upstream.request_id = header("x-request-id")
                .or_else(|| header("apim-request-id"))
                .map(|id| self.cut(id));
        }
        let passing = matches!(code, 408 | 409 | 429 | 500..);
        let delay = retry_after(status, headers, SystemTime::now());
        if let Some(delay) = delay.filter(|_| passing) {
            error = error.with_retry_after(delay);
        }
        let repeatable = passing && error.data.retryable;
        Failure {
            error,
            status: Some(code),
            repeatable,
        }
    }

    /// The error that a JSON text tells of: `{"error": {…}}`, `{"error": "…"}` or `{"message": …}`, also as the first
    /// of a list (Google's way); none if it does not.
    pub fn told(&self, status: Option<u16>, body: &[u8]) -> Option<Error> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let body = match &body {
            Value::Array(list) => list.first()?,
            body => body,
        };
        let told = match body.get("error") {
            Some(Value::Null) | None => body,
            Some(error) => error,
        };
        let text = |name: &str| match told.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let message = match told {
            Value::String(message) => Some(message.clone()),
            // What does not fit a server's description of a request is a list at some.
            _ => text("message")
                .or_else(|| text("detail"))
                .or_else(|| told["detail"][0]["msg"].as_str().map(str::to_owned)),
        };
        if message.is_none() && text("code").is_none() {
            return None;
        }
        let told_status = text("code").and_then(|code| code.parse::<u16>().ok());
        let told_status = told_status.filter(|code| (400..600).contains(code));
        Some(self.describe(Account {
            status,
            told_status,
            code: text("code"),
            class: text("type"),
            message,
        }))
    }

    /// The error of a run that failed after it began, by the upstream's code and words.
    pub fn failed(&self, code: Option<String>, message: Option<String>) -> Error {
        self.describe(Account {
            code,
            message,
            ..Account::default()
        })
    }

    fn describe(&self, account: Account) -> Error {
        let kind = account.kind();
        let did = match kind {
            Kind::AuthRequired => "does not accept the credentials",
            Kind::NotFound => "does not have what was asked for",
            Kind::RateLimited => "asks to be asked later",
            Kind::QuotaExceeded => "has nothing left to spend on this account",
            Kind::Overloaded => "has no capacity at the moment",
            Kind::ContextOverflow => "cannot take so long a conversation",
            Kind::ContentFiltered => "refused the prompt by its content filter",
            Kind::InputTooLarge => "cannot take so large a request",
            _ if account.passes() => "failed",
            _ => "refused the request",
        };
        let message = account.message.as_deref().map(|message| self.cut(message));
        let sentence = match (&message, account.status) {
            (Some(message), _) => format!("{did}: {}", cut(message, QUOTE_MAX)),
            (None, Some(status)) => format!("{did} (HTTP {status})"),
            (None, None) => did.to_owned(),
        };
        let mut error = self.error(kind, &sentence).retryable(account.passes());
        error.data.hint = account.hint(kind).map(Into::into);
        error.with_upstream(Upstream {
            status: account.status,
            code: account.code.or(account.class).map(|code| self.cut(&code)),
            message,
            request_id: None,
        })
    }

    fn stopped_by_proxy(&self) -> Failure {
        let cause = Cause::proxy_wants_credentials();
        let sentence = format!("failed to reach provider `{}`: {}", self.provider, cause.what);
        let mut error = Error::new(Kind::Network, sentence)
            .with_provider(&self.provider)
            .retryable(false);
        error.data.hint = cause.hint.map(Into::into);
        Failure {
            status: Some(407),
            ..Failure::from(error)
        }
    }

    fn redirected(&self, status: u16, headers: &HeaderMap) -> Error {
        let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let to = to.and_then(|to| reqwest::Url::parse(to).ok());
        let to = to.as_ref().and_then(|url| url.host_str()).unwrap_or("another place");
        self.error(
            Kind::Upstream,
            &format!("sends us on to {to}, where its credentials must not go"),
        )
        .retryable(false)
        .with_hint("put the place where the API really is into `base_url`")
        .with_upstream(Upstream {
            status: Some(status),
            ..Upstream::default()
        })
    }

    /// Scrubbed of the secret, and short enough to be passed on.
    pub(super) fn cut(&self, text: &str) -> String {
        cut(&self.scrub(text), UPSTREAM_MESSAGE_MAX).to_owned()
    }
}

fn log(provider: &str, error: reqwest::Error) {
    // A URL may hold credentials.
    let error = error.without_url();
    tracing::debug!(provider, ?error, "the connection failed");
}

/// A body that is not JSON, if it is meant for people: the first line, and nothing of a web page.
fn text_of(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let line = text
        .trim()
        .lines()
        .next()
        .filter(|line| !line.starts_with(['<', '{']))?;
    Some(line.to_owned())
}

/// The longest beginning of at most this many bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests;
