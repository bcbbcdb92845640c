//! The providers that were asked so far: each is made once, so that its connections and its model are kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Choice, Dialect, ProviderSettings, Settings};
use crate::error::{Error, Kind};
use crate::provider::Provider;
use crate::provider::assistants::Assistants;
use crate::provider::chat::Chat;
use crate::provider::credentials::Credentials;
#[cfg(feature = "embedded")]
use crate::provider::embedded::Embedded;
use crate::provider::http::Http;
use crate::provider::responses::Responses;
use crate::provider::scripted::Scripted;

/// A provider's name, and its upstream's id of the assistant.
type Key = (String, Option<String>);

/// The providers made so far.
#[derive(Default)]
pub(super) struct Providers {
    http: Http,
    made: RefCell<HashMap<Key, Arc<dyn Provider>>>,
}

impl Providers {
    /// The provider of this choice.
    pub(super) fn provider(&self, settings: &Settings, choice: &Choice) -> Result<Arc<dyn Provider>, Error> {
        let key = (choice.provider.clone(), choice.assistant_id.clone());
        if let Some(provider) = self.made.borrow().get(&key) {
            return Ok(provider.clone());
        }
        let provider = self.make(settings, choice)?;
        self.made.borrow_mut().insert(key, provider.clone());
        Ok(provider)
    }

    fn make(&self, settings: &Settings, choice: &Choice) -> Result<Arc<dyn Provider>, Error> {
        let name = choice.provider.as_str();
        let provider = &choice.provider_settings;
        match provider.dialect {
            Dialect::Assistants => {
                let credentials = credentials(settings, name, provider)?;
                let id = choice.assistant_id.clone();
                Ok(Arc::new(Assistants::new(
                    name,
                    provider,
                    id,
                    credentials,
                    self.http.clone(),
                )))
            }
            Dialect::Scripted => match &provider.script {
                Some(script) => Ok(Arc::new(Scripted::new(name, script.clone()))),
                None => Err(Error::new(
                    Kind::ConfigInvalid,
                    format!("provider `{name}` names no `script`"),
                )),
            },
            #[cfg(feature = "embedded")]
            Dialect::Embedded => Ok(Arc::new(Embedded::new(
                name,
                provider,
                settings.cache_dir.clone(),
                settings.may_fetch_weights(),
            ))),
            #[cfg(not(feature = "embedded"))]
            Dialect::Embedded => Err(Error::new(
                Kind::ConfigInvalid,
                "this assistd was built without the embedded model, and no other provider is set",
            )
            .with_hint("set a provider in config.toml, or build with the feature `embedded`")),
            Dialect::Responses => {
                let credentials = credentials(settings, name, provider)?;
                Ok(Arc::new(Responses::new(name, provider, credentials, self.http.clone())))
            }
            Dialect::Chat => {
                let credentials = credentials(settings, name, provider)?;
                Ok(Arc::new(Chat::new(name, provider, credentials, self.http.clone())))
            }
        }
    }
}

/// Where the provider's key or token comes from.
fn credentials(settings: &Settings, name: &str, provider: &ProviderSettings) -> Result<Credentials, Error> {
    let key = settings.key_from_environment(name, provider)?;
    Ok(Credentials::new(name, key, provider.api_key_command.clone()))
}
