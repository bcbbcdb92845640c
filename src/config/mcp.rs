//! `[mcp.NAME]`: programs whose tools the model may call, and what has to be asked before.
//!
//! Nothing here starts a program.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Choice, Dialect, Settings, seconds};
use crate::error::{Error, Kind};

/// How long a server may take to start where nothing else is set.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest value that is blanked as a secret, in bytes: a shorter one is no key, and would spoil every message.
const SECRET_MIN: usize = 8;

/// Whether the client is asked before a tool is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approve {
    /// The client is asked with `tool/approve`, each time.
    #[default]
    Ask,
    /// It is called without asking.
    Always,
    /// It is not offered to the model.
    Never,
}

/// `[mcp.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpSettings {
    /// The program and its arguments; it speaks MCP on its stdin and stdout.
    pub command: Vec<String>,
    /// More environment variables for it, or other values. It gets assistd's own as well, but for the keys of providers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Variables of assistd's own environment that it gets though they hold a provider's key.
    #[serde(default, alias = "envFrom", skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<String>,
    /// The folder that it is started in; assistd's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Whether the client is asked before a tool is called that `tools` does not name; `ask` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Approve>,
    /// Whether the client is asked before a single tool is called, by the tool's name at the server.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, Approve>,
    /// How long it may take to start and to list its tools, in seconds; 30 where absent.
    #[serde(
        default,
        alias = "startupTimeout",
        deserialize_with = "seconds::above_zero",
        skip_serializing_if = "Option::is_none"
    )]
    pub startup_timeout: Option<f64>,
    /// How long one call may take, in seconds; `tool_timeout` where absent.
    #[serde(
        default,
        alias = "callTimeout",
        deserialize_with = "seconds::above_zero",
        skip_serializing_if = "Option::is_none"
    )]
    pub call_timeout: Option<f64>,
}

impl McpSettings {
    /// Whether the client is asked before this tool is called.
    pub fn approve(&self, tool: &str) -> Approve {
        let own = self.tools.get(tool).copied();
        own.or(self.approve).unwrap_or_default()
    }

    /// How long it may take to start.
    pub fn startup_timeout(&self) -> Duration {
        self.startup_timeout.map_or(STARTUP_TIMEOUT, seconds)
    }

    /// How long one call may take, if that is set.
    pub fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout.map(seconds)
    }

    /// Those of its variables that may be secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.env
            .values()
            .map(String::as_str)
            .filter(|value| value.len() >= SECRET_MIN)
    }
}

impl Settings {
    /// The servers of a run: those that the request names, else its assistant's, else all of the settings. The embedded
    /// model calls no tools, so none is started for it.
    pub fn mcp_servers(&self, choice: &Choice, named: Option<&[String]>) -> Result<Vec<String>, Error> {
        let servers = self.mcp_named(named.or(choice.mcp.as_deref()))?;
        match choice.provider_settings.dialect {
            Dialect::Embedded => Ok(Vec::new()),
            _ => Ok(servers),
        }
    }

    fn mcp_named(&self, named: Option<&[String]>) -> Result<Vec<String>, Error> {
        let Some(named) = named else {
            return Ok(self.layer.mcp.keys().cloned().collect());
        };
        if let Some(unknown) = named.iter().find(|name| !self.layer.mcp.contains_key(*name)) {
            return Err(Error::new(
                Kind::ConfigInvalid,
                format!("the MCP server `{unknown}` is named, and the settings do not have it"),
            )
            .with_hint(format!("add `[mcp.{unknown}]` with its `command` to config.toml")));
        }
        Ok(named.to_vec())
    }

    /// What may be secret in the settings of all servers.
    pub(super) fn mcp_secrets(&self) -> impl Iterator<Item = &str> {
        self.layer.mcp.values().flat_map(McpSettings::secrets)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(if seconds.is_nan() {
        0.001
    } else {
        seconds.clamp(0.001, 86_400.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::ephemeral();
        settings.layer = toml::from_str::<Layer>(text).unwrap();
        settings
    }

    #[test]
    fn a_tool_is_asked_for_as_itself_then_as_its_server_then_always() {
        let settings = settings(
            "[mcp.a]\ncommand = [\"a\"]\napprove = \"never\"\ntools = { read = \"always\" }\n[mcp.b]\ncommand = [\"b\"]\n",
        );
        let server = &settings.layer.mcp["a"];
        assert_eq!(
            (server.approve("read"), server.approve("write")),
            (Approve::Always, Approve::Never)
        );
        assert_eq!(settings.layer.mcp["b"].approve("read"), Approve::Ask);
    }

    #[test]
    fn the_request_then_the_assistant_choose_the_servers_and_else_there_are_all() {
        let settings = settings(
            "script = \"s.toml\"\n[mcp.a]\ncommand = [\"a\"]\n[mcp.b]\ncommand = [\"b\"]\n\
             [assistants.one]\nprovider = \"scripted\"\nmcp = [\"b\"]\n",
        );
        let servers = |assistant: &str, named: Option<&[&str]>| {
            let named: Option<Vec<String>> = named.map(|names| names.iter().map(|name| name.to_string()).collect());
            let choice = settings.choose(Some(assistant), None).unwrap();
            settings.mcp_servers(&choice, named.as_deref())
        };
        assert_eq!(servers("scripted", None).unwrap(), ["a", "b"]);
        assert_eq!(servers("one", None).unwrap(), ["b"]);
        assert_eq!(servers("one", Some(&["a"])).unwrap(), ["a"]);
        assert_eq!(servers("one", Some(&[])).unwrap(), [""; 0]);
        let error = servers("one", Some(&["c"])).unwrap_err();
        assert_eq!(
            (error.kind(), error.message.contains("`c`")),
            (Kind::ConfigInvalid, true)
        );
    }

    #[test]
    fn the_embedded_model_needs_no_server() {
        let settings = settings("[mcp.a]\ncommand = [\"a\"]\n");
        let choice = settings.choose(Some("embedded"), None).unwrap();
        assert_eq!(settings.mcp_servers(&choice, None).unwrap(), [""; 0]);
    }

    #[test]
    fn what_a_server_gets_as_a_secret_is_blanked_and_short_words_are_not() {
        let settings = settings("[mcp.a]\ncommand = [\"a\"]\nenv = { TOKEN = \"ghp_12345678\", LEVEL = \"debug\" }\n");
        assert_eq!(settings.known_keys(), ["ghp_12345678"]);
    }
}
