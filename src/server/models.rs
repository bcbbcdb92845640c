//! What providers offer, and whether they can be reached: `model/list` and `provider/check`.

use std::time::Duration;

use futures::future::join_all;

use super::Server;
use super::providers::Providers;
use super::reply::ReplyTo;
use crate::config::{Auth, Choice, Service, Settings};
use crate::error::{Error, Kind};
use crate::protocol::{
    CheckDetails, CheckStage, ModelEntry, ModelListParams, ModelListResult, ProviderCheckParams, ProviderCheckResult,
    StageName, StageStatus,
};
use crate::provider::check::{Wanted, only_model};

/// How long an upstream may take to list its models.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// What to do about a setting whose error does not say so itself.
const MEND: &str = "mend it in config.toml and start assistd again, or send it right with `initialize`";

impl Server {
    /// `model/list`
    pub(super) fn list_models(&mut self, reply: ReplyTo, params: ModelListParams) {
        let (settings, choosing) = (self.settings.clone(), self.choosing.clone());
        let providers = self.providers.clone();
        self.errand(reply, async move {
            let settings = choosing.settle(settings, None).await;
            match &params.provider {
                Some(name) => one_list(&settings, &providers, name).await,
                None => Ok(all_lists(&settings, &providers).await),
            }
        });
    }

    /// `provider/check`
    pub(super) fn check_provider(&mut self, reply: ReplyTo, params: ProviderCheckParams) {
        let (settings, choosing) = (self.settings.clone(), self.choosing.clone());
        let providers = self.providers.clone();
        self.errand(reply, async move {
            let settings = choosing.settle(settings, None).await;
            let choice = match &params.provider {
                Some(name) if settings.problems.is_empty() => settings.choose_provider(name)?,
                _ => match settings.choose(None, None) {
                    Ok(choice) => choice,
                    Err(error) => return Ok(unchosen(error)),
                },
            };
            Ok(check(&settings, &providers, choice, params.model).await)
        });
    }
}

async fn one_list(settings: &Settings, providers: &Providers, name: &str) -> Result<ModelListResult, Error> {
    let choice = settings.choose_provider(name)?;
    let models = models(settings, providers, &choice).await?;
    let default = settings.choose(None, None).ok();
    Ok(ModelListResult {
        models: entries(&choice, models, default.as_ref()),
        warnings: Vec::new(),
    })
}

async fn all_lists(settings: &Settings, providers: &Providers) -> ModelListResult {
    let default = settings.choose(None, None).ok();
    let names = settings.providers().into_iter().map(|provider| provider.name);
    let asked = join_all(names.map(|name| async move {
        let choice = settings.choose_provider(&name)?;
        let models = models(settings, providers, &choice).await?;
        Ok::<_, Error>((choice, models))
    }));
    let mut result = ModelListResult {
        models: Vec::new(),
        warnings: Vec::new(),
    };
    for listed in asked.await {
        match listed {
            Ok((choice, models)) => result.models.extend(entries(&choice, models, default.as_ref())),
            Err(error) => result.warnings.push(error.message.into_owned()),
        }
    }
    result
}

async fn models(settings: &Settings, providers: &Providers, choice: &Choice) -> Result<Vec<String>, Error> {
    let provider = providers.provider(settings, choice)?;
    let listed = tokio::time::timeout(LIST_TIMEOUT, provider.models()).await;
    listed.unwrap_or_else(|_| {
        let name = &choice.provider;
        let message = format!(
            "provider `{name}` did not list its models within {} s",
            LIST_TIMEOUT.as_secs()
        );
        Err(Error::new(Kind::Network, message).with_provider(name))
    })
}

/// A provider's only model answers where none is named.
fn entries(choice: &Choice, models: Vec<String>, default: Option<&Choice>) -> Vec<ModelEntry> {
    let default = default.filter(|default| default.provider == choice.provider);
    let only = only_model(&models).map(str::to_owned);
    let is_default = |model: &str| {
        default.is_some_and(|default| match default.model.as_deref() {
            Some(named) => named == model,
            None => only.as_deref() == Some(model),
        })
    };
    let entries = models.into_iter().map(|name| ModelEntry {
        is_default: is_default(&name),
        provider: choice.provider.clone(),
        name,
    });
    entries.collect()
}

async fn check(
    settings: &Settings,
    providers: &Providers,
    choice: Choice,
    model: Option<String>,
) -> ProviderCheckResult {
    let mut stages = match providers.provider(settings, &choice) {
        Ok(provider) => {
            let key_from = key_from(&choice);
            let wanted = Wanted {
                model: model.as_deref().or(choice.model.as_deref()),
                key_from: key_from.as_deref(),
            };
            provider.check(wanted).await
        }
        Err(error) => vec![wrong_settings(error)],
    };
    for stage in &mut stages {
        if (stage.stage, stage.status) == (StageName::Settings, StageStatus::Failed) {
            stage.hint.get_or_insert_with(|| MEND.to_owned());
        }
    }
    ProviderCheckResult {
        ok: stages.iter().all(|stage| stage.status != StageStatus::Failed),
        provider: Some(choice.provider),
        dialect: Some(choice.provider_settings.dialect.as_str().to_owned()),
        reason: Some(choice.reason),
        stages,
    }
}

/// The settings are too wrong for a choice.
fn unchosen(error: Error) -> ProviderCheckResult {
    ProviderCheckResult {
        ok: false,
        provider: None,
        dialect: None,
        reason: None,
        stages: vec![wrong_settings(error)],
    }
}

fn wrong_settings(error: Error) -> CheckStage {
    CheckStage {
        stage: StageName::Settings,
        status: StageStatus::Failed,
        message: error.message.into_owned(),
        hint: error.data.hint.map(|hint| hint.into_owned()),
        details: CheckDetails::default(),
        elapsed_ms: 0,
    }
}

/// Where the key comes from, for the end of a sentence; never the key.
fn key_from(choice: &Choice) -> Option<String> {
    let provider = &choice.provider_settings;
    match provider.auth {
        Some(Auth::Client) => return Some("the client".to_owned()),
        Some(Auth::Entra) => return Some("Entra ID".to_owned()),
        None => {}
    }
    let command = provider.api_key_command.as_ref().and_then(|command| command.first());
    match (&provider.api_key_env, command) {
        (Some(name), _) => Some(format!("the environment variable `{name}`")),
        (None, Some(program)) => Some(format!("the command `{program}`")),
        (None, None) => (provider.resolved_service() == Service::Foundry).then(|| "Entra ID".to_owned()),
    }
}
