//! Settings as plain data, read once: `config.toml`, then `ASSISTD_*` and the well-known variables, then flags, then
//! what `initialize` brings; the later overrides the earlier.
//!
//! Nothing here reads a file or the environment by itself: `main` hands both in. A wrong setting never stops the
//! daemon; it is kept in [`Settings::problems`] and told to whoever asks.

mod choice;
mod keys;
mod layer;
mod mcp;
mod seconds;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::protocol::{Options, Tool, Truncation};

pub use choice::{Choice, EMBEDDED_INSTRUCTIONS, LocalServer};
pub use keys::password_of;
pub use layer::{Layer, parse_json, parse_toml};
pub use mcp::{Approve, McpSettings};

/// The environment, as it was when the program started.
pub type Environment = BTreeMap<String, String>;

/// Everything that can be set, all layers merged.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the layers said, merged.
    pub layer: Layer,
    /// The environment; keys are looked up in it by the name that a provider gives.
    pub environment: Environment,
    /// Where the database and the journal are; none keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Where weights are kept.
    pub cache_dir: PathBuf,
    /// Set where the frames are not to be guessed.
    pub framing: Option<Framing>,
    /// Where both directions of the wire are written, keys blanked.
    pub wire_log: Option<PathBuf>,
    /// The server that was found on this machine, once somebody has looked: see [`Settings::wants_local`].
    pub local: Option<LocalServer>,
    /// Whether the command may fetch the embedded model's weights itself (the console may).
    pub may_fetch: bool,
    /// Whether this process looks after what dead ones left behind.
    pub role: Role,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
}

/// What a process is to the database that it shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It stays: it looks after what dead processes left behind.
    Daemon,
    /// It is gone after one command.
    OneShot,
}

/// How messages are told apart on a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// One JSON text per line.
    Lines,
    /// `Content-Length` headers, as language servers have them.
    Headers,
}

/// An upstream API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The Assistants v2 wire.
    Assistants,
    /// The Responses API.
    Responses,
    /// Chat Completions and what is compatible.
    Chat,
    /// A small model inside the process.
    Embedded,
    /// A script for people who test their plugin.
    Scripted,
}

impl Dialect {
    /// The dialects that this build speaks.
    pub const BUILT: &[Dialect] = &[
        Dialect::Assistants,
        Dialect::Responses,
        Dialect::Chat,
        #[cfg(feature = "embedded")]
        Dialect::Embedded,
        Dialect::Scripted,
    ];

    /// As the settings write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Assistants => "assistants",
            Dialect::Responses => "responses",
            Dialect::Chat => "chat",
            Dialect::Embedded => "embedded",
            Dialect::Scripted => "scripted",
        }
    }
}

/// Whose variant of a dialect an upstream speaks; guessed from its host where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// api.openai.com's shape, and everybody's who imitates it: a bearer key.
    Openai,
    /// Azure OpenAI: the key goes into `api-key`, a token is a bearer.
    Azure,
    /// Microsoft Foundry: a bearer token.
    Foundry,
}

/// Who gives a provider's tokens, where they come neither from a variable nor from a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// The client, by `auth/token`.
    Client,
    /// Microsoft Entra ID, by whichever of its usual sources is there.
    Entra,
}

/// Where a thread's history is kept for the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// In our own database: each request brings all of it, and the upstream keeps nothing.
    Local,
    /// At the upstream: each request names the response before it.
    Upstream,
}

impl Service {
    /// Whose a base URL is, by its host.
    pub fn of(base: &reqwest::Url) -> Service {
        let host = base.host_str().unwrap_or_default();
        if host.ends_with(".openai.azure.com") || host.ends_with(".cognitiveservices.azure.com") {
            Service::Azure
        } else if host.ends_with(".services.ai.azure.com") {
            Service::Foundry
        } else {
            Service::Openai
        }
    }
}

/// `[providers.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// Which API it speaks.
    pub dialect: Dialect,
    /// Where it is, such as `http://127.0.0.1:8080/v1`; `https://api.openai.com/v1` where absent.
    #[serde(default, alias = "baseUrl", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Whose variant it is; guessed from the host where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The environment variable that holds the key.
    #[serde(default, alias = "apiKeyEnv", skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// A program and its arguments that print the key or token.
    #[serde(default, alias = "apiKeyCommand", skip_serializing_if = "Option::is_none")]
    pub api_key_command: Option<Vec<String>>,
    /// For how many seconds what the program printed is used at most; where absent, as long as it says itself, or until
    /// the upstream refuses it.
    #[serde(default, alias = "apiKeyTtl", skip_serializing_if = "Option::is_none")]
    pub api_key_ttl: Option<f64>,
    /// Who gives tokens instead: `client` (by `auth/token`) or `entra` (Microsoft Entra ID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whom the tokens of Entra ID are for; that of Azure OpenAI or of Foundry where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The proxy on the way to this provider, whatever else is set and also on this machine; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// A PEM file of authorities whose certificates are accepted besides the platform's.
    #[serde(default, alias = "caFile", skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The `api-version` query of Azure and Foundry.
    #[serde(default, alias = "apiVersion", skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The model that is used where nothing names one; for `embedded` the path of a GGUF file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The script of the `scripted` dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<PathBuf>,
    /// More request headers; never for keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Where the history of `responses` is kept: here (and sent with each request) or at the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Whether runs of `responses` go on upstream when the connection breaks or assistd dies, and are taken up again
    /// where they were. The upstream keeps the responses then; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<bool>,
    /// More members for the body of each request of `responses` and `chat` that asks for an answer, as the upstream's
    /// API names them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub body: serde_json::Map<String, serde_json::Value>,
    /// How long a stream may be silent before it counts as broken, in seconds; 120 where absent.
    #[serde(
        default,
        alias = "idleTimeout",
        deserialize_with = "seconds::above_zero",
        skip_serializing_if = "Option::is_none"
    )]
    pub idle_timeout: Option<f64>,
    /// How often a failed request is repeated before anything was shown; 2 where absent.
    #[serde(default, alias = "maxRetries", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

impl ProviderSettings {
    /// A provider of this dialect with nothing else set.
    pub fn new(dialect: Dialect) -> Self {
        ProviderSettings {
            dialect,
            base_url: None,
            service: None,
            api_key_env: None,
            api_key_command: None,
            api_key_ttl: None,
            auth: None,
            scope: None,
            proxy: None,
            ca_file: None,
            api_version: None,
            model: None,
            script: None,
            headers: BTreeMap::new(),
            history: None,
            background: None,
            body: serde_json::Map::new(),
            idle_timeout: None,
            max_retries: None,
        }
    }

    /// Whose variant it is: as set, or guessed from the host.
    pub fn resolved_service(&self) -> Service {
        let base = self
            .base_url
            .as_deref()
            .and_then(|text| reqwest::Url::parse(text.trim()).ok());
        let by_host = base.as_ref().map_or(Service::Openai, Service::of);
        self.service.unwrap_or(by_host)
    }

    /// For how long what the key command printed is used at most.
    pub fn api_key_ttl(&self) -> Option<Duration> {
        let seconds = self
            .api_key_ttl
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
        Some(Duration::from_secs_f64(seconds.min(1e8)))
    }

    /// Some settings of a provider promise what only one dialect can keep.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        let promised = if self.background.is_some() {
            "background"
        } else if self.history.is_some() {
            "history"
        } else {
            return Ok(());
        };
        if self.dialect == Dialect::Responses {
            return Ok(());
        }
        let dialect = self.dialect.as_str();
        Err(Error::new(
            Kind::ConfigInvalid,
            format!("provider `{name}` speaks `{dialect}`, which has no `{promised}`: only `responses` has it"),
        )
        .with_provider(name)
        .with_hint(format!(
            "take `{promised}` out of `[providers.{name}]`, or set its dialect to `responses`"
        )))
    }

    /// How long a stream may be silent.
    pub fn idle_timeout(&self) -> Duration {
        let seconds = self.idle_timeout.filter(|s| s.is_finite() && *s > 0.0).unwrap_or(120.0);
        Duration::from_secs_f64(seconds.min(86_400.0))
    }

    /// How often a failed request is repeated.
    pub fn max_retries(&self) -> u32 {
        self.max_retries.unwrap_or(2)
    }
}

/// `[assistants.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssistantSettings {
    /// Which provider answers.
    pub provider: String,
    /// Its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The upstream's id of it (`asst_…`), for the `assistants` dialect.
    #[serde(default, alias = "assistantId", skip_serializing_if = "Option::is_none")]
    pub assistant_id: Option<String>,
    /// Tools that the client answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// The MCP servers whose tools it may call, by name; all of the settings where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Vec<String>>,
    /// Sampling and limits.
    #[serde(default)]
    pub options: Options,
    /// What its new threads leave out when the context is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<Truncation>,
}

/// The largest message taken where nothing else is set: 64 MiB.
pub const MAX_INPUT_BYTES: u64 = 64 * 1024 * 1024;

impl Settings {
    /// Settings of nothing: no file, no environment, everything in memory.
    pub fn ephemeral() -> Self {
        Settings {
            layer: Layer::default(),
            environment: Environment::new(),
            data_dir: None,
            cache_dir: std::env::temp_dir(),
            framing: None,
            wire_log: None,
            local: None,
            may_fetch: false,
            role: Role::Daemon,
            problems: Vec::new(),
        }
    }

    /// Puts the settings of `initialize` over these. What is wrong with them becomes a problem.
    pub fn override_with(&mut self, settings: serde_json::Map<String, serde_json::Value>) {
        match layer::from_json(settings) {
            Ok(layer) => self.layer.override_with(layer),
            Err(problem) => self.problems.push(problem),
        }
    }

    /// The largest message taken, in bytes.
    pub fn max_input_bytes(&self) -> u64 {
        self.layer.max_input_bytes.unwrap_or(MAX_INPUT_BYTES)
    }

    /// How long a client may take to answer `tool/call`.
    pub fn tool_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.layer.tool_timeout.unwrap_or(60.0).clamp(0.001, 86_400.0))
    }

    /// Whether the daemon may fetch the embedded model's weights.
    pub fn may_fetch_weights(&self) -> bool {
        self.may_fetch || self.layer.fetch_weights.unwrap_or(false)
    }
}
