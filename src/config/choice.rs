//! Which assistant, provider and model a request gets, and why.
//!
//! What the settings name; the environment; a server on this machine; the embedded model. A key that is set never falls
//! through to something else: whoever set it wants that upstream, and gets an error rather than another model's answer.
//! Nothing here looks for a server: whoever asks does so first where [`Settings::wants_local`] says so.

use std::collections::BTreeSet;
use std::path::Path;

use super::{AssistantSettings, Dialect, ProviderSettings, Settings};
use crate::error::{Error, Kind};
use crate::protocol::{AssistantEntry, Options, ProviderEntry, Tool, Truncation};

/// The instructions of the embedded model's default assistant: without any, its template puts in some of its own that
/// spoil the answers.
pub const EMBEDDED_INSTRUCTIONS: &str = "You are a helpful AI assistant.";

/// What a request gets.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The assistant's name.
    pub assistant: Option<String>,
    /// The provider's name.
    pub provider: String,
    /// The provider's settings.
    pub provider_settings: ProviderSettings,
    /// The model; the dialect's or the upstream assistant's own where absent.
    pub model: Option<String>,
    /// The assistant's instructions.
    pub instructions: Option<String>,
    /// The upstream's id of the assistant.
    pub assistant_id: Option<String>,
    /// The assistant's tools.
    pub tools: Vec<Tool>,
    /// The assistant's options.
    pub options: Options,
    /// What a new thread leaves out when the context is full.
    pub truncation: Option<Truncation>,
    /// Which setting led here, for people.
    pub reason: String,
    /// Whether nothing led here, so that a server on this machine would be preferred.
    pub is_last_resort: bool,
}

/// A server on this machine that answers without being configured.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalServer {
    /// What its provider is called.
    pub name: String,
    /// Where its API is.
    pub base_url: String,
    /// How it was found, for people.
    pub reason: String,
}

/// A provider that nobody configured: from a variable, a flag or because there is nothing else.
struct Implied {
    provider: String,
    settings: ProviderSettings,
    assistant: AssistantSettings,
    reason: String,
}

impl Settings {
    /// The choice for a request that names this assistant and model, or none.
    pub fn choose(&self, assistant: Option<&str>, model: Option<&str>) -> Result<Choice, Error> {
        if let Some(problem) = self.problems.first() {
            return Err(
                Error::new(Kind::ConfigInvalid, format!("the settings are wrong: {problem}"))
                    .with_hint("mend the setting and start assistd again, or send it right with `initialize`"),
            );
        }
        let named = assistant.map(|name| (name, "the request names it"));
        let named = named.or_else(|| {
            let name = self.layer.default_assistant.as_deref()?;
            Some((name, "`default_assistant` names it"))
        });
        let mut choice = match named {
            Some((name, reason)) => self.assistant(name, reason)?,
            None => self.unnamed()?,
        };
        // An assistant keeps its instructions, tools and options, and is played by the script.
        if let Some(script) = &self.layer.script {
            let Implied {
                provider,
                settings,
                reason,
                ..
            } = Implied::scripted(script);
            choice.provider = provider;
            choice.provider_settings = settings;
            choice.reason = reason;
        }
        if let Some(model) = model.or(self.layer.model.as_deref().filter(|_| choice.model.is_none())) {
            choice.model = Some(model.to_owned());
        }
        Ok(choice)
    }

    /// Whether a look at this machine may change the choice for this assistant, or for none: what is set leads nowhere.
    /// A provider that is set is never held up by looking.
    pub fn wants_local(&self, assistant: Option<&str>) -> bool {
        let may_look = self.local.is_none() && self.layer.discover != Some(false) && self.layer.script.is_none();
        may_look
            && self.problems.is_empty()
            && match self.choose(assistant, None) {
                Ok(choice) => choice.is_last_resort,
                // What is named is not set, so it may be the name of such a server.
                Err(_) => true,
            }
    }

    /// The choice for a request about this provider, whatever answers elsewhere. An assistant of the settings that uses
    /// it comes with it.
    pub fn choose_provider(&self, name: &str) -> Result<Choice, Error> {
        if let Ok(choice) = self.choose(None, None)
            && choice.provider == name
        {
            return Ok(choice);
        }
        let known = self.providers();
        if !known.iter().any(|provider| provider.name == name) {
            let known: Vec<String> = known.iter().map(|provider| format!("`{}`", provider.name)).collect();
            return Err(Error::not_found("provider", name).with_hint(format!("the providers are {}", known.join(", "))));
        }
        let mut assistants = self.layer.assistants.iter();
        match assistants.find(|(_, assistant)| assistant.provider == name) {
            Some((assistant_name, assistant)) => {
                let reason = format!("the request names it, and the assistant `{assistant_name}` has it");
                self.with_provider(assistant_name, assistant, reason)
            }
            None => self.bare_provider(name, "the request names it"),
        }
    }

    /// All assistants that can be named without asking an upstream, sorted by name.
    pub fn assistants(&self) -> Vec<AssistantEntry> {
        let default = self.choose(None, None).ok().and_then(|choice| choice.assistant);
        self.assistants_with_default(default.as_deref())
    }

    /// The same where the default is known, or is just being sought.
    fn assistants_with_default(&self, default: Option<&str>) -> Vec<AssistantEntry> {
        let implied = self.implied();
        let mut entries: Vec<AssistantEntry> = self
            .layer
            .assistants
            .iter()
            .map(|(name, assistant)| (name.as_str(), assistant))
            .chain(
                implied
                    .iter()
                    .map(|implied| (implied.provider.as_str(), &implied.assistant))
                    .filter(|(name, _)| !self.layer.assistants.contains_key(*name)),
            )
            .map(|(name, assistant)| entry(name, assistant, default == Some(name)))
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// All providers, sorted by name.
    pub fn providers(&self) -> Vec<ProviderEntry> {
        let default = self.choose(None, None).ok().map(|choice| choice.provider);
        let implied = self.implied();
        let mut entries: Vec<ProviderEntry> = self
            .layer
            .providers
            .iter()
            .map(|(name, settings)| (name.as_str(), settings))
            .chain(
                implied
                    .iter()
                    .map(|implied| (implied.provider.as_str(), &implied.settings))
                    .filter(|(name, _)| !self.layer.providers.contains_key(*name)),
            )
            .map(|(name, settings)| ProviderEntry {
                name: name.to_owned(),
                dialect: settings.dialect.as_str().to_owned(),
                base_url: settings.base_url.clone(),
                model: settings.model.clone(),
                credentials: match (&settings.api_key_env, &settings.api_key_command) {
                    (_, Some(_)) => "command",
                    (Some(_), None) => "environment",
                    (None, None) => "none",
                }
                .to_owned(),
                is_default: default.as_deref() == Some(name),
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// One choice for each provider whose upstream lists assistants of its own.
    pub fn upstream_choices(&self) -> Vec<Choice> {
        let implied = self.implied();
        let implied = implied.iter().map(|implied| implied.provider.as_str());
        let names: BTreeSet<&str> = self.layer.providers.keys().map(String::as_str).chain(implied).collect();
        let choices = names
            .into_iter()
            .filter_map(|name| self.bare_provider(name, "it is in the settings").ok());
        choices
            .filter(|choice| choice.provider_settings.dialect == Dialect::Assistants)
            .collect()
    }

    fn assistant(&self, name: &str, reason: &str) -> Result<Choice, Error> {
        if let Some(assistant) = self.layer.assistants.get(name) {
            return self.with_provider(name, assistant, format!("the assistant `{name}` has it, and {reason}"));
        }
        if let Some(implied) = self.implied().into_iter().find(|implied| implied.provider == name) {
            return Ok(implied.into_choice());
        }
        // An assistant that only its upstream knows, by the id under which `assistant/list` shows it.
        if name.starts_with("asst_")
            && let Some(mut choice) = self.upstream_choices().into_iter().next()
        {
            choice.assistant = Some(name.to_owned());
            choice.assistant_id = Some(name.to_owned());
            choice.instructions = None;
            choice.reason = format!("the assistant `{name}` is the upstream's own, and {reason}");
            return Ok(choice);
        }
        let known: Vec<String> = self
            .assistants_with_default(None)
            .into_iter()
            .map(|entry| format!("`{}`", entry.name))
            .collect();
        Err(Error::not_found("assistant", name).with_hint(format!("the assistants are {}", known.join(", "))))
    }

    fn unnamed(&self) -> Result<Choice, Error> {
        match (&self.layer.script, &self.layer.default_provider) {
            (Some(script), Some(_)) => return Ok(Implied::scripted(script).into_choice()),
            (None, Some(name)) => return self.bare_provider(name, "`default_provider` names it"),
            (_, None) => {}
        }
        // One assistant in the settings is the one that is meant.
        if let (1, Some((name, assistant))) = (self.layer.assistants.len(), self.layer.assistants.first_key_value()) {
            return self.with_provider(
                name,
                assistant,
                format!("the assistant `{name}` has it, the only one in the settings"),
            );
        }
        if let Some(script) = &self.layer.script {
            return Ok(Implied::scripted(script).into_choice());
        }
        if let (1, Some((name, _))) = (self.layer.providers.len(), self.layer.providers.first_key_value()) {
            return self.bare_provider(name, "it is the only one in the settings");
        }
        let first = self
            .implied()
            .into_iter()
            .next()
            .expect("the embedded model is always implied");
        let is_last_resort = first.settings.dialect == Dialect::Embedded;
        Ok(Choice {
            is_last_resort,
            ..first.into_choice()
        })
    }

    fn bare_provider(&self, name: &str, reason: &str) -> Result<Choice, Error> {
        if !self.layer.providers.contains_key(name)
            && let Some(implied) = self.implied().into_iter().find(|implied| implied.provider == name)
        {
            return Ok(implied.into_choice());
        }
        let assistant = AssistantSettings {
            provider: name.to_owned(),
            ..AssistantSettings::default()
        };
        let mut choice = self.with_provider(name, &assistant, reason.to_owned())?;
        choice.assistant = None;
        if choice.provider_settings.dialect == Dialect::Embedded {
            choice.instructions = Some(EMBEDDED_INSTRUCTIONS.to_owned());
        }
        Ok(choice)
    }

    fn with_provider(&self, name: &str, assistant: &AssistantSettings, reason: String) -> Result<Choice, Error> {
        let settings = match self.layer.providers.get(&assistant.provider) {
            Some(settings) => settings.clone(),
            None => {
                let implied = self.implied();
                let found = implied.iter().find(|implied| implied.provider == assistant.provider);
                let found = found.ok_or_else(|| {
                    Error::new(
                        Kind::ConfigInvalid,
                        format!(
                            "the assistant `{name}` names the provider `{}`, which the settings do not have",
                            assistant.provider
                        ),
                    )
                    .with_hint(format!("add `[providers.{}]` to config.toml", assistant.provider))
                })?;
                found.settings.clone()
            }
        };
        Ok(Choice {
            assistant: Some(name.to_owned()),
            provider: assistant.provider.clone(),
            model: assistant.model.clone().or_else(|| settings.model.clone()),
            provider_settings: settings,
            instructions: assistant.instructions.clone(),
            assistant_id: assistant.assistant_id.clone(),
            tools: assistant.tools.clone(),
            options: assistant.options.clone(),
            truncation: assistant.truncation,
            reason,
            is_last_resort: false,
        })
    }

    /// What is there without being configured, the most wanted first.
    fn implied(&self) -> Vec<Implied> {
        let variable = |name: &str| {
            self.environment
                .get(name)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let mut implied = Vec::new();
        implied.extend(self.layer.script.as_deref().map(Implied::scripted));
        if let Some(assistant_id) = variable("ASSISTANT_ID") {
            implied.push(self.implied_assistants(assistant_id));
        } else if variable("AZURE_OPENAI_API_KEY").is_some() || variable("OPENAI_API_KEY").is_some() {
            implied.push(self.implied_key());
        } else if variable("OPENAI_BASE_URL").is_some_and(is_elsewhere) {
            let mut settings = ProviderSettings::new(Dialect::Chat);
            settings.base_url = variable("OPENAI_BASE_URL").map(str::to_owned);
            implied.push(Implied::new("openai", settings, "OPENAI_BASE_URL is set"));
        }
        implied.extend(self.local.as_ref().map(Implied::local));
        let mut embedded = Implied::new(
            "embedded",
            ProviderSettings::new(Dialect::Embedded),
            "nothing else is set",
        );
        embedded.assistant.instructions = Some(EMBEDDED_INSTRUCTIONS.to_owned());
        implied.push(embedded);
        implied
    }

    /// `ASSISTANT_ID` means the `assistants` dialect, at Azure if its endpoint is set.
    fn implied_assistants(&self, assistant_id: &str) -> Implied {
        let mut settings = ProviderSettings::new(Dialect::Assistants);
        let (name, reason) =
            if let Some(endpoint) = self.environment.get("AZURE_OPENAI_ENDPOINT").filter(|e| !e.is_empty()) {
                settings.base_url = Some(format!("{}/openai", endpoint.trim_end_matches('/')));
                settings.service = Some(super::Service::Azure);
                settings.api_key_env = Some("AZURE_OPENAI_API_KEY".into());
                settings.api_version = self.environment.get("AZURE_OPENAI_API_VERSION").cloned();
                ("azure", "ASSISTANT_ID and AZURE_OPENAI_ENDPOINT are set")
            } else {
                settings.base_url = self
                    .environment
                    .get("OPENAI_BASE_URL")
                    .filter(|url| !url.is_empty())
                    .cloned();
                settings.api_key_env = Some("OPENAI_API_KEY".into());
                ("openai", "ASSISTANT_ID is set")
            };
        let mut implied = Implied::new(name, settings, reason);
        implied.assistant.assistant_id = Some(assistant_id.to_owned());
        implied
    }

    /// A bare key means `responses` at api.openai.com or Azure, and `chat` at any other base URL.
    fn implied_key(&self) -> Implied {
        let base_url = self.environment.get("OPENAI_BASE_URL").filter(|url| !url.is_empty());
        let azure = self
            .environment
            .get("AZURE_OPENAI_API_KEY")
            .is_some_and(|key| !key.is_empty());
        let own = base_url.is_some_and(|url| is_elsewhere(url));
        let mut settings = ProviderSettings::new(if own { Dialect::Chat } else { Dialect::Responses });
        if azure {
            settings.service = Some(super::Service::Azure);
            settings.api_key_env = Some("AZURE_OPENAI_API_KEY".into());
            settings.base_url = self
                .environment
                .get("AZURE_OPENAI_ENDPOINT")
                .map(|endpoint| format!("{}/openai/v1", endpoint.trim_end_matches('/')));
            return Implied::new("azure", settings, "AZURE_OPENAI_API_KEY is set");
        }
        settings.api_key_env = Some("OPENAI_API_KEY".into());
        settings.base_url = base_url.cloned();
        Implied::new("openai", settings, "OPENAI_API_KEY is set")
    }
}

impl Implied {
    fn new(provider: &str, settings: ProviderSettings, reason: &str) -> Implied {
        Implied {
            provider: provider.to_owned(),
            settings,
            assistant: AssistantSettings {
                provider: provider.to_owned(),
                ..AssistantSettings::default()
            },
            reason: reason.to_owned(),
        }
    }

    fn scripted(script: &Path) -> Implied {
        let mut settings = ProviderSettings::new(Dialect::Scripted);
        settings.script = Some(script.to_path_buf());
        Implied::new("scripted", settings, "`--script` or ASSISTD_SCRIPT names a script")
    }

    fn local(server: &LocalServer) -> Implied {
        let mut settings = ProviderSettings::new(Dialect::Chat);
        settings.base_url = Some(server.base_url.clone());
        Implied::new(&server.name, settings, &server.reason)
    }

    fn into_choice(self) -> Choice {
        Choice {
            assistant: Some(self.provider.clone()),
            provider: self.provider,
            model: self.settings.model.clone(),
            provider_settings: self.settings,
            instructions: self.assistant.instructions,
            assistant_id: self.assistant.assistant_id,
            tools: Vec::new(),
            options: Options::default(),
            truncation: None,
            reason: self.reason,
            is_last_resort: false,
        }
    }
}

/// Whether a base URL leads to somebody who only speaks as OpenAI does.
fn is_elsewhere(base_url: &str) -> bool {
    !base_url.contains("api.openai.com") && !base_url.contains(".openai.azure.com")
}

fn entry(name: &str, assistant: &AssistantSettings, is_default: bool) -> AssistantEntry {
    AssistantEntry {
        name: name.to_owned(),
        provider: assistant.provider.clone(),
        model: assistant.model.clone(),
        instructions: assistant.instructions.clone(),
        description: assistant.description.clone(),
        tools: assistant.tools.iter().map(|tool| tool.name.clone()).collect(),
        options: Some(assistant.options.clone()).filter(|options| *options != Options::default()),
        upstream_id: assistant.assistant_id.clone(),
        is_default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_environment(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::ephemeral();
        settings.environment = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        settings
    }

    #[test]
    fn with_nothing_set_the_embedded_model_answers() {
        let choice = Settings::ephemeral().choose(None, None).unwrap();
        assert_eq!(
            (choice.provider.as_str(), choice.reason.as_str()),
            ("embedded", "nothing else is set")
        );
        assert_eq!(choice.instructions.as_deref(), Some(EMBEDDED_INSTRUCTIONS));
    }

    #[test]
    fn the_samples_environment_leads_to_azures_assistants() {
        let settings = with_environment(&[
            ("ASSISTANT_ID", "asst_1"),
            ("AZURE_OPENAI_API_KEY", "k"),
            ("AZURE_OPENAI_API_VERSION", "2024-05-01-preview"),
            ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/"),
        ]);
        let choice = settings.choose(None, None).unwrap();
        assert_eq!(choice.provider_settings.dialect, Dialect::Assistants);
        assert_eq!(
            choice.provider_settings.base_url.as_deref(),
            Some("https://r.openai.azure.com/openai")
        );
        assert_eq!(
            choice.provider_settings.api_version.as_deref(),
            Some("2024-05-01-preview")
        );
        assert_eq!(choice.assistant_id.as_deref(), Some("asst_1"));
    }

    #[test]
    fn a_bare_key_means_responses_and_another_base_url_chat() {
        let dialect = |pairs: &[(&str, &str)]| {
            with_environment(pairs)
                .choose(None, None)
                .unwrap()
                .provider_settings
                .dialect
        };
        assert_eq!(dialect(&[("OPENAI_API_KEY", "k")]), Dialect::Responses);
        assert_eq!(
            dialect(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]),
            Dialect::Chat
        );
    }

    fn found() -> Option<LocalServer> {
        Some(LocalServer {
            name: "ollama".into(),
            base_url: "http://127.0.0.1:11434/v1".into(),
            reason: "it answers".into(),
        })
    }

    #[test]
    fn a_server_on_this_machine_answers_before_the_embedded_model() {
        let mut settings = Settings::ephemeral();
        assert!(settings.wants_local(None));
        assert!(settings.wants_local(Some("ollama")));
        assert!(!settings.wants_local(Some("embedded")), "it was named");
        settings.local = found();
        assert!(!settings.wants_local(None), "it is known by now");
        let choice = settings.choose(None, None).unwrap();
        assert_eq!(
            (choice.provider.as_str(), choice.reason.as_str()),
            ("ollama", "it answers")
        );
        assert_eq!(choice.provider_settings.dialect, Dialect::Chat);
        assert_eq!(
            choice.provider_settings.base_url.as_deref(),
            Some("http://127.0.0.1:11434/v1")
        );
        assert_eq!(choice.instructions, None);
        let named = settings.choose(Some("ollama"), None).unwrap();
        assert_eq!(named.provider, "ollama");
        let names: Vec<String> = settings.providers().into_iter().map(|provider| provider.name).collect();
        assert_eq!(names, ["embedded", "ollama"]);
    }

    #[test]
    fn nobody_looks_at_this_machine_where_something_is_set() {
        let toml = |text: &str| {
            let mut settings = Settings::ephemeral();
            settings.layer = super::super::parse_toml(std::path::Path::new("config.toml"), text).unwrap();
            settings
        };
        let set = [
            with_environment(&[("OPENAI_API_KEY", "k")]),
            with_environment(&[("AZURE_OPENAI_API_KEY", "k")]),
            with_environment(&[("ASSISTANT_ID", "asst_1")]),
            with_environment(&[("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]),
            toml("script = \"s.toml\""),
            toml("discover = false"),
            toml("default_provider = \"embedded\""),
            toml("[providers.p]\ndialect = \"chat\""),
            toml("[assistants.a]\nprovider = \"embedded\""),
        ];
        for settings in set {
            assert!(!settings.wants_local(None), "{settings:?}");
        }
        for text in [
            "default_provider = \"ollama\"",
            "default_assistant = \"ollama\"",
            "[assistants.a]\nprovider = \"ollama\"",
        ] {
            let mut settings = toml(text);
            assert!(settings.wants_local(None), "{text}");
            settings.local = found();
            assert_eq!(settings.choose(None, None).unwrap().provider, "ollama", "{text}");
        }
    }

    #[test]
    fn a_key_that_is_set_wins_over_a_server_on_this_machine() {
        let mut settings = with_environment(&[("OPENAI_API_KEY", "k")]);
        settings.local = found();
        assert_eq!(settings.choose(None, None).unwrap().provider, "openai");
    }

    #[test]
    fn a_base_url_alone_means_chat_without_a_key() {
        let choice = |url: &str| {
            with_environment(&[("OPENAI_BASE_URL", url)])
                .choose(None, None)
                .unwrap()
        };
        let own = choice("http://127.0.0.1:1/v1");
        assert_eq!(own.provider_settings.dialect, Dialect::Chat);
        assert_eq!(own.provider_settings.api_key_env, None);
        assert_eq!(
            choice("https://api.openai.com/v1").provider,
            "embedded",
            "that one takes no one without a key"
        );
    }

    #[test]
    fn a_provider_can_be_chosen_by_its_name() {
        let mut settings = with_environment(&[("ASSISTANT_ID", "asst_1"), ("OPENAI_API_KEY", "k")]);
        settings.layer = super::super::parse_toml(
            std::path::Path::new("config.toml"),
            "default_assistant = \"w\"\n[providers.l]\ndialect = \"chat\"\n[assistants.w]\nprovider = \"l\"\nmodel = \"m\"\n",
        )
        .unwrap();
        assert_eq!(settings.choose_provider("l").unwrap().model.as_deref(), Some("m"));
        assert_eq!(
            settings.choose_provider("openai").unwrap().assistant_id.as_deref(),
            Some("asst_1")
        );
        let error = settings.choose_provider("x").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(
            error.data.hint.as_deref(),
            Some("the providers are `embedded`, `l`, `openai`")
        );
    }

    #[test]
    fn settings_win_over_the_environment() {
        let mut settings = with_environment(&[("OPENAI_API_KEY", "k")]);
        settings.layer = super::super::parse_toml(
            std::path::Path::new("config.toml"),
            "default_assistant = \"w\"\n[providers.l]\ndialect = \"chat\"\n[assistants.w]\nprovider = \"l\"\nmodel = \"m\"\n",
        )
        .unwrap();
        let choice = settings.choose(None, None).unwrap();
        assert_eq!((choice.provider.as_str(), choice.model.as_deref()), ("l", Some("m")));
        assert_eq!(settings.choose(None, Some("n")).unwrap().model.as_deref(), Some("n"));
    }

    #[test]
    fn a_script_plays_whatever_else_is_set() {
        let mut settings = with_environment(&[("OPENAI_API_KEY", "k")]);
        settings.layer = super::super::parse_toml(
            std::path::Path::new("config.toml"),
            "default_assistant = \"w\"\nscript = \"/s.toml\"\n[assistants.w]\nprovider = \"openai\"\ninstructions = \"i\"\n",
        )
        .unwrap();
        let choice = settings.choose(None, None).unwrap();
        assert_eq!(choice.provider_settings.dialect, Dialect::Scripted);
        assert_eq!(
            (choice.provider.as_str(), choice.instructions.as_deref()),
            ("scripted", Some("i"))
        );
        settings.layer.default_assistant = None;
        assert_eq!(
            settings.choose(None, None).unwrap().instructions.as_deref(),
            Some("i"),
            "the only one is meant"
        );
        settings.layer.default_provider = Some("nobody".into());
        let choice = settings.choose(None, None).unwrap();
        assert_eq!((choice.provider.as_str(), choice.instructions), ("scripted", None));
    }

    #[test]
    fn an_upstreams_own_assistant_can_be_named() {
        let settings = with_environment(&[("ASSISTANT_ID", "asst_1"), ("OPENAI_API_KEY", "k")]);
        let choice = settings.choose(Some("asst_2"), None).unwrap();
        assert_eq!(
            (choice.provider.as_str(), choice.assistant_id.as_deref()),
            ("openai", Some("asst_2"))
        );
    }

    #[test]
    fn an_unknown_assistant_lists_the_known_ones() {
        let error = Settings::ephemeral().choose(Some("x"), None).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.data.hint.as_deref(), Some("the assistants are `embedded`"));
        // A default that is unknown is sought once, not again for the list of those that are known.
        for name in ["x", "asst_x"] {
            let mut settings = Settings::ephemeral();
            settings.layer.default_assistant = Some(name.into());
            assert_eq!(settings.choose(None, None).unwrap_err().kind(), Kind::NotFound);
        }
    }
}
