//! Where keys are in settings and environment: to be used, and to be blanked wherever else they might show.

use super::{ProviderSettings, Settings};
use crate::error::{Error, Kind};

/// Variables that hold a key or a secret, whatever the settings name.
const WELL_KNOWN_KEYS: &[&str] = &[
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_CLIENT_SECRET",
    "IDENTITY_HEADER",
];

/// The password in a URL as it is written there.
pub fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let (user, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

impl Settings {
    /// Every key that the settings and the well-known variables lead to, for blanking them.
    pub fn known_keys(&self) -> Vec<String> {
        let named = self
            .layer
            .providers
            .values()
            .filter_map(|provider| provider.api_key_env.as_deref());
        let names = named.chain(WELL_KNOWN_KEYS.iter().copied());
        let keys = names
            .filter_map(|name| self.environment.get(name))
            .map(|key| key.trim().to_owned());
        let proxies = self
            .environment
            .iter()
            .filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"));
        let proxies = proxies.map(|(_, url)| url).chain(&self.layer.proxy);
        let proxies = proxies.chain(
            self.layer
                .providers
                .values()
                .filter_map(|provider| provider.proxy.as_ref()),
        );
        let passwords = proxies.filter_map(|url| password_of(url)).map(str::to_owned);
        keys.chain(passwords).filter(|key| !key.is_empty()).collect()
    }

    /// The key that this provider's settings lead to, if they name a variable. A variable that is named but not set is
    /// an error: a key that was meant to be there never falls through to something else.
    pub fn key_from_environment(&self, provider: &str, settings: &ProviderSettings) -> Result<Option<String>, Error> {
        let Some(name) = &settings.api_key_env else {
            return Ok(None);
        };
        match self.environment.get(name).filter(|key| !key.trim().is_empty()) {
            Some(key) => Ok(Some(key.trim().to_owned())),
            None => Err(Error::new(
                Kind::AuthRequired,
                format!("the key of provider `{provider}` is not set: the environment variable `{name}` is empty"),
            )
            .with_provider(provider)
            .with_hint(format!(
                "set `{name}`, or name another variable with `api_key_env`, or a program with `api_key_command`"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_proxies_are_known_keys() {
        let rows = [
            ("http://user:pass@proxy:3128", Some("pass")),
            ("user:p@ss@proxy", Some("p@ss")),
            ("socks5://user:@proxy", Some("")),
            ("http://user@proxy", None),
            ("http://proxy:3128/a:b@c", None),
            ("proxy:3128", None),
        ];
        for (url, expected) in rows {
            assert_eq!(password_of(url), expected, "{url}");
        }
        let mut settings = Settings::ephemeral();
        let variables = [
            ("https_proxy", "http://u:one@p"),
            ("ALL_PROXY", "p:1"),
            ("AZURE_CLIENT_SECRET", "two"),
        ];
        settings.environment = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        settings.layer.proxy = Some("http://u:three@p".into());
        let mut keys = settings.known_keys();
        keys.sort();
        assert_eq!(keys, ["one", "three", "two"]);
    }
}
