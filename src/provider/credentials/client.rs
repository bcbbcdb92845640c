//! A token that the client gives: its editor has a keychain, or its user is signed in there.

use std::time::SystemTime;

use reqwest::Url;

use super::token::{duration, life_inside};
use super::{Secret, Token};
use crate::desk::Desk;
use crate::error::{Error, Kind};
use crate::protocol::{AuthTokenParams, TokenReason};
use crate::provider::http::bare;

/// The client as a source of tokens for one provider.
#[derive(Debug)]
pub struct TokenClient {
    desk: Desk,
    provider: String,
    base_url: Option<String>,
    waits_for_refusal: bool,
}

impl TokenClient {
    /// Asks at this desk, before the first request. `base_url` is told to the client, without any user and password.
    pub fn new(desk: Desk, provider: &str, base_url: Option<&str>) -> Self {
        TokenClient {
            desk,
            provider: provider.to_owned(),
            base_url: base_url.and_then(shown),
            waits_for_refusal: false,
        }
    }

    /// The same, asked only once an upstream has refused a request without credentials: many servers want none.
    pub fn when_refused(mut self) -> Self {
        self.waits_for_refusal = true;
        self
    }

    /// Whether requests are sent without credentials until one is refused.
    pub fn waits_for_refusal(&self) -> bool {
        self.waits_for_refusal
    }

    /// Asks. The client has 30 s.
    pub async fn issue(&self, reason: TokenReason) -> Result<Token, Error> {
        tracing::debug!(provider = self.provider, ?reason, "asks the client for a token");
        let params = AuthTokenParams {
            provider: self.provider.clone(),
            base_url: self.base_url.clone(),
            reason,
        };
        let problem = match self.desk.token(params).await {
            Ok(result) => match result.token.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
                Some(token) => {
                    let told = result.expires_in.and_then(duration);
                    let life = told.or_else(|| life_inside(token, SystemTime::now()));
                    return Ok(Token::new(Secret::new(token), life));
                }
                None => "the client has none".to_owned(),
            },
            Err(unanswered) => unanswered.to_string(),
        };
        Err(Error::new(
            Kind::AuthRequired,
            format!("failed to get a token for provider `{}`: {problem}", self.provider),
        )
        .with_provider(&self.provider)
        .with_hint("give one in answer to `auth/token`, or set `api_key_env` or `api_key_command` of the provider"))
    }
}

/// A base URL as it may be shown.
fn shown(base_url: &str) -> Option<String> {
    let url = Url::parse(base_url.trim()).ok()?;
    Some(bare(&url).into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join;

    use super::*;
    use crate::desk::{Answer, Ask, Question, Reply};
    use crate::protocol::AuthTokenResult;
    use crate::provider::credentials::Credentials;

    type Asks = tokio::sync::mpsc::Receiver<Ask>;

    fn credentials(change: fn(TokenClient) -> TokenClient) -> (Credentials, Asks) {
        let (desk, asks) = Desk::new();
        let client = TokenClient::new(desk, "p", Some("https://user:pass@x.test/v1?key=1"));
        (Credentials::from_source("p", change(client)), asks)
    }

    /// Answers the next question, and gives its reason.
    async fn answer(asks: &mut Asks, token: &str, expires_in: Option<f64>) -> TokenReason {
        let Ask { question, reply } = asks.recv().await.unwrap();
        let Question::Token(params) = question else {
            panic!("expected a question for a token, found {question:?}");
        };
        assert_eq!(params.base_url.as_deref(), Some("https://x.test/v1"));
        let token = Some(token.to_owned());
        let result = AuthTokenResult { token, expires_in };
        reply.send(Reply::Answer(Answer::Token(result))).unwrap();
        params.reason
    }

    fn text(secret: Result<Option<Secret>, Error>) -> String {
        secret.unwrap().unwrap().expose().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_once_and_again_when_its_token_ends_or_is_refused() {
        let (credentials, mut asks) = credentials(|client| client);
        let both = join(credentials.get(), credentials.get());
        let ((one, other), reason) = join(both, answer(&mut asks, "t1", Some(100.0))).await;
        assert_eq!(
            (text(one), text(other), reason),
            ("t1".into(), "t1".into(), TokenReason::Missing)
        );

        tokio::time::advance(Duration::from_secs(80)).await;
        let (secret, reason) = join(credentials.get(), answer(&mut asks, "t2", None)).await;
        assert_eq!((text(secret), reason), ("t2".into(), TokenReason::Expired));

        let refused = Secret::new("t2");
        let both = join(credentials.renew(Some(&refused)), credentials.renew(Some(&refused)));
        let (renewed, reason) = join(both, answer(&mut asks, "t3", None)).await;
        assert_eq!((renewed.0.unwrap(), renewed.1.unwrap()), (true, true));
        assert_eq!(reason, TokenReason::Refused);
        assert_eq!(text(credentials.get().await), "t3");
        assert!(asks.try_recv().is_err(), "nothing more was asked");
    }

    #[tokio::test]
    async fn a_client_that_is_asked_when_refused_is_left_alone_before() {
        let (credentials, mut asks) = credentials(TokenClient::when_refused);
        assert_eq!(credentials.get().await.unwrap(), None);
        assert!(asks.try_recv().is_err());
        let (renewed, reason) = join(credentials.renew(None), answer(&mut asks, "t", None)).await;
        assert!(renewed.unwrap());
        assert_eq!(reason, TokenReason::Missing);
        assert_eq!(text(credentials.get().await), "t");
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_within_thirty_seconds_is_an_error() {
        let (credentials, _asks) = credentials(|client| client);
        let error = credentials.get().await.unwrap_err();
        assert_eq!(error.kind(), Kind::AuthRequired);
        assert_eq!(
            error.message,
            "failed to get a token for provider `p`: the client did not answer within 30 s"
        );
    }

    #[tokio::test]
    async fn a_client_without_a_token_is_an_error() {
        let (credentials, mut asks) = credentials(|client| client);
        let (secret, _) = join(credentials.get(), answer(&mut asks, " ", None)).await;
        assert_eq!(
            secret.unwrap_err().message,
            "failed to get a token for provider `p`: the client has none"
        );
    }
}
