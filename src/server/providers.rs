//! The providers that were asked so far: each is made once, so that its connections and its model are kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::credentials::credentials;
use crate::config::{Choice, Dialect, ProviderSettings, Settings};
use crate::desk::Desk;
use crate::error::{Error, Kind};
use crate::provider::Provider;
use crate::provider::assistants::Assistants;
use crate::provider::chat::Chat;
use crate::provider::credentials::Credentials;
#[cfg(feature = "embedded")]
use crate::provider::embedded::Embedded;
use crate::provider::http::{Http, Network};
use crate::provider::responses::Responses;
use crate::provider::scripted::Scripted;

/// A provider's name, and its upstream's id of the assistant.
type Key = (String, Option<String>);

/// The providers made so far.
#[derive(Default)]
pub(super) struct Providers {
    http: Http,
    /// Where the client is asked for tokens, if it gives them.
    desk: RefCell<Option<Desk>>,
    made: RefCell<HashMap<Key, Arc<dyn Provider>>>,
}

impl Providers {
    /// The client gives tokens. Said before the first provider is made.
    pub(super) fn ask_client_at(&self, desk: Desk) {
        *self.desk.borrow_mut() = Some(desk);
    }

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
        let provider = &ProviderSettings {
            max_retries: choice.provider_settings.max_retries.or(settings.layer.max_retries),
            ..choice.provider_settings.clone()
        };
        match provider.dialect {
            Dialect::Assistants => {
                let id = choice.assistant_id.clone();
                let (credentials, http) = self.access(settings, name, provider)?;
                Ok(Arc::new(Assistants::new(name, provider, id, credentials, http)))
            }
            Dialect::Scripted => match &provider.script {
                Some(script) => {
                    let scripted = Scripted::new(name, script.clone());
                    // Whoever tries how their plugin gives tokens is asked for one.
                    Ok(match provider.auth {
                        Some(_) => Arc::new(scripted.with_credentials(self.access(settings, name, provider)?.0)),
                        None => Arc::new(scripted),
                    })
                }
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
                let (credentials, http) = self.access(settings, name, provider)?;
                Ok(Arc::new(Responses::new(name, provider, credentials, http)))
            }
            Dialect::Chat => {
                let (credentials, http) = self.access(settings, name, provider)?;
                Ok(Arc::new(Chat::new(name, provider, credentials, http)))
            }
        }
    }

    /// How a provider gets at its upstream: its credentials, and HTTP on its network.
    fn access(
        &self,
        settings: &Settings,
        name: &str,
        provider: &ProviderSettings,
    ) -> Result<(Credentials, Http), Error> {
        let http = self.http.on(Network::of(settings, name, provider)?);
        let credentials = credentials(settings, name, provider, self.desk.borrow().as_ref(), &http)?;
        Ok((credentials, http))
    }
}
