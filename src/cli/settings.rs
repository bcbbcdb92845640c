//! Where settings come from: the file, then the environment, then the flags; and the three folders.
//!
//! What is wrong becomes a problem in [`Settings::problems`]; nothing here stops the program.

use std::path::{Path, PathBuf};

use clap::Args;
use etcetera::app_strategy::{AppStrategy, AppStrategyArgs, choose_app_strategy};

use crate::config::{Environment, Layer, Settings, parse_toml};

/// The flags that every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// The settings file [env: ASSISTD_CONFIG] [default: config.toml in the configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The provider to ask [env: ASSISTD_PROVIDER]
    #[arg(long, global = true, value_name = "NAME")]
    provider: Option<String>,
    /// The assistant that answers [env: ASSISTD_ASSISTANT]
    #[arg(long, global = true, value_name = "NAME")]
    assistant: Option<String>,
    /// The model, or the path of a GGUF file for the embedded one [env: ASSISTD_MODEL]
    #[arg(long, global = true, value_name = "MODEL")]
    model: Option<String>,
    /// Play this script instead of asking any provider [env: ASSISTD_SCRIPT]
    #[arg(long, global = true, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Where threads are kept [env: ASSISTD_DATA_DIR]
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Keep nothing: threads live in memory only
    #[arg(long, global = true, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// The largest message taken, in bytes [env: ASSISTD_MAX_INPUT_BYTES]
    #[arg(long, global = true, value_name = "BYTES")]
    max_input_bytes: Option<u64>,
    /// Write both directions of the wire to this file, keys blanked
    #[arg(long, global = true, value_name = "FILE")]
    wire_log: Option<PathBuf>,
}

/// What the user named on the command line: a request says it again, so that it also holds in an old thread.
#[derive(Debug, Clone, Default)]
pub struct Named {
    pub assistant: Option<String>,
    pub model: Option<String>,
}

/// Where the settings come from, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// The settings file; none where the configuration folder is unknown.
    pub file: Option<PathBuf>,
    /// Whether it is there.
    pub file_exists: bool,
    /// The variables that are set and have a say, by name.
    pub variables: Vec<String>,
}

/// Variables that have a say besides those that begin with `ASSISTD_`.
const WELL_KNOWN: &[&str] = &[
    "ASSISTANT_ID",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_API_VERSION",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The platform's folders for this program; none where the home folder is unknown.
struct Folders {
    config: PathBuf,
    data: PathBuf,
    cache: PathBuf,
}

impl SettingsArgs {
    /// The settings of this process.
    pub fn load(&self) -> Settings {
        // A variable that is not text cannot be a setting, and is none of our business.
        let pairs =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        self.load_from(pairs.collect(), folders())
    }

    /// What the user named.
    pub fn named(&self) -> Named {
        Named {
            assistant: self.assistant.clone(),
            model: self.model.clone(),
        }
    }

    /// The provider that the user named.
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Where these settings came from.
    pub fn sources(&self, settings: &Settings) -> Sources {
        self.sources_from(settings, folders())
    }

    fn sources_from(&self, settings: &Settings, folders: Option<Folders>) -> Sources {
        let file = self
            .file(&settings.environment)
            .or_else(|| Some(folders?.config.join("config.toml")));
        let keys: Vec<&str> = settings
            .layer
            .providers
            .values()
            .filter_map(|provider| provider.api_key_env.as_deref())
            .collect();
        let has_say = |name: &str| name.starts_with("ASSISTD_") || WELL_KNOWN.contains(&name) || keys.contains(&name);
        let set = settings.environment.iter().filter(|(_, value)| !value.is_empty());
        Sources {
            file_exists: file.as_ref().is_some_and(|file| file.is_file()),
            file,
            variables: set.map(|(name, _)| name.clone()).filter(|name| has_say(name)).collect(),
        }
    }

    /// The settings file that somebody named.
    fn file(&self, environment: &Environment) -> Option<PathBuf> {
        let variable = environment.get("ASSISTD_CONFIG").filter(|value| !value.is_empty());
        self.config.clone().or_else(|| variable.map(PathBuf::from))
    }

    fn load_from(&self, environment: Environment, folders: Option<Folders>) -> Settings {
        let mut problems = Vec::new();
        let variable = |name: &str| {
            environment
                .get(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let mut layer = match (self.file(&environment), &folders) {
            (Some(path), _) => read(&path, IfMissing::Complain, &mut problems),
            (None, Some(folders)) => read(&folders.config.join("config.toml"), IfMissing::Ignore, &mut problems),
            (None, None) => Layer::default(),
        };
        layer.override_with(Layer::from_environment(&environment, &mut problems));
        layer.override_with(self.layer());
        let data_dir = layer
            .data_dir
            .clone()
            .or_else(|| folders.as_ref().map(|folders| folders.data.clone()));
        if data_dir.is_none() && !self.ephemeral {
            problems.push(
                "the data folder is unknown, since the home folder is: set HOME or ASSISTD_DATA_DIR, or use `--ephemeral`"
                    .to_owned(),
            );
        }
        let cache_dir = variable("ASSISTD_CACHE_DIR").or_else(|| folders.map(|folders| folders.cache));
        Settings {
            data_dir: data_dir.filter(|_| !self.ephemeral),
            cache_dir: cache_dir.unwrap_or_else(std::env::temp_dir),
            wire_log: self.wire_log.clone(),
            layer,
            environment,
            problems,
            ..Settings::ephemeral()
        }
    }

    /// The flags as a layer.
    fn layer(&self) -> Layer {
        Layer {
            default_provider: self.provider.clone(),
            default_assistant: self.assistant.clone(),
            model: self.model.clone(),
            script: self.script.clone(),
            data_dir: self.data_dir.clone(),
            max_input_bytes: self.max_input_bytes,
            ..Layer::default()
        }
    }
}

/// Whether a settings file that is not there is a problem: only if somebody named it.
#[derive(PartialEq)]
enum IfMissing {
    Complain,
    Ignore,
}

fn read(path: &Path, if_missing: IfMissing, problems: &mut Vec<String>) -> Layer {
    let parsed = match std::fs::read_to_string(path) {
        Ok(text) => parse_toml::<Layer>(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && if_missing == IfMissing::Ignore => {
            return Layer::default();
        }
        Err(error) => Err(format!(
            "failed to read the settings file `{}`: {error}",
            path.display()
        )),
    };
    match parsed {
        Ok(layer) => layer.relative_to(path.parent().unwrap_or(Path::new(""))),
        Err(problem) => {
            problems.push(problem);
            Layer::default()
        }
    }
}

fn folders() -> Option<Folders> {
    let strategy = choose_app_strategy(AppStrategyArgs {
        app_name: "assistd".to_owned(),
        ..AppStrategyArgs::default()
    });
    let strategy = strategy.ok()?;
    Some(Folders {
        config: strategy.config_dir(),
        data: strategy.data_dir(),
        cache: strategy.cache_dir(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn folders_in(home: &Path) -> Option<Folders> {
        Some(Folders {
            config: home.join("config"),
            data: home.join("data"),
            cache: home.join("cache"),
        })
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("config")).unwrap();
        let file = home.path().join("config/config.toml");
        std::fs::write(&file, "model = \"file\"\ntool_timeout = 1.0\ndata_dir = \"here\"\n").unwrap();
        let set = environment(&[("ASSISTD_MODEL", "environment"), ("ASSISTD_TOOL_TIMEOUT", "2")]);
        let args = SettingsArgs {
            model: Some("flag".into()),
            ..SettingsArgs::default()
        };
        let settings = args.load_from(set, folders_in(home.path()));
        assert_eq!(settings.problems, [""; 0]);
        assert_eq!(
            (settings.layer.model.as_deref(), settings.layer.tool_timeout),
            (Some("flag"), Some(2.0))
        );
        assert_eq!(settings.data_dir, Some(home.path().join("config/here")));
        assert_eq!(settings.cache_dir, home.path().join("cache"));
    }

    #[test]
    fn sources_are_names_and_never_values() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("my.toml");
        std::fs::write(&file, "[providers.p]\ndialect = \"chat\"\napi_key_env = \"MY_KEY\"\n").unwrap();
        let set = environment(&[
            ("ASSISTD_CONFIG", file.to_str().unwrap()),
            ("MY_KEY", "sk-secret"),
            ("OPENAI_API_KEY", ""),
            ("PATH", "/bin"),
        ]);
        let args = SettingsArgs::default();
        let settings = args.load_from(set, folders_in(home.path()));
        let sources = args.sources_from(&settings, folders_in(home.path()));
        assert_eq!((&sources.file, sources.file_exists), (&Some(file), true));
        assert_eq!(sources.variables, ["ASSISTD_CONFIG", "MY_KEY"]);
        let sources = args.sources_from(&Settings::ephemeral(), folders_in(home.path()));
        assert_eq!(sources.file, Some(home.path().join("config/config.toml")));
        assert!(!sources.file_exists);
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_be_right() {
        let home = tempfile::tempdir().unwrap();
        let load = |set: &[(&str, &str)]| SettingsArgs::default().load_from(environment(set), folders_in(home.path()));
        assert_eq!(load(&[]).problems, [""; 0]);
        let missing = load(&[("ASSISTD_CONFIG", "/no/such.toml")]).problems;
        assert!(
            missing[0].starts_with("failed to read the settings file `/no/such.toml`: "),
            "{missing:?}"
        );
        let wrong = home.path().join("wrong.toml");
        std::fs::write(&wrong, "\nmodle = 1\n").unwrap();
        let wrong = load(&[("ASSISTD_CONFIG", wrong.to_str().unwrap())]).problems;
        assert!(wrong[0].contains("wrong.toml:2: unknown field `modle`"), "{wrong:?}");
        assert!(wrong[0].ends_with("did you mean `model`?"), "{wrong:?}");
    }

    #[test]
    fn without_a_home_there_must_be_another_place_or_none() {
        let mut args = SettingsArgs::default();
        let settings = args.load_from(environment(&[]), None);
        assert!(
            settings.problems[0].contains("ASSISTD_DATA_DIR"),
            "{:?}",
            settings.problems
        );
        args.ephemeral = true;
        assert_eq!(args.load_from(environment(&[]), None).problems, [""; 0]);
        let settings = args.load_from(environment(&[("ASSISTD_DATA_DIR", "/d")]), None);
        assert_eq!(settings.data_dir, None, "`--ephemeral` wins");
    }
}
