//! Every failure that a user can see, with its one mapping to the wire.
//!
//! `code` and `kind` are for programs to branch on and are documented in `protocol.md`; `message` is a sentence for a
//! person and may change. An error never holds a key, a prompt or the contents of a file: what comes from an upstream
//! is cut to [`UPSTREAM_MESSAGE_MAX`] bytes and scrubbed of known keys before it gets here.
//! Nothing here knows JSON-RPC's framing.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest message of an upstream that is passed on, in bytes.
pub const UPSTREAM_MESSAGE_MAX: usize = 1024;

/// What failed, as a stable word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The text is not JSON, or its frame could not be read.
    ParseError,
    /// The JSON is not a JSON-RPC 2.0 message, or comes at the wrong time.
    InvalidRequest,
    /// No such method.
    MethodNotFound,
    /// The method does not take these parameters.
    InvalidParams,
    /// A panic or a bug; details are in the log.
    Internal,
    /// The upstream refused or failed, and no other kind says it better.
    Upstream,
    /// No credentials, or the upstream does not accept them.
    AuthRequired,
    /// No such thread, run, message, assistant or model.
    NotFound,
    /// `protocolVersion` is not one that this build speaks.
    UnsupportedVersion,
    /// The thread has a run under way, or its queue is full.
    Busy,
    /// The upstream asks to be asked later.
    RateLimited,
    /// The account upstream has nothing left to spend.
    QuotaExceeded,
    /// The upstream could not be reached, or the connection broke.
    Network,
    /// A message or its content is larger than what is accepted.
    InputTooLarge,
    /// The conversation does not fit the model's context.
    ContextOverflow,
    /// A setting is wrong or missing.
    ConfigInvalid,
    /// `shutdown` was asked for; no more requests are taken.
    ShuttingDown,
    /// The upstream's content filter refused the prompt.
    ContentFiltered,
    /// The database or the journal could not be read or written.
    Storage,
    /// The upstream has no capacity at the moment.
    Overloaded,
    /// The result is larger than `maxMessageBytes`.
    OutputTooLarge,
}

impl Kind {
    /// Every kind, in the order of the codes; `protocol.md` lists them so.
    pub const ALL: [Kind; 21] = [
        Kind::ParseError,
        Kind::InvalidRequest,
        Kind::MethodNotFound,
        Kind::InvalidParams,
        Kind::Internal,
        Kind::Upstream,
        Kind::AuthRequired,
        Kind::NotFound,
        Kind::UnsupportedVersion,
        Kind::Busy,
        Kind::RateLimited,
        Kind::QuotaExceeded,
        Kind::Network,
        Kind::InputTooLarge,
        Kind::ContextOverflow,
        Kind::ConfigInvalid,
        Kind::ShuttingDown,
        Kind::ContentFiltered,
        Kind::Storage,
        Kind::Overloaded,
        Kind::OutputTooLarge,
    ];

    /// The code of the error object. Those down to −32603 are JSON-RPC's; −32001 and −32002 are never used, since
    /// editors read the Language Server Protocol's meanings into them.
    pub fn code(self) -> i32 {
        match self {
            Kind::ParseError => -32700,
            Kind::InvalidRequest => -32600,
            Kind::MethodNotFound => -32601,
            Kind::InvalidParams => -32602,
            Kind::Internal => -32603,
            Kind::Upstream => -32000,
            Kind::AuthRequired => -32003,
            Kind::NotFound => -32004,
            Kind::UnsupportedVersion => -32005,
            Kind::Busy => -32006,
            Kind::RateLimited => -32007,
            Kind::QuotaExceeded => -32008,
            Kind::Network => -32009,
            Kind::InputTooLarge => -32010,
            Kind::ContextOverflow => -32011,
            Kind::ConfigInvalid => -32012,
            Kind::ShuttingDown => -32013,
            Kind::ContentFiltered => -32015,
            Kind::Storage => -32016,
            Kind::Overloaded => -32017,
            Kind::OutputTooLarge => -32018,
        }
    }

    /// Whether the same request may succeed later without being changed.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Kind::Busy | Kind::RateLimited | Kind::Network | Kind::Overloaded | Kind::Upstream
        )
    }
}

/// A failure, as the client is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    /// See the table of codes.
    pub code: i32,
    /// What failed, why, and what to do, for a person.
    pub message: Cow<'static, str>,
    /// For programs.
    pub data: Box<Details>,
}

/// `data` of every error object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// A stable word.
    pub kind: Kind,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long the upstream asks to wait, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The provider's name in the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What the upstream said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
    /// The thread of the run that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// The run that failed, or that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The message with the text so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The size in bytes of what does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// An upstream's own account of a failure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The upstream's error code, such as `rate_limit_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Its message, scrubbed of keys and cut at 1 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its name for the request, to quote to its support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Error {
    /// An error of this kind, with its usual code.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Error {
            code: kind.code(),
            message: message.into(),
            data: Box::new(Details {
                kind,
                retryable: kind.retryable(),
                retry_after_ms: None,
                provider: None,
                upstream: None,
                hint: None,
                thread_id: None,
                run_id: None,
                message_id: None,
                size: None,
            }),
        }
    }

    /// The kind, for branching.
    pub fn kind(&self) -> Kind {
        self.data.kind
    }

    /// The same error under another code.
    pub fn with_code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// The same error, saying whether it may pass.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.data.retryable = retryable;
        self
    }

    /// The same error, saying what to do.
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.data.hint = Some(hint.into());
        self
    }

    /// The same error, naming the provider.
    pub fn with_provider(mut self, provider: impl Into<String>) -> Self {
        self.data.provider = Some(provider.into());
        self
    }

    /// The same error, with what the upstream said.
    pub fn with_upstream(mut self, upstream: Upstream) -> Self {
        self.data.upstream = Some(upstream);
        self
    }

    /// The same error, with the wait that the upstream asks for.
    pub fn with_retry_after(mut self, delay: std::time::Duration) -> Self {
        self.data.retry_after_ms = Some(delay.as_millis() as u64);
        self
    }

    /// The same error, naming the run that it is about.
    pub fn with_run(mut self, thread_id: &str, run_id: &str, message_id: Option<&str>) -> Self {
        self.data.thread_id = Some(thread_id.to_owned());
        self.data.run_id = Some(run_id.to_owned());
        self.data.message_id = message_id.map(str::to_owned);
        self
    }

    /// The same error, with the size of what does not fit.
    pub fn with_size(mut self, bytes: u64) -> Self {
        self.data.size = Some(bytes);
        self
    }

    /// What the upstream said, in its own words; empty where it said nothing.
    pub fn upstream_message(&self) -> &str {
        let upstream = self.data.upstream.as_ref();
        upstream
            .and_then(|upstream| upstream.message.as_deref())
            .unwrap_or_default()
    }

    /// The upstream's code for it; empty where it has none.
    pub fn upstream_code(&self) -> &str {
        let upstream = self.data.upstream.as_ref();
        upstream
            .and_then(|upstream| upstream.code.as_deref())
            .unwrap_or_default()
    }

    /// The HTTP status, if the upstream answered with one.
    pub fn upstream_status(&self) -> Option<u16> {
        self.data.upstream.as_ref()?.status
    }

    /// ``expected `content` to be a string``: parameters that the method does not take.
    pub fn invalid_params(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::InvalidParams, message)
    }

    /// ``no thread `t7` ``: something named that does not exist.
    pub fn not_found(what: &str, id: &str) -> Self {
        Error::new(Kind::NotFound, format!("no {what} `{id}`"))
    }
}

/// Only this error's own level: the chain of causes goes to the log, never to the wire.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
