//! `assistd chat`: the console. A prompt, the answer as it arrives, and the thread kept for the next question.

mod command;
pub mod lines;
mod show;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use self::command::Command;
use self::lines::{Line, Lines};
use super::client::{Client, ThreadList, ThreadPage};
use super::exchange::{Exchange, Outcome, Stopped, Style};
use super::interrupt::Interrupt;
use super::printer::{Closed, Printer};
use super::settings::Named;
use super::{ask, attach, failure, model};
use crate::config::{Choice, Settings};
use crate::error::Error;
use crate::protocol::StopReason;

/// Which thread to go on with.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assistd chat                        a new thread
  assistd chat --thread ID            go on with an old one, which is shown first
  assistd chat --assistant work       with an assistant of the settings
  assistd chat --model ./model.gguf --provider embedded

An empty line or `exit` ends it; `/help` lists the commands; Ctrl-C stops the answer.")]
pub struct ChatArgs {
    /// Go on with this thread, and show it
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
}

/// The largest message that the console takes from its own daemon, in bytes: an old thread is read in one.
const MAX_MESSAGE: u64 = 16 * 1024 * 1024;

/// Talks until the user leaves.
pub fn run(args: ChatArgs, named: Named, settings: Settings) -> ExitCode {
    let mut settings = super::settled(settings, named.assistant.as_deref());
    let choice = match settings.choose(named.assistant.as_deref(), named.model.as_deref()) {
        Ok(choice) => choice,
        Err(error) => return ExitCode::from(failure::report(&error)),
    };
    failure::complain(&introduce(&choice));
    if let Err(error) = model::ensure(&choice, &settings) {
        return ExitCode::from(failure::report(&error));
    }
    settings.may_fetch = true;
    let history = settings.data_dir.as_ref().map(|folder| folder.join("chat_history"));
    super::block_on(async {
        let mut interrupt = match Interrupt::listen().and_then(Interrupt::or_terminal) {
            Ok(interrupt) => interrupt,
            Err(error) => {
                failure::complain(&format!("failed to listen for signals: {error}"));
                return 1;
            }
        };
        let is_kept = settings.data_dir.is_some();
        let mut console = Console {
            client: Client::start(settings),
            printer: Printer::start(),
            lines: Lines::start(history),
            named,
            thread: args.thread,
            attached: Vec::new(),
            is_kept,
        };
        let code = match console.talk(&mut interrupt).await {
            Ok(code) => code,
            Err(Leave::Closed) => 0,
            Err(Leave::Failed(error)) => failure::report(&error),
        };
        console.client.leave().await;
        code
    })
}

/// Who answers, and why.
fn introduce(choice: &Choice) -> String {
    let dialect = choice.provider_settings.dialect.as_str();
    let provider = if choice.provider == dialect {
        format!("`{dialect}`")
    } else {
        format!("`{}` ({dialect})", choice.provider)
    };
    let model = model::name(choice)
        .map(|name| format!(" with the model `{name}`"))
        .unwrap_or_default();
    format!("the provider {provider} answers{model}, because {}", choice.reason)
}

/// The console's own state.
struct Console {
    client: Client,
    printer: Printer,
    lines: Lines,
    named: Named,
    thread: Option<String>,
    /// Parts that go along with the next message.
    attached: Vec<Value>,
    /// Whether threads outlive the process.
    is_kept: bool,
}

/// Why the console ends early.
enum Leave {
    /// Nobody reads standard output.
    Closed,
    /// Its own daemon does not answer as it should.
    Failed(Error),
}

impl From<Closed> for Leave {
    fn from(_: Closed) -> Leave {
        Leave::Closed
    }
}

impl Console {
    /// Prompt, answer, prompt, …
    async fn talk(&mut self, interrupt: &mut Interrupt) -> Result<u8, Leave> {
        let hello = json!({
            "clientInfo": { "name": "assistd chat" },
            "capabilities": { "toolApprove": true, "events": ["retry", "truncated", "storage", "mcp"], "maxMessageBytes": MAX_MESSAGE },
        });
        self.client
            .request::<Value>("initialize", hello)
            .await
            .map_err(Leave::Failed)?;
        if let Some(thread) = self.thread.clone() {
            self.show_thread(&thread).await?;
        }
        let code = loop {
            let line = match self.prompt(interrupt).await? {
                Ok(line) => line,
                Err(code) => break code,
            };
            match line {
                Line::Cleared => {}
                Line::End => break 0,
                Line::Text(text) if matches!(text.trim(), "" | "exit" | "/exit" | "/quit") => break 0,
                Line::Text(text) => match command::parse(&text) {
                    None => {
                        if let Some(code) = self.ask(&text, interrupt).await? {
                            break code;
                        }
                    }
                    Some(Ok(command)) => self.obey(command).await?,
                    Some(Err(problem)) => self.printer.print(format!("{problem}\n")).await?,
                },
            }
        };
        self.printer.end_line().await?;
        self.printer.settle().await?;
        self.say_farewell();
        Ok(code)
    }

    /// The user's next line; an exit code if a signal came instead.
    async fn prompt(&mut self, interrupt: &mut Interrupt) -> Result<Result<Line, u8>, Leave> {
        self.printer.end_line().await?;
        if !self.lines.shows_prompt() {
            self.printer.print(lines::PROMPT).await?;
        }
        // The line editor draws on the same terminal.
        self.printer.settle().await?;
        let line = tokio::select! {
            line = self.lines.next() => line,
            code = interrupt.next() => {
                self.lines.stop().await;
                return Ok(Err(code));
            }
        };
        if matches!(line, Line::Text(_)) && self.lines.is_echoed() {
            self.printer.line_ended_elsewhere();
        }
        Ok(Ok(line))
    }

    /// Asks and shows the answer. An exit code means that the user is out of patience.
    async fn ask(&mut self, text: &str, interrupt: &mut Interrupt) -> Result<Option<u8>, Leave> {
        self.printer.print("Assistant: ").await?;
        let content = attach::content(text, std::mem::take(&mut self.attached));
        let params = ask::params(content, self.thread.as_deref(), &self.named);
        let mut exchange = Exchange {
            client: &mut self.client,
            printer: &mut self.printer,
            interrupt,
            style: Style::Console,
            consent: Some(&mut self.lines),
        };
        let Outcome {
            result,
            thread_id,
            stopped,
            ..
        } = exchange.run(params).await;
        self.thread = thread_id.or(self.thread.take());
        match stopped {
            Some(Stopped::Closed) => return Err(Leave::Closed),
            Some(Stopped::Impatience(code)) => return Ok(Some(code)),
            // A terminal that hangs up and a system that stops mean the console, not the answer.
            Some(Stopped::Signal(code)) if code != 130 => return Ok(Some(code)),
            _ => {}
        }
        self.printer.end_line().await?;
        match result {
            Ok(answer) => {
                if let Some(note) = answer.stop_reason.and_then(note) {
                    self.printer.print(format!("[{note}]\n")).await?;
                }
            }
            Err(error) => {
                self.printer.settle().await?;
                failure::report(&error);
            }
        }
        Ok(None)
    }

    async fn obey(&mut self, command: Command) -> Result<(), Leave> {
        let text = match command {
            Command::Help => command::HELP.to_owned(),
            Command::New => {
                self.thread = None;
                "[a new thread begins with your next message]\n".to_owned()
            }
            Command::Threads => {
                let listed = self.client.request("thread/list", json!({ "limit": 20 })).await;
                match listed {
                    Ok(ThreadList { threads }) => show::threads(&threads, self.thread.as_deref()),
                    Err(error) => return self.complain(&error).await,
                }
            }
            Command::Thread(id) => return self.show_thread(&id).await,
            Command::Attach(kind, path) => match attach::part(kind, path.as_ref()) {
                Ok(part) if std::path::Path::new(&path).is_file() => {
                    self.attached.push(part);
                    format!("[the {kind} goes along with your next message]\n")
                }
                Ok(_) => format!("failed to find the {kind} `{path}`: there is no such file\n"),
                Err(problem) => format!("{problem}\n"),
            },
        };
        Ok(self.printer.print(text).await?)
    }

    /// Goes on with a thread and shows it; stays with the one before if there is no such thread.
    async fn show_thread(&mut self, id: &str) -> Result<(), Leave> {
        let read = self
            .client
            .request("thread/read", json!({ "threadId": id, "limit": 50 }))
            .await;
        match read {
            Ok(ThreadPage { messages, next }) => {
                self.thread = Some(id.to_owned());
                Ok(self.printer.print(show::messages(&messages, next.is_some())).await?)
            }
            // Named on the command line and not there: there is nothing to go on with.
            Err(error) if self.thread.as_deref() == Some(id) => Err(Leave::Failed(error)),
            Err(error) => self.complain(&error).await,
        }
    }

    async fn complain(&mut self, error: &Error) -> Result<(), Leave> {
        self.printer.settle().await?;
        failure::report(error);
        Ok(())
    }

    /// How to come back, for a person.
    fn say_farewell(&self) {
        if let Some(thread) = self
            .thread
            .as_deref()
            .filter(|_| self.is_kept && std::io::stderr().is_terminal())
        {
            failure::complain(&format!("this thread is kept: `assistd chat --thread {thread}`"));
        }
    }
}

/// What a person is told of an end that is not the usual one.
fn note(reason: StopReason) -> Option<&'static str> {
    Some(match reason {
        StopReason::EndTurn => return None,
        StopReason::Cancelled | StopReason::Superseded => "stopped",
        StopReason::Refusal => "the model refused",
        StopReason::MaxTokens => "cut: the answer has reached its limit of tokens",
        StopReason::ContextFull => "cut: the model's context is full; `/new` begins another thread",
        StopReason::ContentFilter => "cut: a content filter stopped the answer",
        StopReason::ToolCalls | StopReason::ToolLimit => "the model wants a tool that the console does not have",
        StopReason::Expired => "cut: the upstream gave up waiting",
        StopReason::Error | StopReason::ClientGone | StopReason::DaemonKilled => "the answer was interrupted",
    })
}
