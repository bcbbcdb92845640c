//! Where each provider's key or token comes from.
//!
//! A key that was meant to be there never falls through to something else, but for the client: whoever can be asked
//! for a token knows better than a variable that is empty.

use crate::config::{Auth, ProviderSettings, Service, Settings};
use crate::desk::Desk;
use crate::error::{Error, Kind};
use crate::provider::credentials::{Credentials, Entra, KeyCommand, READY_TOKEN, Secret, Source, TokenClient};
use crate::provider::http::Http;

/// The credentials of this provider. `desk` is there if the client gives tokens, `http` is on the provider's network.
pub(super) fn credentials(
    settings: &Settings,
    name: &str,
    provider: &ProviderSettings,
    desk: Option<&Desk>,
    http: &Http,
) -> Result<Credentials, Error> {
    let client = desk.map(|desk| TokenClient::new(desk.clone(), name, provider.base_url.as_deref()));
    let entra = || {
        Source::Entra(Box::new(Entra::new(
            name,
            provider,
            &settings.environment,
            http.clone(),
        )))
    };
    let source = match (provider.auth, settings.key_from_environment(name, provider), client) {
        (Some(Auth::Client), _, Some(client)) => Source::Client(client),
        (Some(Auth::Client), _, None) => return Err(no_client(name)),
        (Some(Auth::Entra), ..) => entra(),
        (None, Ok(Some(key)), _) => Source::Key(Secret::new(&key)),
        (None, Err(_), _) if has_ready_token(settings, provider) => entra(),
        (None, Err(_), Some(client)) => Source::Client(client),
        (None, Err(error), None) => return Err(error),
        (None, Ok(None), client) => match (&provider.api_key_command, client) {
            (Some(command), _) => Source::Command(KeyCommand::new(name, command.clone(), provider.api_key_ttl())),
            (None, _) if provider.resolved_service() == Service::Foundry => entra(),
            (None, Some(client)) => Source::Client(client.when_refused()),
            (None, None) => Source::Nothing,
        },
    };
    Ok(Credentials::from_source(name, source))
}

/// Azure's own variable for a token, which its libraries take in place of a key.
fn has_ready_token(settings: &Settings, provider: &ProviderSettings) -> bool {
    let token = settings.environment.get(READY_TOKEN);
    provider.resolved_service() != Service::Openai && token.is_some_and(|token| !token.trim().is_empty())
}

fn no_client(name: &str) -> Error {
    Error::new(
        Kind::AuthRequired,
        format!("provider `{name}` takes its tokens from the client, and this client gives none"),
    )
    .with_provider(name)
    .with_hint("answer `auth/token` and say so with the capability `authToken`, or set another way than `auth`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;

    /// Where the credentials of these settings come from, in a word.
    fn source(change: impl FnOnce(&mut ProviderSettings), variables: &[&str], has_client: bool) -> String {
        let mut settings = Settings::ephemeral();
        let variables = variables.iter().map(|name| (name.to_string(), "value".to_owned()));
        settings.environment = variables.collect();
        let mut provider = ProviderSettings::new(Dialect::Chat);
        change(&mut provider);
        let desk = has_client.then(|| Desk::new().0);
        match credentials(&settings, "p", &provider, desk.as_ref(), &Http::new()) {
            Ok(credentials) => credentials.source_name().to_owned(),
            Err(error) => error.message.into_owned(),
        }
    }

    #[test]
    fn what_is_set_decides_and_the_client_is_asked_last() {
        let nothing = |_: &mut ProviderSettings| {};
        let variable = |provider: &mut ProviderSettings| provider.api_key_env = Some("KEY".into());
        let command = |provider: &mut ProviderSettings| provider.api_key_command = Some(vec!["pass".into()]);
        let foundry = |provider: &mut ProviderSettings| provider.service = Some(Service::Foundry);
        let auth = |auth| move |provider: &mut ProviderSettings| provider.auth = Some(auth);

        assert_eq!(source(nothing, &[], false), "nothing");
        assert_eq!(source(nothing, &[], true), "client, once refused");
        assert_eq!(source(variable, &["KEY"], true), "key");
        assert_eq!(source(variable, &[], true), "client");
        assert!(source(variable, &[], false).starts_with("the key of provider `p` is not set"));
        assert_eq!(source(command, &[], true), "command");
        assert_eq!(source(foundry, &[], true), "entra");
        assert_eq!(source(auth(Auth::Entra), &["KEY"], true), "entra");
        assert_eq!(source(auth(Auth::Client), &["KEY"], true), "client");
        assert!(source(auth(Auth::Client), &[], false).ends_with("this client gives none"));
        let azure = |provider: &mut ProviderSettings| {
            provider.service = Some(Service::Azure);
            provider.api_key_env = Some("KEY".into());
        };
        assert_eq!(source(azure, &["KEY", READY_TOKEN], false), "key");
        assert_eq!(source(azure, &[READY_TOKEN], true), "entra");
        assert_eq!(
            source(variable, &[READY_TOKEN], true),
            "client",
            "no Azure, no token of Azure's"
        );
    }
}
