//! What is there without being configured: a script of the command line, what the environment leads to, a server that was
//! found on this machine, and the embedded model, which is always there.

use std::path::Path;

use super::{Choice, EMBEDDED_INSTRUCTIONS, LocalServer};
use crate::config::{AssistantSettings, Dialect, ProviderSettings, Service, Settings};
use crate::protocol::Options;

/// A provider that nobody configured: from a variable, a flag or because there is nothing else.
pub(super) struct Implied {
    pub(super) provider: String,
    pub(super) settings: ProviderSettings,
    pub(super) assistant: AssistantSettings,
    pub(super) reason: String,
}

impl Settings {
    /// What is there without being configured, the most wanted first.
    pub(super) fn implied(&self) -> Vec<Implied> {
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
                settings.service = Some(Service::Azure);
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
        let own = !azure && base_url.is_some_and(|url| is_elsewhere(url));
        let mut settings = ProviderSettings::new(if own { Dialect::Chat } else { Dialect::Responses });
        if azure {
            settings.service = Some(Service::Azure);
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

    pub(super) fn scripted(script: &Path) -> Implied {
        let mut settings = ProviderSettings::new(Dialect::Scripted);
        settings.script = Some(script.to_path_buf());
        Implied::new("scripted", settings, "`--script` or ASSISTD_SCRIPT names a script")
    }

    fn local(server: &LocalServer) -> Implied {
        let mut settings = ProviderSettings::new(Dialect::Chat);
        settings.base_url = Some(server.base_url.clone());
        Implied::new(&server.name, settings, &server.reason)
    }

    pub(super) fn into_choice(self) -> Choice {
        Choice {
            assistant: Some(self.provider.clone()),
            provider: self.provider,
            model: self.settings.model.clone(),
            provider_settings: self.settings,
            instructions: self.assistant.instructions,
            assistant_id: self.assistant.assistant_id,
            tools: Vec::new(),
            mcp: None,
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
