//! A key that a program prints, which the settings name.
//!
//! The program is run anew for each token, and its own word says how long that is good.

use std::time::{Duration, SystemTime};

use super::Token;
use super::program;
use crate::error::{Error, Kind};

/// How long a program may take to print a key.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// A program that prints a key or token.
#[derive(Debug)]
pub struct KeyCommand {
    provider: String,
    command: Vec<String>,
    /// For how long what it printed is good at most.
    ttl: Option<Duration>,
}

impl KeyCommand {
    /// The program and its arguments; what it prints is kept for at most `ttl`.
    pub fn new(provider: &str, command: Vec<String>, ttl: Option<Duration>) -> Self {
        KeyCommand {
            provider: provider.to_owned(),
            command,
            ttl,
        }
    }

    /// Runs it.
    pub async fn issue(&self) -> Result<Token, Error> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Error::new(
                Kind::ConfigInvalid,
                "expected `api_key_command` to name a program, found an empty list",
            )
            .with_provider(&self.provider));
        };
        tracing::debug!(provider = self.provider, program, "runs the key command");
        let printed = tokio::time::timeout(COMMAND_LIMIT, program::run(program, arguments)).await;
        let problem = match printed {
            Err(_) => format!("did not end within {} s", COMMAND_LIMIT.as_secs()),
            Ok(Err(error)) => format!("could not be run: {error}"),
            Ok(Ok(printed)) => match printed.text().and_then(|text| read(&text)) {
                Ok(token) => return Ok(token.at_most(self.ttl)),
                Err(problem) => problem,
            },
        };
        Err(Error::new(
            Kind::AuthRequired,
            format!(
                "failed to get the key of provider `{}`: the command `{program}` {problem}",
                self.provider
            ),
        )
        .with_provider(&self.provider)
        .with_hint(
            "run the command of `api_key_command` in a terminal and see that it prints the key, or JSON with a `token`, \
             and nothing else",
        ))
    }
}

fn read(text: &str) -> Result<Token, String> {
    if !text.starts_with('{') && text.chars().any(|c| c.is_control()) {
        return Err("printed more than one line".into());
    }
    Token::read(text, SystemTime::now())
        .ok_or_else(|| "printed JSON without a `token`, `accessToken` or `access_token`".into())
}

#[cfg(all(test, unix))]
mod tests {
    use crate::provider::credentials::program::SAID_MAX;
    use crate::provider::credentials::{Credentials, Secret, Source};

    use super::*;

    fn shell(script: &str) -> Credentials {
        Credentials::new("p", None, Some(vec!["sh".into(), "-c".into(), script.into()]))
    }

    #[tokio::test]
    async fn what_the_command_prints_is_kept_and_asked_for_again_when_refused() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let credentials = shell(&format!("echo x >> {0}; wc -l < {0} | tr -d ' '", count.display()));
        let first = credentials.get().await.unwrap();
        assert_eq!(first, Some(Secret::new("1")));
        assert_eq!(credentials.get().await.unwrap(), first);
        assert!(credentials.renew(first.as_ref()).await.unwrap());
        assert_eq!(credentials.get().await.unwrap(), Some(Secret::new("2")));
        assert!(
            credentials.renew(first.as_ref()).await.unwrap(),
            "somebody else has renewed it"
        );
        assert_eq!(credentials.get().await.unwrap(), Some(Secret::new("2")));
    }

    #[tokio::test]
    async fn a_command_that_prints_the_same_again_is_not_asked_for_ever() {
        let credentials = shell("echo same");
        let refused = credentials.get().await.unwrap();
        assert!(!credentials.renew(refused.as_ref()).await.unwrap());
    }

    #[tokio::test]
    async fn a_failing_command_says_why_without_the_key() {
        let error = shell("echo sk-1; echo 'no gpg for sk-1' >&2; exit 3")
            .get()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::AuthRequired);
        assert!(error.message.contains("no gpg for ***"), "{error}");
        assert!(error.message.contains('3'), "{error}");
        let error = shell("true").get().await.unwrap_err();
        assert!(error.message.ends_with("`sh` printed nothing"), "{error}");
    }

    #[tokio::test]
    async fn a_key_that_stands_where_the_words_are_cut_is_blanked_whole() {
        let words = "x".repeat(SAID_MAX - 6);
        let script = format!("echo user; echo sk-very-secret; echo '{words} sk-very-secret' >&2; exit 1");
        let error = shell(&script).get().await.unwrap_err();
        assert!(error.message.ends_with(&format!("{words} ***")), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_complains_at_length_still_gives_its_key() {
        let credentials = shell("head -c 1000000 /dev/zero >&2 || exit 1; echo key");
        assert_eq!(credentials.get().await.unwrap(), Some(Secret::new("key")));
    }

    #[tokio::test]
    async fn the_command_gets_no_descriptor_but_its_own_three() {
        let (left_to_us, _other) = rustix::pipe::pipe().unwrap();
        rustix::io::fcntl_setfd(&left_to_us, rustix::io::FdFlags::empty()).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&left_to_us);
        let script = format!("test -e /dev/fd/{number} && echo inherited || echo none; cat");
        assert_eq!(shell(&script).get().await.unwrap(), Some(Secret::new("none")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_is_given_up() {
        let error = shell("sleep 600").get().await.unwrap_err();
        assert_eq!(error.kind(), Kind::AuthRequired);
        assert!(error.message.ends_with("`sh` did not end within 30 s"), "{error}");
    }

    #[tokio::test]
    async fn an_agent_that_keeps_the_pipe_open_holds_nobody_up() {
        let started = std::time::Instant::now();
        let credentials = shell("sleep 30 & echo key; exit 0");
        assert_eq!(credentials.get().await.unwrap(), Some(Secret::new("key")));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test]
    async fn dropped_it_kills_the_program_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        // The reading end sees the end of the file once nobody holds the writing end: the shell and its child do.
        let script = format!("mkfifo {0}; sleep 600 > {0} & wait", fifo.display());
        let mut asking = Box::pin(async move { shell(&script).get().await });
        let opened = async {
            while !fifo.exists() {
                tokio::task::yield_now().await;
            }
            let fifo = fifo.clone();
            tokio::task::spawn_blocking(move || std::fs::File::open(fifo))
                .await
                .unwrap()
                .unwrap()
        };
        let mut reader = tokio::select! {
            _ = &mut asking => panic!("the command ended by itself"),
            reader = opened => reader,
        };
        drop(asking);
        let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut reader, &mut [0; 1]).unwrap());
        assert_eq!(read.await.unwrap(), 0, "a child still holds the pipe");
    }

    /// Moves the clock, which goes on by itself while a program runs.
    async fn pass(seconds: u64) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn a_token_that_tells_of_its_end_is_renewed_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let script = format!(
            r#"echo x >> {0}; printf '{{"token": "t%s",\n "expires_in": 600}}' $(wc -l < {0})"#,
            count.display()
        );
        let credentials = shell(&script);
        let token = async || credentials.get().await.unwrap().unwrap().expose().to_owned();
        assert_eq!(token().await, "t1");
        pass(500).await;
        assert_eq!(token().await, "t1");
        pass(40).await;
        assert_eq!(token().await, "t2");
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_renewed_is_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let flag = dir.path().join("flag");
        let script = format!(
            r#"test -e {0} && exit 7; touch {0}; echo '{{"token":"t","expires_in":600}}'"#,
            flag.display()
        );
        let credentials = shell(&script);
        credentials.get().await.unwrap();
        pass(550).await;
        assert!(credentials.get().await.is_ok(), "it is good for most of a minute still");
        pass(50).await;
        let error = credentials.get().await.unwrap_err();
        assert!(error.message.contains("failed (exit status: 7)"), "{error}");
    }

    #[tokio::test]
    async fn the_settings_may_say_how_long_a_key_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "echo x >> {0}; wc -l < {0} | tr -d ' '",
            dir.path().join("count").display()
        );
        let command = KeyCommand::new(
            "p",
            vec!["sh".into(), "-c".into(), script],
            Some(Duration::from_secs(900)),
        );
        let credentials = Credentials::from_source("p", Source::Command(command));
        let token = async || credentials.get().await.unwrap().unwrap().expose().to_owned();
        assert_eq!(token().await, "1");
        pass(800).await;
        assert_eq!(token().await, "1");
        pass(40).await;
        assert_eq!(token().await, "2");
    }

    #[tokio::test]
    async fn json_without_a_token_is_told_without_what_it_holds() {
        let error = shell(r#"echo '{"secret": "sk-very-secret"}'"#).get().await.unwrap_err();
        assert!(
            error
                .message
                .ends_with("printed JSON without a `token`, `accessToken` or `access_token`"),
            "{error}"
        );
        let error = shell(r#"echo '{"token": "sk-very-secret"}'; echo 'sk-very-secret is old' >&2; exit 1"#);
        let error = error.get().await.unwrap_err();
        assert!(error.message.ends_with(": *** is old"), "{error}");
    }
}
