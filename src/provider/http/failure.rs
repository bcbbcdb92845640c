//! What went wrong with a request, in a sentence and as a kind: one mapping for every dialect.
//!
//! Nothing gets past here that holds the provider's secret: every word of an upstream is scrubbed and cut first.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};
use serde_json::Value;

use super::Proxy;
use super::cause::{Cause, was_not_begun};
use super::limits::retry_after;
use crate::error::{Error, Kind, UPSTREAM_MESSAGE_MAX, Upstream};
use crate::provider::credentials::Secret;

/// How much of an upstream's message stands in our own sentence, in bytes.
const QUOTE_MAX: usize = 300;

/// How upstreams say that a conversation does not fit the model, in lower case.
const CONTEXT_WORDS: [&str; 13] = [
    // OpenAI, vLLM, DeepSeek, OpenRouter, Groq
    "maximum context length",
    "reduce the length of the messages",
    // vLLM, of a prompt
    "longer than the maximum model length",
    // llama.cpp
    "the available context size",
    // Ollama
    "exceeds the context length",
    "exceeded max context length",
    // LM Studio
    "context length of only",
    "greater than the context length",
    // xAI
    "maximum prompt length",
    // Anthropic
    "prompt is too long",
    // Google
    "exceeds the maximum number of tokens",
    // Amazon
    "input is too long for requested model",
    // LM Studio and others
    "context window",
];

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

/// An upstream's own account of what is wrong.
#[derive(Default)]
struct Account {
    status: Option<u16>,
    /// A code that is a status: what it would have been, had the answer not begun with another.
    told_status: Option<u16>,
    code: Option<String>,
    /// `type`, which some upstreams give instead of a code.
    class: Option<String>,
    message: Option<String>,
}

impl Account {
    /// The status of a refusal: that of the answer, unless the answer began well.
    fn status(&self) -> Option<u16> {
        let began_well = self.status.is_none_or(|status| status < 300);
        self.told_status.filter(|_| began_well).or(self.status)
    }

    fn kind(&self) -> Kind {
        let words = [self.code.as_deref(), self.class.as_deref()];
        for word in words.into_iter().flatten() {
            match word {
                "insufficient_quota" | "billing_hard_limit_reached" => return Kind::QuotaExceeded,
                // Both also come with the runs that an account without quota starts.
                "rate_limit_exceeded" | "rate_limit_error" | "too_many_requests" if self.speaks_of_quota() => {
                    return Kind::QuotaExceeded;
                }
                "rate_limit_exceeded" | "rate_limit_error" | "too_many_requests" => return Kind::RateLimited,
                "context_length_exceeded" | "exceed_context_size_error" => return Kind::ContextOverflow,
                // `invalid_prompt` is what a prompt gets that was found to break the rules of use.
                "content_filter" | "content_policy_violation" | "invalid_prompt" => return Kind::ContentFiltered,
                "invalid_api_key" | "authentication_error" => return Kind::AuthRequired,
                "overloaded_error" | "server_overloaded" => return Kind::Overloaded,
                _ => {}
            }
        }
        match self.status() {
            None | Some(200 | 400 | 413 | 422 | 500) if self.speaks_of_context() => Kind::ContextOverflow,
            Some(401 | 403) => Kind::AuthRequired,
            Some(404 | 410) => Kind::NotFound,
            Some(413) => Kind::InputTooLarge,
            Some(429) => Kind::RateLimited,
            Some(503 | 529) => Kind::Overloaded,
            _ => Kind::Upstream,
        }
    }

    fn speaks_of_quota(&self) -> bool {
        self.message
            .as_deref()
            .is_some_and(|message| message.contains("exceeded your current quota"))
    }

    /// Whether the conversation is too long, in the words of those who have no code for it.
    fn speaks_of_context(&self) -> bool {
        let Some(message) = &self.message else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        CONTEXT_WORDS.iter().any(|words| message.contains(words))
    }

    /// Whether the same may succeed later.
    fn passes(&self) -> bool {
        match self.kind() {
            Kind::RateLimited | Kind::Overloaded => true,
            Kind::Upstream => match self.status() {
                None | Some(200..=299) => !self.is_our_fault(),
                // llama.cpp has 500 for a picture that its model cannot see.
                Some(500) if self.says_never() => false,
                Some(status) => matches!(status, 408 | 409 | 500..),
            },
            _ => false,
        }
    }

    fn says_never(&self) -> bool {
        let message = self.message.as_deref();
        message.is_some_and(|message| message.contains("is not supported"))
    }

    fn is_our_fault(&self) -> bool {
        let words = [self.code.as_deref(), self.class.as_deref()];
        words.into_iter().flatten().any(|word| word.starts_with("invalid_"))
    }

    fn hint(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::AuthRequired => {
                Some("see that the key is valid for this `base_url`: `api_key_env` or `api_key_command`")
            }
            Kind::NotFound if self.code.as_deref() == Some("model_not_found") => {
                Some("`model/list` and `assistd model list` show the models that it offers")
            }
            Kind::NotFound => {
                Some("check `base_url` (most end in `/v1`), `api_version`, and the ids and model names of the settings")
            }
            Kind::QuotaExceeded => Some("the upstream's billing page says what is left"),
            Kind::ContextOverflow => Some("start a new thread, or use a model with a larger context"),
            Kind::Upstream if self.code.as_deref() == Some("server_error") => {
                Some("this often passes; at Azure it is also what a used up quota of tokens per minute looks like")
            }
            _ => None,
        }
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
mod tests {
    use super::*;

    fn refused(status: u16, headers: &[(&str, &str)], body: &str) -> Failure {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                reqwest::header::HeaderName::try_from(*name).unwrap(),
                value.parse().unwrap(),
            );
        }
        let peer = Peer::new("p", Some(Secret::new("sk-secret")));
        peer.refused(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes())
    }

    #[test]
    fn statuses_and_codes_become_kinds() {
        let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let filter = r#"{"error":{"message":"filtered","code":"content_filter"}}"#;
        let context = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
        let rows = [
            (401, "", Kind::AuthRequired, false, false),
            (403, "{}", Kind::AuthRequired, false, false),
            (404, "", Kind::NotFound, false, false),
            (400, r#"{"error":{"message":"bad"}}"#, Kind::Upstream, false, false),
            (400, filter, Kind::ContentFiltered, false, false),
            (400, context, Kind::ContextOverflow, false, false),
            (408, "", Kind::Upstream, true, true),
            (409, "", Kind::Upstream, true, true),
            (429, "", Kind::RateLimited, true, true),
            (429, quota, Kind::QuotaExceeded, false, false),
            (500, "<html>", Kind::Upstream, true, true),
            (
                500,
                r#"{"error":{"code":500,"message":"image input is not supported","type":"server_error"}}"#,
                Kind::Upstream,
                false,
                false,
            ),
            (
                503,
                r#"{"error":{"message":"Loading model","code":503}}"#,
                Kind::Overloaded,
                true,
                true,
            ),
        ];
        for (status, body, kind, retryable, repeatable) in rows {
            let failure = refused(status, &[], body);
            assert_eq!(failure.error.kind(), kind, "{status} {body}");
            assert_eq!(failure.error.data.retryable, retryable, "{status} {body}");
            assert_eq!(failure.repeatable, repeatable, "{status} {body}");
            assert_eq!(failure.error.data.upstream.unwrap().status, Some(status));
        }
    }

    #[test]
    fn a_conversation_that_is_too_long_is_known_by_its_words() {
        let rows = [
            (
                400,
                "request (1231 tokens) exceeds the available context size (512 tokens), try increasing it",
            ),
            (
                400,
                "This model's maximum context length is 2048 tokens. However, you requested 2500 tokens.",
            ),
            (400, "the input length exceeds the context length"),
            (500, "prompt too long; exceeded max context length by 4 tokens"),
            (413, "Please reduce the length of the messages or completion."),
            (
                400,
                "the model is loaded with context length of only 4096 tokens, which is not enough",
            ),
            (
                400,
                "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
            ),
        ];
        for (status, message) in rows {
            let body = serde_json::json!({ "error": { "message": message } }).to_string();
            let failure = refused(status, &[], &body);
            assert_eq!(failure.error.kind(), Kind::ContextOverflow, "{message}");
            assert!(!failure.repeatable && !failure.error.data.retryable, "{message}");
        }
        let elsewhere = refused(429, &[], r#"{"error":{"message":"over the context window quota"}}"#);
        assert_eq!(elsewhere.error.kind(), Kind::RateLimited);
    }

    #[test]
    fn the_secret_is_blanked_and_long_messages_are_cut() {
        let body = format!(
            r#"{{"error":{{"message":"key sk-secret is bad {}"}}}}"#,
            "é".repeat(2000)
        );
        let error = refused(401, &[("x-request-id", "req_1")], &body).error;
        let text = serde_json::to_string(&error).unwrap();
        assert!(!text.contains("sk-secret"), "{text}");
        let upstream = error.data.upstream.unwrap();
        assert!(upstream.message.unwrap().len() <= UPSTREAM_MESSAGE_MAX);
        assert_eq!(upstream.request_id.as_deref(), Some("req_1"));
        assert!(
            error
                .message
                .starts_with("provider `p` does not accept the credentials: key *** is bad")
        );
    }

    #[test]
    fn the_upstream_may_say_how_long_to_wait() {
        let delay = |status, headers: &[(&str, &str)]| refused(status, headers, "").error.data.retry_after_ms;
        assert_eq!(delay(429, &[("retry-after", "7")]), Some(7000));
        assert_eq!(delay(429, &[("x-ratelimit-reset-requests", "120ms")]), Some(120));
        assert_eq!(delay(400, &[("retry-after", "7")]), None);
        assert_eq!(delay(429, &[]), None);
    }

    #[test]
    fn a_proxy_that_wants_a_password_is_not_taken_for_the_upstream() {
        let failure = refused(407, &[], r#"{"error":{"message":"who are you?"}}"#);
        assert_eq!(failure.error.kind(), Kind::Network);
        assert!(!failure.repeatable && !failure.error.data.retryable);
        assert!(
            failure.error.message.contains("the proxy wants a user"),
            "{}",
            failure.error
        );
    }

    #[test]
    fn errors_are_found_in_every_shape() {
        let told = |body: &str| Peer::new("p", None).told(None, body.as_bytes());
        let message = |body: &str| told(body).and_then(|error| error.data.upstream?.message);
        assert_eq!(message(r#"{"error":{"message":"a"}}"#).as_deref(), Some("a"));
        assert_eq!(message(r#"{"error":"b"}"#).as_deref(), Some("b"));
        assert_eq!(
            message(r#"{"code":null,"message":"c","param":null,"type":"server_error"}"#).as_deref(),
            Some("c")
        );
        assert_eq!(message(r#"{"detail":"d"}"#).as_deref(), Some("d"));
        assert_eq!(
            message(r#"[{"error":{"code":400,"message":"e"}}]"#).as_deref(),
            Some("e")
        );
        assert_eq!(
            message(r#"{"detail":[{"loc":["body"],"msg":"f","type":"missing"}]}"#).as_deref(),
            Some("f")
        );
        assert_eq!(told(r#"{"id":"run_1","error":null}"#), None);
        assert_eq!(told("oops"), None);
    }

    #[test]
    fn a_redirect_names_the_host_and_not_the_path() {
        let error = refused(302, &[("location", "https://login.example/x?token=1")], "").error;
        assert!(error.message.contains("login.example,"), "{error}");
        assert!(!error.message.contains("token"), "{error}");
    }
}
