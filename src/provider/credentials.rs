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

use crate::error::{Error, Kind};
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
    /// A program prints it.
    Command(KeyCommand),
    /// The client gives it.
    Client(TokenClient),
    /// Entra ID issues it.
    Entra(Box<Entra>),
}

impl Credentials {
    /// The key if there is one, else what the command prints, else nothing.
    pub fn new(provider: &str, key: Option<String>, command: Option<Vec<String>>) -> Self {
        let source = match (key, command) {
            (Some(key), _) => Source::Key(Secret::new(&key)),
            (None, Some(command)) => Source::Command(KeyCommand::new(provider, command, None)),
            (None, None) => Source::Nothing,
        };
        Credentials::from_source(provider, source)
    }

    /// The credentials of this provider, from this source.
    pub fn from_source(provider: &str, source: Source) -> Self {
        Credentials {
            provider: provider.to_owned(),
            source,
            kept: Mutex::new(None),
        }
    }

    /// Where the secret comes from, in a word or two, for people and programs that check the settings.
    pub fn source_name(&self) -> &'static str {
        match &self.source {
            Source::Nothing => "nothing",
            Source::Key(_) => "key",
            Source::Command(_) => "command",
            Source::Client(client) if client.waits_for_refusal() => "client, once refused",
            Source::Client(_) => "client",
            Source::Entra(_) => "entra",
        }
    }

    /// Whether the client is asked before the first request, which may disturb its user.
    pub fn asks_client(&self) -> bool {
        matches!(&self.source, Source::Client(client) if !client.waits_for_refusal())
    }

    /// The secret, if one is set or was asked for. Asks the first time, and again when it is about to end.
    pub async fn get(&self) -> Result<Option<Secret>, Error> {
        match &self.source {
            Source::Nothing => return Ok(None),
            Source::Key(secret) => return Ok(Some(secret.clone())),
            Source::Command(_) | Source::Client(_) | Source::Entra(_) => {}
        }
        let mut kept = self.kept.lock().await;
        let token = match &*kept {
            Some(token) if token.is_fresh() => token.clone(),
            Some(token) => match self.source.issue(TokenReason::Expired).await {
                Ok(token) => token,
                Err(error) if !token.is_expired() => {
                    tracing::warn!(provider = self.provider, %error, "a token could not be renewed, and is used up");
                    token.clone()
                }
                Err(error) => return Err(error),
            },
            None if self.source.waits_for_refusal() => return Ok(None),
            None => self.source.issue(TokenReason::Missing).await?,
        };
        let secret = token.secret.clone();
        *kept = Some(token);
        Ok(Some(secret))
    }

    /// Whether there is another secret than the one that the upstream refused. Asks for it, unless somebody else has
    /// done so meanwhile.
    pub async fn renew(&self, refused: Option<&Secret>) -> Result<bool, Error> {
        if matches!(self.source, Source::Nothing | Source::Key(_)) {
            return Ok(false);
        }
        let mut kept = self.kept.lock().await;
        let reason = match &*kept {
            Some(token) if Some(&token.secret) != refused => return Ok(true),
            Some(token) if token.is_expired() => TokenReason::Expired,
            Some(_) => TokenReason::Refused,
            None => TokenReason::Missing,
        };
        let token = self.source.issue(reason).await?;
        let is_another = Some(&token.secret) != refused;
        *kept = Some(token);
        Ok(is_another)
    }
}

impl Source {
    /// A new token. `reason` is for those who ask somebody.
    async fn issue(&self, reason: TokenReason) -> Result<Token, Error> {
        match self {
            Source::Command(command) => command.issue().await,
            Source::Client(client) => client.issue(reason).await,
            Source::Entra(entra) => entra.issue().await,
            Source::Key(secret) => Ok(Token::new(secret.clone(), None)),
            Source::Nothing => Err(Error::new(Kind::Internal, "nothing was set to ask for a key")),
        }
    }

    fn waits_for_refusal(&self) -> bool {
        matches!(self, Source::Client(client) if client.waits_for_refusal())
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
