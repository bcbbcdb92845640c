//! What can be asked of a provider without a run: `provider/check`, which names the stage that fails, and `model/list`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `provider/check`: goes the way to a provider's upstream, stage by stage.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderCheckParams {
    /// The provider's name; the one that answers where nothing is named, if absent.
    pub provider: Option<String>,
    /// The model that should be there; the one that would be used, if absent.
    pub model: Option<String>,
}

/// What `provider/check` found. A stage that fails is a result, not an error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderCheckResult {
    /// Whether no stage has failed.
    pub ok: bool,
    /// The provider's name; absent where the settings are too wrong to choose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Its dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Which setting led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In the order in which they were gone through. Behind one that failed, the rest is skipped.
    pub stages: Vec<CheckStage>,
}

/// One stage of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStage {
    /// Which one.
    pub stage: StageName,
    /// How it went.
    pub status: StageStatus,
    /// What was found, or what failed, in a sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What was seen on the way.
    #[serde(default, skip_serializing_if = "CheckDetails::is_empty")]
    pub details: CheckDetails,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// The stages. Providers with a network between have the first seven; the others have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StageName {
    /// The settings make sense, and credentials are where they say.
    Settings,
    /// The host's name, or that of the proxy, has addresses.
    Dns,
    /// The proxy, where one applies, answers and lets the connection through.
    Proxy,
    /// A connection can be made.
    Connect,
    /// The server proves with its certificate who it is.
    Tls,
    /// The upstream accepts the key or token.
    Credentials,
    /// The upstream has the model, or the assistant.
    Model,
    /// The file of the embedded model is there.
    Weights,
    /// The embedded dialect can compute what is in it.
    Architecture,
    /// The script can be read.
    Script,
}

/// How a stage went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StageStatus {
    /// It is as it should be.
    Passed,
    /// It is not; `message` and `hint` say what and what to do.
    Failed,
    /// There was nothing to look at, or an earlier stage failed.
    Skipped,
}

/// What was seen at a stage; each member only where it says something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckDetails {
    /// The addresses of a host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The proxy that applies, without its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// What the server and assistd speak over TLS: `h2` or `http/1.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The certificates that the server sent, its own first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// The models that the upstream offers, 50 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl CheckDetails {
    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        *self == CheckDetails::default()
    }
}

/// A certificate, as far as a person wants to know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it. For the last of a chain this is the root that has to be trusted.
    pub issuer: String,
    /// The names and addresses that it is good for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The beginning of its validity, such as `2026-01-31T00:00:00Z`.
    pub not_before: String,
    /// The end of its validity.
    pub not_after: String,
}

/// `model/list`: which models there are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelListParams {
    /// Only those of this provider. What is wrong with it is then an error, not a warning.
    pub provider: Option<String>,
}

/// What `model/list` answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelListResult {
    /// Provider by provider, sorted by their names; in the order that the upstream gives.
    pub models: Vec<ModelEntry>,
    /// Providers that could not be asked, and why, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A model that can be named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelEntry {
    /// Its name, as `assistant/send` takes it.
    pub name: String,
    /// Who offers it.
    pub provider: String,
    /// Whether a request that names nothing is answered by it, as far as the settings say.
    pub is_default: bool,
}
