//! How a provider reaches its upstream: through which proxy, and whom it trusts.
//!
//! Plain data, made once from the settings, so that what is wrong with them is told before anything is sent. Equal
//! networks share their connections.

use std::path::Path;

use reqwest::Url;

use super::authorities::Authorities;
use super::proxy::{Proxies, Way};
use crate::config::{ProviderSettings, Settings};
use crate::error::{Error, Kind};

/// A network set-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Network {
    proxies: Proxies,
    authorities: Authorities,
}

impl Network {
    /// No proxy, and nobody trusted but whom the platform trusts.
    pub fn direct() -> Self {
        Network::default()
    }

    /// As the settings and the environment say for this provider.
    pub fn of(settings: &Settings, provider: &str, own: &ProviderSettings) -> Result<Network, Error> {
        let layer = &settings.layer;
        let proxies = Proxies::of(&settings.environment, layer.proxy.as_deref(), own.proxy.as_deref());
        let mut files: Vec<&Path> = layer
            .ca_file
            .iter()
            .chain(&own.ca_file)
            .map(|file| file.as_path())
            .collect();
        // Elsewhere the platform's own certificates are found by it.
        if cfg!(any(windows, target_vendor = "apple")) {
            let variable = settings.environment.get("SSL_CERT_FILE");
            files.extend(variable.filter(|file| !file.is_empty()).map(Path::new));
        }
        let wrong = |problem| Error::new(Kind::ConfigInvalid, problem).with_provider(provider);
        Ok(Network {
            proxies: proxies.map_err(wrong)?,
            authorities: Authorities::read(files).map_err(wrong)?,
        })
    }

    /// The way to this URL.
    pub fn way(&self, url: &Url) -> Way {
        self.proxies.way(url)
    }

    /// Who is trusted besides those whom the platform trusts.
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }
}
