//! Which assistant, provider and model a request gets, and why.
//!
//! What the settings name; the environment; a server on this machine; the embedded model. A key that is set never falls
//! through to something else: whoever set it wants that upstream, and gets an error rather than another model's answer.
//! Nothing here looks for a server: whoever asks does so first where [`Settings::wants_local`] says so.

mod implied;

use std::collections::{BTreeMap, BTreeSet};

use implied::Implied;

use super::{AssistantSettings, Auth, Dialect, ProviderSettings, Service, Settings};
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
    /// The MCP servers that the assistant names; see [`Settings::mcp_servers`].
    pub mcp: Option<Vec<String>>,
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
                mut settings,
                reason,
                ..
            } = Implied::scripted(script);
            // Authors also try how their plugin gives tokens.
            if choice.provider_settings.auth == Some(Auth::Client) {
                settings.auth = Some(Auth::Client);
                settings.base_url = choice.provider_settings.base_url.take();
            }
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
                Err(_) => assistant.is_some() || self.names_default(),
            }
    }

    /// Whether the settings name who answers, who may be a server that is still to be found.
    fn names_default(&self) -> bool {
        let names = [&self.layer.default_assistant, &self.layer.default_provider];
        names.into_iter().any(Option::is_some) || self.layer.assistants.len() == 1
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
                credentials: credentials(settings).to_owned(),
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
            (None, Some(name)) => {
                let reason = "`--provider` or `default_provider` names it";
                let choice = self.bare_provider(name, reason)?;
                return Ok(Choice {
                    reason: reason.to_owned(),
                    ..choice
                });
            }
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
        let is_local = self.local.as_ref().is_some_and(|server| server.name == first.provider);
        if is_last_resort || is_local {
            self.several_without_default()?;
        }
        let mut choice = first.into_choice();
        choice.is_last_resort = is_last_resort;
        if is_local {
            choice.reason = format!("nothing else is set, and {}", choice.reason);
        }
        Ok(choice)
    }

    /// Whoever has set up several wants one of them, and not a model that happens to be on this machine.
    fn several_without_default(&self) -> Result<(), Error> {
        fn quoted<T>(named: &BTreeMap<String, T>) -> String {
            let names: Vec<String> = named.keys().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        }
        let (what, key, names) = if !self.layer.assistants.is_empty() {
            ("assistants", "default_assistant", quoted(&self.layer.assistants))
        } else if !self.layer.providers.is_empty() {
            ("providers", "default_provider", quoted(&self.layer.providers))
        } else {
            return Ok(());
        };
        let message = format!("the settings have several {what}, and none of them is the default: {names}");
        Err(Error::new(Kind::ConfigInvalid, message).with_hint(format!("name one with `{key}`")))
    }

    fn bare_provider(&self, name: &str, reason: &str) -> Result<Choice, Error> {
        if !self.layer.providers.contains_key(name)
            && let Some(implied) = self.implied().into_iter().find(|implied| implied.provider == name)
        {
            return Ok(implied.into_choice());
        }
        if !self.layer.providers.contains_key(name) {
            let message = format!("there is no provider `{name}`, and {reason}");
            let known = self.layer.providers.keys().cloned();
            let known = known.chain(self.implied().into_iter().map(|implied| implied.provider));
            let known: BTreeSet<String> = known.map(|name| format!("`{name}`")).collect();
            return Err(Error::new(Kind::ConfigInvalid, message).with_hint(format!(
                "add `[providers.{name}]` to config.toml, or name one of {}",
                known.into_iter().collect::<Vec<_>>().join(", ")
            )));
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
        settings.check(&assistant.provider)?;
        Ok(Choice {
            assistant: Some(name.to_owned()),
            provider: assistant.provider.clone(),
            model: assistant.model.clone().or_else(|| settings.model.clone()),
            provider_settings: settings,
            instructions: assistant.instructions.clone(),
            assistant_id: assistant.assistant_id.clone(),
            tools: assistant.tools.clone(),
            mcp: assistant.mcp.clone(),
            options: assistant.options.clone(),
            truncation: assistant.truncation,
            reason,
            is_last_resort: false,
        })
    }
}

/// Where a provider's credentials come from, in a word.
fn credentials(settings: &ProviderSettings) -> &'static str {
    match (settings.auth, &settings.api_key_env, &settings.api_key_command) {
        (Some(Auth::Client), _, _) => "client",
        (Some(Auth::Entra), _, _) => "entra",
        (None, Some(_), _) => "environment",
        (None, None, Some(_)) => "command",
        (None, None, None) if settings.resolved_service() == Service::Foundry => "entra",
        (None, None, None) => "none",
    }
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
mod tests;
