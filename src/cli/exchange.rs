//! One question and its answer on the terminal or a pipe: what `ask` does once and the console again and again.
//!
//! A piece that is not printed yet holds up the reading of the next, so a slow reader slows the daemon down and fills
//! no memory; Ctrl-C works all the while.

use serde_json::{Value, json};

use super::chat::lines::{Line, Lines};
use super::client::{self, Answer, Client, Event, Incoming, Message};
use super::consent;
use super::interrupt::Interrupt;
use super::printer::Printer;
use crate::error::Error;
use crate::protocol::{McpStatus, PartKind};

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Style {
    /// The answer's text, and nothing else.
    Answer,
    /// Every message, a line each.
    Json,
    /// The answer with its refusals, and notes in brackets.
    Console,
}

/// The ends that an exchange works with.
pub struct Exchange<'a> {
    pub client: &'a mut Client,
    pub printer: &'a mut Printer,
    pub interrupt: &'a mut Interrupt,
    pub style: Style,
    /// Whom to ask for consent to a tool's call; a client that said it can ask has to.
    pub consent: Option<&'a mut Lines>,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// The response.
    pub result: Result<Answer, Error>,
    /// The thread, if the run came to exist.
    pub thread_id: Option<String>,
    /// The words of a refusal, where they are not part of what is printed.
    pub refusal: String,
    /// What stopped it from here.
    pub stopped: Option<Stopped>,
}

/// Why the run was cancelled from this side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stopped {
    /// A signal, as an exit code.
    Signal(u8),
    /// A second signal: there is no waiting any more.
    Impatience(u8),
    /// Nobody reads standard output.
    Closed,
}

impl Exchange<'_> {
    /// Sends the question and prints what comes until the response is there.
    pub async fn run(&mut self, params: Value) -> Outcome {
        let mut outcome = Outcome {
            result: Err(client::gone()),
            thread_id: None,
            refusal: String::new(),
            stopped: None,
        };
        let id = match self.client.send("assistant/send", params).await {
            Ok(id) => id,
            Err(error) => {
                outcome.result = Err(error);
                return outcome;
            }
        };
        let mut unprinted = None;
        let mut is_answered = false;
        // The daemon's request for consent that is open: nothing more is read until it is answered.
        let mut asked = None;
        while !is_answered || unprinted.is_some() {
            // Signals first, then what waits to be printed, then what was asked, and only then the next message.
            tokio::select! {
                biased;
                code = self.interrupt.next() => match outcome.stopped {
                    None => {
                        if asked.take().is_some() && let Some(lines) = &mut self.consent {
                            lines.stop().await;
                        }
                        self.stop(id, Stopped::Signal(code), &mut outcome).await;
                    }
                    Some(_) => {
                        outcome.stopped = Some(Stopped::Impatience(code));
                        return outcome;
                    }
                },
                ready = self.printer.ready(), if unprinted.is_some() => {
                    let text = unprinted.take().unwrap_or_default();
                    match ready {
                        Ok(()) => self.printer.put(text),
                        Err(_) if outcome.stopped.is_none() => self.stop(id, Stopped::Closed, &mut outcome).await,
                        Err(_) => {}
                    }
                }
                line = answer(&mut self.consent, self.printer), if unprinted.is_none() && asked.is_some() => {
                    let decision = consent::decision(&line);
                    if let Some(asked) = asked.take() {
                        // It fails only if the daemon is gone, and then the next read says so.
                        let _ = self.client.respond(asked, json!({ "decision": decision })).await;
                    }
                    if self.consent.as_ref().is_some_and(|lines| lines.is_echoed()) {
                        self.printer.line_ended_elsewhere();
                    }
                    // Where nobody reads it the next piece tells.
                    let _ = self.printer.end_line().await;
                }
                incoming = self.client.next(), if unprinted.is_none() && asked.is_none() => {
                    let Some(incoming) = incoming else { return outcome };
                    if let Message::Approve { id, .. } = incoming.message && outcome.stopped.is_none() {
                        asked = Some(id);
                    }
                    is_answered = matches!(incoming.message, Message::Response { id: answered, .. } if answered == id);
                    unprinted = self.read(incoming, &mut outcome);
                }
            }
        }
        outcome
    }

    /// Tells the daemon to stop; its response comes all the same.
    async fn stop(&mut self, id: u64, why: Stopped, outcome: &mut Outcome) {
        outcome.stopped = Some(why);
        // It fails only if the daemon is gone, and then the next read says so.
        let _ = self.client.notify("$/cancelRequest", json!({ "id": id })).await;
    }

    /// Takes a message in and gives what is to be printed of it.
    fn read(&self, incoming: Incoming, outcome: &mut Outcome) -> Option<String> {
        let text = match incoming.message {
            Message::Response { result, .. } => {
                outcome.result = result.and_then(client::read_result);
                None
            }
            Message::Started { thread_id } => {
                outcome.thread_id = Some(thread_id);
                None
            }
            Message::Delta {
                part: PartKind::Refusal,
                text,
            } if self.style != Style::Console => {
                outcome.refusal.push_str(&text);
                None
            }
            Message::Delta { text, .. } => Some(text),
            Message::Event(event) if self.style == Style::Console => note(event).map(|note| format!("[{note}]\n")),
            Message::Approve { request, .. } => self.consent.as_ref().map(|lines| {
                let start = if self.printer.is_at_line_start() { "" } else { "\n" };
                let prompt = if lines.shows_prompt() { "" } else { consent::PROMPT };
                format!("{start}{}{prompt}", request.text())
            }),
            Message::Event(_) | Message::Unread(_) | Message::Other => None,
        };
        match self.style {
            Style::Json => Some(incoming.line + "\n"),
            Style::Answer | Style::Console => text,
        }
    }
}

/// The user's next line, as an answer. Nobody to ask has not agreed.
async fn answer(lines: &mut Option<&mut Lines>, printer: &Printer) -> Line {
    match lines {
        Some(lines) => {
            // The line editor draws on the same terminal. Where nobody reads it the next piece tells.
            let _ = printer.settle().await;
            lines.consent().await
        }
        None => Line::End,
    }
}

/// What a person wants to know of an event.
fn note(event: Event) -> Option<String> {
    match event {
        Event::Retry { delay_ms, error } => {
            let seconds = delay_ms as f64 / 1000.0;
            Some(format!("{}; trying again in {seconds:.1} s", error.message))
        }
        Event::Truncated { messages: 1 } => Some("the oldest message did not fit and was left out".to_owned()),
        Event::Truncated { messages } => Some(format!("the {messages} oldest messages did not fit and were left out")),
        Event::Mcp {
            server,
            status,
            message,
        } => match status {
            McpStatus::Starting => Some(format!("starting the MCP server `{server}`")),
            McpStatus::Ready => None,
            McpStatus::Failed => Some(message.unwrap_or_else(|| format!("the MCP server `{server}` cannot be used"))),
        },
        Event::Storage { message } => Some(format!("this answer may not be kept: {message}")),
        Event::Other => None,
    }
}
