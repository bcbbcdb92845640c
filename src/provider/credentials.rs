//! A provider's key or token: given, printed by a program, asked of the client, or issued by Entra ID.
//!
//! A token is kept until shortly before its end, or until the upstream refuses it. A secret's `Debug` shows nothing,
//! and nothing here puts one into an error or a log.

mod client;
mod command;
mod entra;
mod program;
mod secret;
mod token;

use tokio::sync::Mutex;

use crate::error::Error;
use crate::protocol::TokenReason;

pub use client::TokenClient;
pub use command::KeyCommand;
pub use entra::{Entra, READY_TOKEN};
pub use secret::Secret;
pub use token::{Token, duration};

/// Where a provider's secret comes from, and the one that it gave last.
#[derive(Debug)]
pub struct Credentials {
    provider: String,
    source: Source,
    /// The lock is held while a token is asked for, so that runs that start together ask once.
    kept: Mutex<Option<Token>>,
}

/// Where a secret comes from.
#[derive(Debug)]
pub enum Source {
    /// Nowhere: many local servers want none.
    Nothing,
    /// It is known.
    Key(Secret),
    /// Somebody is asked for it.
    Issuer(Issuer),
}

/// Who is asked for tokens.
#[derive(Debug)]
pub enum Issuer {
    /// A program prints them.
    Command(KeyCommand),
    /// The client gives them.
    Client(TokenClient),
    /// Entra ID issues them.
    Entra(Box<Entra>),
}

impl Credentials {
    /// The key if there is one, else what the command prints, else nothing.
    pub fn new(provider: &str, key: Option<String>, command: Option<Vec<String>>) -> Self {
        let source = match (key, command) {
            (Some(key), _) => Source::Key(Secret::new(&key)),
            (None, Some(command)) => KeyCommand::new(provider, command, None).into(),
            (None, None) => Source::Nothing,
        };
        Credentials::from_source(provider, source)
    }

    /// The credentials of this provider, from this source.
    pub fn from_source(provider: &str, source: impl Into<Source>) -> Self {
        Credentials {
            provider: provider.to_owned(),
            source: source.into(),
            kept: Mutex::new(None),
        }
    }

    /// Where the secret comes from, in a word or two, for people and programs that check the settings.
    pub fn source_name(&self) -> &'static str {
        match &self.source {
            Source::Nothing => "nothing",
            Source::Key(_) => "key",
            Source::Issuer(Issuer::Command(_)) => "command",
            Source::Issuer(Issuer::Client(client)) if client.waits_for_refusal() => "client, once refused",
            Source::Issuer(Issuer::Client(_)) => "client",
            Source::Issuer(Issuer::Entra(_)) => "entra",
        }
    }

    /// Whether the client is asked before the first request, which may disturb its user.
    pub fn asks_client(&self) -> bool {
        matches!(&self.source, Source::Issuer(Issuer::Client(client)) if !client.waits_for_refusal())
    }

    /// The secret, if one is set or was asked for. Asks the first time, and again when it is about to end.
    pub async fn get(&self) -> Result<Option<Secret>, Error> {
        let issuer = match &self.source {
            Source::Nothing => return Ok(None),
            Source::Key(secret) => return Ok(Some(secret.clone())),
            Source::Issuer(issuer) => issuer,
        };
        let mut kept = self.kept.lock().await;
        let token = match &*kept {
            Some(token) if token.is_fresh() => token.clone(),
            Some(token) => match issuer.issue(TokenReason::Expired).await {
                Ok(token) => token,
                Err(error) if !token.is_expired() => {
                    tracing::warn!(provider = self.provider, %error, "a token could not be renewed, and is used up");
                    token.clone()
                }
                Err(error) => return Err(error),
            },
            None if issuer.waits_for_refusal() => return Ok(None),
            None => issuer.issue(TokenReason::Missing).await?,
        };
        let secret = token.secret.clone();
        *kept = Some(token);
        Ok(Some(secret))
    }

    /// Whether there is another secret than the one that the upstream refused. Asks for it, unless somebody else has
    /// done so meanwhile.
    pub async fn renew(&self, refused: Option<&Secret>) -> Result<bool, Error> {
        let Source::Issuer(issuer) = &self.source else {
            return Ok(false);
        };
        let mut kept = self.kept.lock().await;
        let reason = match &*kept {
            Some(token) if Some(&token.secret) != refused => return Ok(true),
            Some(token) if token.is_expired() => TokenReason::Expired,
            Some(_) => TokenReason::Refused,
            None => TokenReason::Missing,
        };
        let token = issuer.issue(reason).await?;
        let is_another = Some(&token.secret) != refused;
        *kept = Some(token);
        Ok(is_another)
    }
}

impl Issuer {
    /// A new token. `reason` is for those who ask somebody.
    async fn issue(&self, reason: TokenReason) -> Result<Token, Error> {
        match self {
            Issuer::Command(command) => command.issue().await,
            Issuer::Client(client) => client.issue(reason).await,
            Issuer::Entra(entra) => entra.issue().await,
        }
    }

    fn waits_for_refusal(&self) -> bool {
        matches!(self, Issuer::Client(client) if client.waits_for_refusal())
    }
}

impl From<KeyCommand> for Source {
    fn from(command: KeyCommand) -> Self {
        Source::Issuer(Issuer::Command(command))
    }
}

impl From<TokenClient> for Source {
    fn from(client: TokenClient) -> Self {
        Source::Issuer(Issuer::Client(client))
    }
}

impl From<Entra> for Source {
    fn from(entra: Entra) -> Self {
        Source::Issuer(Issuer::Entra(Box::new(entra)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_in_no_debug_text() {
        let credentials = Credentials::new("p", Some("sk-very-secret".into()), None);
        assert!(!format!("{credentials:?}").contains("very"));
    }
}
