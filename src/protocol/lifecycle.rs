//! Beginning and end: `initialize`, `server/status`, and the settings that a client may bring.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lenient;

/// `initialize`: who the client is and what it can do. All of it is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InitializeParams {
    /// The version of the wire that the client was written for; 1.
    pub protocol_version: Option<u32>,
    /// Who the client is.
    #[serde(default, deserialize_with = "lenient::object")]
    pub client_info: Option<ClientInfo>,
    /// The client's process: assistd leaves when it dies. Watched only if it is alive here when this is read.
    pub process_id: Option<u32>,
    /// What the client can do and wants.
    #[serde(default, deserialize_with = "lenient::object")]
    pub capabilities: Option<ClientCapabilities>,
    /// The same keys as in `config.toml`, in snake_case or camelCase; they override file and environment.
    #[serde(default, deserialize_with = "lenient::object")]
    pub settings: Option<serde_json::Map<String, Value>>,
}

/// A program's name and version.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientInfo {
    /// The name.
    #[serde(default)]
    pub name: String,
    /// The version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What the client can do and wants.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCapabilities {
    /// Which `assistant/event` types it wants: a list of names, or `"all"`.
    pub events: Option<EventChoice>,
    /// Whether it answers `tool/call`; false where absent.
    pub tool_call: Option<bool>,
    /// Whether it answers `tool/approve`; not used in this version.
    pub tool_approve: Option<bool>,
    /// Whether it answers `auth/token`; false where absent.
    pub auth_token: Option<bool>,
    /// The largest line or body that it takes, in bytes; at least 4096.
    pub max_message_bytes: Option<u64>,
}

/// Which events a client wants.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "\"all\" or a list of event types")]
pub enum EventChoice {
    /// Every type.
    All(AllEvents),
    /// These types only.
    Only(Vec<super::EventType>),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AllEvents {
    /// Every type.
    #[serde(rename = "all")]
    All,
}

/// What `initialize` answers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// The version of the wire that this build speaks.
    pub protocol_version: u32,
    /// This program.
    pub server_info: ClientInfo,
    /// What it can do.
    pub capabilities: ServerCapabilities,
    /// Whether `processId` is watched: only if that process was alive here.
    pub watching_process: bool,
    /// What is wrong with the settings, in sentences; empty if nothing.
    pub warnings: Vec<String>,
}

/// What this build can do.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerCapabilities {
    /// Every method that can be called.
    pub methods: Vec<String>,
    /// Every `assistant/event` type.
    pub events: Vec<String>,
    /// The dialects that providers can have.
    pub dialects: Vec<String>,
    /// The largest line or body that assistd sends on this connection, in bytes.
    pub max_message_bytes: u64,
    /// The largest line or body that it takes, in bytes.
    pub max_input_bytes: u64,
}

/// `server/status` answers with figures of this process.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusResult {
    /// This program.
    pub server_info: ClientInfo,
    /// Its process id.
    pub process_id: u32,
    /// Since it started, in milliseconds.
    pub uptime_ms: u64,
    /// Resident memory in bytes, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Runs under way.
    pub running: u32,
    /// Runs that wait for their thread.
    pub queued: u32,
    /// Messages that wait for the client to read.
    pub unsent: u64,
    /// Where threads are kept; absent where they are kept in memory only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What a request without any choice of its own would use; absent if nothing can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ChosenProvider>,
}

/// Which provider was taken, and why.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChosenProvider {
    /// Its name.
    pub name: String,
    /// Its dialect.
    pub dialect: String,
    /// The model, where one is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Which setting led to it.
    pub reason: String,
}

/// `provider/list` answers with the providers of the settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderListResult {
    /// Sorted by name.
    pub providers: Vec<ProviderEntry>,
}

/// A provider, as the settings have it. Keys are never shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderEntry {
    /// Its name.
    pub name: String,
    /// Its dialect.
    pub dialect: String,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Its usual model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where its credentials come from: `environment`, `command`, `client`, `entra` or `none`.
    pub credentials: String,
    /// Whether a request without a choice of its own uses it.
    pub is_default: bool,
}

/// `auth/token`, from assistd: give a key or token for this provider.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthTokenParams {
    /// The provider's name.
    pub provider: String,
    /// Where the token will be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Why it is asked for.
    pub reason: TokenReason,
}

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenReason {
    /// There has been none so far.
    Missing,
    /// The last one has expired.
    Expired,
    /// The upstream did not accept the last one.
    Refused,
}

/// The client's answer to `auth/token`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthTokenResult {
    /// The key or token; absent if there is none.
    pub token: Option<String>,
    /// For how many seconds it is good; until the upstream refuses it where absent.
    pub expires_in: Option<f64>,
}

/// Shows no token: it must reach no log.
impl std::fmt::Debug for AuthTokenResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthTokenResult")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// Parameters of a method that takes none.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// The result of a method that has nothing to say: null.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Nothing;
