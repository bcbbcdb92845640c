//! A provider's key or token: given, or printed by a program that the settings name.
//!
//! What the program printed is kept until the upstream refuses it. A secret's `Debug` shows nothing, and nothing here
//! puts one into an error or a log.

use std::borrow::Cow;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::error::{Error, Kind};

/// How long a program may take to print a key.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// How long its output is read on after it has ended: an agent that it started may hold the pipe open for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// The longest key, and the most of its standard error that is looked at, in bytes.
const OUTPUT_MAX: u64 = 64 * 1024;

/// A key or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret of this text.
    pub fn new(text: &str) -> Self {
        Secret(text.into())
    }

    /// The text itself, to be put into a request's header and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text with every copy of this secret blanked.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() || !text.contains(&*self.0) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace(&*self.0, "***"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Where a provider's secret comes from.
#[derive(Debug)]
pub struct Credentials {
    provider: String,
    source: Source,
    /// What the command printed. The lock is held while it runs, so that runs that start together ask once.
    kept: Mutex<Option<Secret>>,
}

#[derive(Debug)]
enum Source {
    Nothing,
    Key(Secret),
    Command(Vec<String>),
}

impl Credentials {
    /// The key if there is one, else what the command prints, else nothing: many local servers want none.
    pub fn new(provider: &str, key: Option<String>, command: Option<Vec<String>>) -> Self {
        let source = match (key, command) {
            (Some(key), _) => Source::Key(Secret::new(&key)),
            (None, Some(command)) => Source::Command(command),
            (None, None) => Source::Nothing,
        };
        Credentials {
            provider: provider.to_owned(),
            source,
            kept: Mutex::new(None),
        }
    }

    /// The secret, if one is set. Runs the command the first time.
    pub async fn get(&self) -> Result<Option<Secret>, Error> {
        let command = match &self.source {
            Source::Nothing => return Ok(None),
            Source::Key(secret) => return Ok(Some(secret.clone())),
            Source::Command(command) => command,
        };
        let mut kept = self.kept.lock().await;
        if kept.is_none() {
            *kept = Some(self.ask(command).await?);
        }
        Ok(kept.clone())
    }

    /// Whether there is another secret than the one that the upstream refused. Runs the command again, unless somebody
    /// else has done so meanwhile.
    pub async fn renew(&self, refused: Option<&Secret>) -> Result<bool, Error> {
        let Source::Command(command) = &self.source else {
            return Ok(false);
        };
        let mut kept = self.kept.lock().await;
        if kept.as_ref() == refused {
            *kept = Some(self.ask(command).await?);
        }
        Ok(kept.as_ref() != refused)
    }

    async fn ask(&self, command: &[String]) -> Result<Secret, Error> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Error::new(
                Kind::ConfigInvalid,
                "expected `api_key_command` to name a program, found an empty list",
            )
            .with_provider(&self.provider));
        };
        tracing::debug!(provider = self.provider, program, "runs the key command");
        let printed = tokio::time::timeout(COMMAND_LIMIT, run(program, arguments)).await;
        let problem = match printed {
            Err(_) => format!("did not end within {} s", COMMAND_LIMIT.as_secs()),
            Ok(Err(error)) => format!("could not be run: {error}"),
            Ok(Ok(printed)) => match printed.secret() {
                Ok(secret) => return Ok(secret),
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
            "run the command of `api_key_command` in a terminal and see that it prints the key and nothing else",
        ))
    }
}

struct Printed {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Printed {
    fn secret(&self) -> Result<Secret, String> {
        let text = String::from_utf8_lossy(&self.stdout);
        let text = text.trim();
        if !self.status.success() {
            let said = String::from_utf8_lossy(&self.stderr);
            let said: String = said
                .lines()
                .next()
                .unwrap_or_default()
                .trim()
                .chars()
                .take(200)
                .collect();
            let said = Secret::new(text).scrub(&said).into_owned();
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(format!("failed ({}){colon}{said}", self.status));
        }
        if text.is_empty() {
            return Err("printed nothing".into());
        }
        if text.chars().any(|c| c.is_control()) {
            return Err("printed more than one line".into());
        }
        Ok(Secret::new(text))
    }
}

/// Runs a program with nothing to read and captures what it prints. Dropped before the end, it kills the program and
/// all that it started.
async fn run(program: &str, arguments: &[String]) -> std::io::Result<Printed> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut family = Family(command.spawn()?);
    let (out, err) = (family.0.stdout.take(), family.0.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let mut output = std::pin::pin!(async { tokio::join!(read(out, &mut stdout), read(err, &mut stderr)) });
        let mut whole = false;
        let status = loop {
            tokio::select! {
                status = family.0.wait() => break status?,
                _ = &mut output, if !whole => whole = true,
            }
        };
        if !whole {
            let _ = tokio::time::timeout(OUTPUT_GRACE, output).await;
        }
        status
    };
    Ok(Printed { status, stdout, stderr })
}

async fn read(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) {
    if let Some(from) = from {
        // What could be read before the pipe broke is all there is.
        let _ = from.take(OUTPUT_MAX).read_to_end(to).await;
    }
}

/// A program in a process group of its own, killed as a whole when dropped before its end.
struct Family(Child);

impl Drop for Family {
    fn drop(&mut self) {
        // The id is gone once the program has been waited for; what it then left running, it meant to leave.
        #[cfg(unix)]
        if let Some(group) = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
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

    #[test]
    fn a_secret_shows_in_no_debug_text() {
        let credentials = Credentials::new("p", Some("sk-very-secret".into()), None);
        assert!(!format!("{credentials:?}").contains("very"));
    }
}
