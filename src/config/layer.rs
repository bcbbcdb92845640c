//! One source of settings: a file, the environment, the flags or `initialize`. All have the same keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AssistantSettings, Environment, McpSettings, ProviderSettings, seconds};

/// The keys of `config.toml`. All are optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The assistant that answers where a request names none.
    #[serde(default, alias = "defaultAssistant", skip_serializing_if = "Option::is_none")]
    pub default_assistant: Option<String>,
    /// The provider that answers where neither a request nor an assistant names one.
    #[serde(default, alias = "defaultProvider", skip_serializing_if = "Option::is_none")]
    pub default_provider: Option<String>,
    /// The model that answers where neither a request nor an assistant names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A script that is played instead of asking any provider, whatever else is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<PathBuf>,
    /// Where the database and the journal are.
    #[serde(default, alias = "dataDir", skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The largest message taken from the client, in bytes.
    #[serde(default, alias = "maxInputBytes", skip_serializing_if = "Option::is_none")]
    pub max_input_bytes: Option<u64>,
    /// How long a client may take to answer `tool/call`, in seconds; 60 where absent.
    #[serde(
        default,
        alias = "toolTimeout",
        deserialize_with = "seconds::above_zero",
        skip_serializing_if = "Option::is_none"
    )]
    pub tool_timeout: Option<f64>,
    /// Whether the daemon may fetch the embedded model's weights (about 100 MB, once).
    #[serde(default, alias = "fetchWeights", skip_serializing_if = "Option::is_none")]
    pub fetch_weights: Option<bool>,
    /// Whether a server on this machine is looked for where nothing else is set; true where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<bool>,
    /// The ports on which it is looked for, the most wanted first; those that such servers usually have where absent.
    #[serde(default, alias = "localPorts", skip_serializing_if = "Option::is_none")]
    pub local_ports: Option<Vec<u16>>,
    /// The proxy on the way to every provider but those on this machine and those that NO_PROXY names, by its URL, or
    /// `none`; where absent, as HTTPS_PROXY, HTTP_PROXY and ALL_PROXY of the environment say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// A PEM file of authorities whose certificates are accepted besides the platform's.
    #[serde(default, alias = "caFile", skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How often a failed request is repeated before anything was shown, where the provider does not say; 2 where
    /// absent.
    #[serde(default, alias = "maxRetries", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Whether the connection to the chosen provider is made once `initialize` is answered, by a `HEAD` of its base URL
    /// without credentials; true where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<bool>,
    /// Upstream set-ups by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Named set-ups of provider, model, instructions, tools and options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assistants: BTreeMap<String, AssistantSettings>,
    /// MCP servers by name: programs whose tools the model may call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp: BTreeMap<String, McpSettings>,
}

impl Layer {
    /// Puts another layer over this one. Providers, assistants and MCP servers are replaced whole, by name.
    pub fn override_with(&mut self, over: Layer) {
        fn put<T>(to: &mut Option<T>, over: Option<T>) {
            if over.is_some() {
                *to = over;
            }
        }
        // Who names only a provider means it: an assistant that an earlier layer chose would hide it.
        if over.default_provider.is_some() {
            self.default_assistant = None;
        }
        put(&mut self.default_assistant, over.default_assistant);
        put(&mut self.default_provider, over.default_provider);
        put(&mut self.model, over.model);
        put(&mut self.script, over.script);
        put(&mut self.data_dir, over.data_dir);
        put(&mut self.max_input_bytes, over.max_input_bytes);
        put(&mut self.tool_timeout, over.tool_timeout);
        put(&mut self.fetch_weights, over.fetch_weights);
        put(&mut self.discover, over.discover);
        put(&mut self.local_ports, over.local_ports);
        put(&mut self.proxy, over.proxy);
        put(&mut self.ca_file, over.ca_file);
        put(&mut self.max_retries, over.max_retries);
        put(&mut self.warm, over.warm);
        self.providers.extend(over.providers);
        self.assistants.extend(over.assistants);
        self.mcp.extend(over.mcp);
    }

    /// Takes paths that are not absolute as seen from this folder: that of the file that has them, since an editor may
    /// start assistd anywhere.
    pub fn relative_to(mut self, folder: &Path) -> Layer {
        let providers = self.providers.values_mut();
        let paths = providers.flat_map(|provider| [&mut provider.script, &mut provider.ca_file]);
        let working = self.mcp.values_mut().map(|server| &mut server.cwd);
        let own = [&mut self.script, &mut self.data_dir, &mut self.ca_file];
        for path in paths.chain(working).chain(own).flatten() {
            *path = folder.join(&path);
        }
        self
    }

    /// The layer of `ASSISTD_*` variables. What is wrong with one is a problem that names it.
    pub fn from_environment(environment: &Environment, problems: &mut Vec<String>) -> Layer {
        let text = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        Layer {
            default_assistant: text("ASSISTD_ASSISTANT"),
            default_provider: text("ASSISTD_PROVIDER"),
            model: text("ASSISTD_MODEL"),
            script: text("ASSISTD_SCRIPT").map(PathBuf::from),
            data_dir: text("ASSISTD_DATA_DIR").map(PathBuf::from),
            max_input_bytes: parsed(environment, "ASSISTD_MAX_INPUT_BYTES", "a number of bytes", problems),
            tool_timeout: parsed(environment, "ASSISTD_TOOL_TIMEOUT", "a number of seconds", problems),
            proxy: text("ASSISTD_PROXY"),
            ca_file: text("ASSISTD_CA_FILE").map(PathBuf::from),
            max_retries: parsed(environment, "ASSISTD_MAX_RETRIES", "a whole number", problems),
            warm: parsed(environment, "ASSISTD_WARM", "`true` or `false`", problems),
            fetch_weights: parsed(environment, "ASSISTD_FETCH_WEIGHTS", "`true` or `false`", problems),
            discover: parsed(environment, "ASSISTD_DISCOVER", "`true` or `false`", problems),
            ..Layer::default()
        }
    }
}

/// A file's settings, or another table of ours. The error names file, line and what was expected.
pub fn parse_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start.min(text.len())]);
        let line = before.matches('\n').count() + 1;
        format!("{}:{line}: {}", path.display(), told(error.message()))
    })
}

/// The same from JSON.
pub fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string().replace(&place, "");
        format!("{}:{}: {}", path.display(), error.line(), told(&message))
    })
}

/// The settings of `initialize`.
pub fn from_json(settings: serde_json::Map<String, serde_json::Value>) -> Result<Layer, String> {
    serde_path_to_error::deserialize(serde_json::Value::Object(settings)).map_err(|error| {
        let path = error.path().to_string();
        format!("`settings.{path}`: {}", told(&error.into_inner().to_string()))
    })
}

/// Serde's message, of an unknown word with the nearest of the known ones that the message holds: a key's takes the place
/// of their list, which has each in two spellings.
fn told(message: &str) -> String {
    let is_key = message.starts_with("unknown field `");
    if !is_key && !message.starts_with("unknown variant `") {
        return message.to_owned();
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next().unwrap_or_default();
    let near = words
        .map(|word| (strsim::damerau_levenshtein(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= word.len() / 2);
    match near {
        Some((_, word)) if is_key => format!("unknown field `{unknown}`; did you mean `{word}`?"),
        Some((_, word)) => format!("{message}; did you mean `{word}`?"),
        None => message.to_owned(),
    }
}

fn parsed<T: std::str::FromStr>(
    environment: &Environment,
    name: &str,
    expected: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    let text = environment.get(name).filter(|value| !value.is_empty())?;
    let value = text.parse().ok();
    if value.is_none() {
        problems.push(format!(
            "expected the environment variable `{name}` to be {expected}, found `{text}`"
        ));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_known_one() {
        let text = "default_assistant = \"work\"\n\n[providers.local]\ndialect = \"chat\"\nbase_ulr = \"x\"\n";
        let problem = parse_toml::<Layer>(Path::new("config.toml"), text).unwrap_err();
        assert_eq!(
            problem,
            "config.toml:5: unknown field `base_ulr`; did you mean `base_url`?"
        );
        let problem = parse_toml::<Layer>(Path::new("config.toml"), "colour = 1\n").unwrap_err();
        assert!(
            problem.starts_with("config.toml:1: unknown field `colour`, expected one of `default"),
            "{problem}"
        );
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        let text = "[providers.local]\ndialect = \"chatt\"\n";
        let problem = parse_toml::<Layer>(Path::new("config.toml"), text).unwrap_err();
        assert!(
            problem.starts_with("config.toml:2: unknown variant `chatt`, expected one of `assistants`"),
            "{problem}"
        );
        assert!(problem.ends_with("; did you mean `chat`?"), "{problem}");
    }

    #[test]
    fn initialize_takes_both_spellings() {
        let settings = serde_json::json!({ "defaultAssistant": "a", "providers": { "p": { "dialect": "chat", "base_url": "u" } } });
        let serde_json::Value::Object(settings) = settings else {
            unreachable!()
        };
        let layer = from_json(settings).unwrap();
        assert_eq!(layer.default_assistant.as_deref(), Some("a"));
        assert_eq!(layer.providers["p"].base_url.as_deref(), Some("u"));
    }

    #[test]
    fn a_later_layer_overrides_and_leaves_the_rest() {
        let mut layer = Layer {
            model: Some("a".into()),
            tool_timeout: Some(1.0),
            ..Layer::default()
        };
        layer.override_with(Layer {
            model: Some("b".into()),
            ..Layer::default()
        });
        assert_eq!((layer.model.as_deref(), layer.tool_timeout), (Some("b"), Some(1.0)));
    }

    #[test]
    fn a_later_provider_takes_the_place_of_an_earlier_assistant() {
        let mut layer = Layer {
            default_assistant: Some("work".into()),
            ..Layer::default()
        };
        layer.override_with(Layer {
            default_provider: Some("local".into()),
            ..Layer::default()
        });
        assert_eq!(layer.default_assistant, None);
    }

    #[test]
    fn no_time_at_all_is_no_limit() {
        for wrong in ["-1", "0", "nan", "inf"] {
            let text = format!("[providers.p]\ndialect = \"chat\"\nidle_timeout = {wrong}\n");
            let problem = parse_toml::<Layer>(Path::new("c"), &text).unwrap_err();
            assert!(
                problem.starts_with("c:3: expected a number of seconds above 0"),
                "{problem}"
            );
        }
        parse_toml::<Layer>(Path::new("c"), "tool_timeout = 0.5\n").unwrap();
    }

    #[test]
    fn paths_of_a_file_are_seen_from_its_folder() {
        let text = "script = \"a.toml\"\ndata_dir = \"/d\"\nca_file = \"c.pem\"\n[providers.p]\ndialect = \"scripted\"\nscript = \"b.toml\"\nca_file = \"d.pem\"\n";
        let layer = parse_toml::<Layer>(Path::new("c"), text)
            .unwrap()
            .relative_to(Path::new("/etc"));
        assert_eq!(layer.script.as_deref(), Some(Path::new("/etc/a.toml")));
        assert_eq!(layer.data_dir.as_deref(), Some(Path::new("/d")));
        assert_eq!(layer.providers["p"].script.as_deref(), Some(Path::new("/etc/b.toml")));
        assert_eq!(layer.ca_file.as_deref(), Some(Path::new("/etc/c.pem")));
        assert_eq!(layer.providers["p"].ca_file.as_deref(), Some(Path::new("/etc/d.pem")));
    }
}
