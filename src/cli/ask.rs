//! `assistd ask`: one question from the arguments and a pipe, its answer on standard output.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::attach::{self, Attached};
use super::client::Client;
use super::exchange::{Exchange, Outcome, Stopped, Style};
use super::failure::{self, EXIT_CODES};
use super::interrupt::Interrupt;
use super::printer::Printer;
use super::settings::Named;
use crate::config::{Role, Settings};

/// The question, and how it is asked.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct AskArgs {
    /// The question; standard input, if it is not a terminal, is added after an empty line
    #[arg(value_name = "QUESTION")]
    question: Vec<String>,
    /// Go on with this thread
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    #[command(flatten)]
    attached: Attached,
    /// Have the answer in JSON that this JSON Schema allows
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Print every notification and the response, as JSON lines
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  assistd ask \"What is a monad?\"
  git diff --staged | assistd ask \"Write a commit message for this diff\"
  assistd ask --file report.pdf --image chart.png \"Do these two agree?\"
  assistd ask --json Hi < /dev/null | jq -r 'select(.method == \"assistant/delta\").params.text'";

/// Asks, prints, and gives the exit code.
pub fn run(args: AskArgs, named: Named, mut settings: Settings) -> ExitCode {
    settings.role = Role::OneShot;
    let style = if args.json { Style::Json } else { Style::Answer };
    match request(&args, &named) {
        Ok(params) => super::block_on(ask(settings, style, params)),
        Err(problem) => failure::usage(&problem),
    }
}

fn request(args: &AskArgs, named: &Named) -> Result<Value, String> {
    let parts = args.attached.parts()?;
    let question = question(&args.question)?;
    if question.trim().is_empty() && parts.is_empty() {
        return Err("expected a question, as an argument or on standard input".to_owned());
    }
    let mut params = params(attach::content(&question, parts), args.thread.as_deref(), named);
    if let Some(schema) = &args.schema {
        params["options"] = json!({ "format": format(schema)? });
    }
    Ok(params)
}

/// The parameters of `assistant/send`.
pub fn params(content: Value, thread: Option<&str>, named: &Named) -> Value {
    let members = [
        ("threadId", thread),
        ("assistant", named.assistant.as_deref()),
        ("model", named.model.as_deref()),
    ];
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    let mut params = members.collect::<Map<_, _>>();
    params.insert("content".to_owned(), content);
    Value::Object(params)
}

/// The form of an answer that the schema in this file allows.
fn format(path: &Path) -> Result<Value, String> {
    let place = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("failed to read the schema `{place}`: {error}"))?;
    let schema: Value =
        serde_json::from_str(&text).map_err(|error| format!("expected the schema `{place}` to be JSON: {error}"))?;
    if !schema.is_object() {
        return Err(format!("expected the schema `{place}` to be a JSON object"));
    }
    Ok(json!({ "type": "jsonSchema", "schema": schema }))
}

async fn ask(settings: Settings, style: Style, params: Value) -> u8 {
    let mut interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            failure::complain(&format!("failed to listen for signals: {error}"));
            return 1;
        }
    };
    let mut client = Client::start(settings);
    let mut printer = Printer::start();
    let events = if style == Style::Json { json!("all") } else { json!([]) };
    let hello = json!({ "clientInfo": { "name": "assistd ask" }, "capabilities": { "events": events } });
    if let Err(error) = client.request::<Value>("initialize", hello).await {
        return failure::report(&error);
    }
    let mut exchange = Exchange {
        client: &mut client,
        printer: &mut printer,
        interrupt: &mut interrupt,
        style,
        consent: None,
    };
    let outcome = exchange.run(params).await;
    let unread = settle(&mut printer, &mut interrupt).await;
    let code = match (exit_code(&outcome, unread), printer.failure()) {
        (0, Some(error)) => {
            failure::complain(&format!("failed to write the answer: {error}"));
            1
        }
        (code, _) => code,
    };
    if !matches!(outcome.stopped, Some(Stopped::Impatience(_))) {
        client.leave().await;
    }
    code
}

/// Waits until everything is written; a signal ends the waiting with its exit code.
async fn settle(printer: &mut Printer, interrupt: &mut Interrupt) -> Option<u8> {
    let written = async {
        // A reader that has gone does not want the end of the line either.
        let _ = printer.end_line().await;
        let _ = printer.settle().await;
    };
    tokio::select! {
        () = written => None,
        code = interrupt.next() => Some(code),
    }
}

/// The exit code, and the sentence on stderr that goes with it.
fn exit_code(outcome: &Outcome, unread: Option<u8>) -> u8 {
    let code = match (&outcome.stopped, &outcome.result) {
        (Some(Stopped::Signal(code) | Stopped::Impatience(code)), _) => *code,
        (Some(Stopped::Closed), _) => 0,
        (None, Ok(answer)) => {
            failure::cut(answer.stop_reason).into_iter().for_each(failure::complain);
            failure::code_of_end(answer.status, answer.stop_reason)
        }
        (None, Err(error)) => failure::report(error),
    };
    if !outcome.refusal.is_empty() {
        failure::complain(&format!("the model refused: {}", outcome.refusal));
    }
    unread.unwrap_or(code)
}

/// The arguments, and what comes through a pipe after an empty line.
fn question(words: &[String]) -> Result<String, String> {
    let mut question = words.join(" ");
    let mut input = std::io::stdin();
    if !input.is_terminal() {
        let mut piped = Vec::new();
        input
            .read_to_end(&mut piped)
            .map_err(|error| format!("failed to read standard input: {error}"))?;
        let piped = String::from_utf8_lossy(&piped);
        let piped = piped.trim_end_matches(['\n', '\r']);
        if !question.is_empty() && !piped.is_empty() {
            question.push_str("\n\n");
        }
        question.push_str(piped);
    }
    Ok(question)
}
