//! How a one-shot command says that it failed: one sentence on stderr, and an exit code that tells the kind.

use std::io::Write;
use std::process::ExitCode;

use crate::error::{Error, Kind};
use crate::protocol::{RunStatus, StopReason};

/// `assistd ask --help` shows this table.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  the answer is whole (or nobody reads it any more)
    1  the run failed: an upstream's error, a database or an output that cannot be written
    2  wrong arguments or settings; no such thread, assistant or model; the question is too large
    3  no credentials, or the upstream does not accept them
    4  the upstream cannot be reached, or the connection broke
    5  a rate limit, a quota, no capacity, or a busy thread
    6  the answer was cut: its limit of tokens, a full context, a tool that nobody calls
    7  the model refused (its words go to stderr), or a content filter did
  129, 130, 143  stopped by SIGHUP, Ctrl-C or SIGTERM; the text so far is kept in the thread";

/// The exit code of wrong arguments and settings.
pub const USAGE: u8 = 2;

/// Says what is wrong with arguments or settings.
pub fn usage(problem: &str) -> ExitCode {
    complain(problem);
    ExitCode::from(USAGE)
}

/// Says what failed and what to do, in one sentence, and gives its exit code.
pub fn report(error: &Error) -> u8 {
    match &error.data.hint {
        // An upstream's own words may end with a full stop.
        Some(hint) => complain(&format!("{}; {hint}", error.message.trim_end_matches('.'))),
        None => complain(&error.message),
    }
    code_of_kind(error.kind())
}

/// One line on stderr. A stderr that is closed is nobody's business.
pub fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "assistd: {sentence}");
}

/// The exit code of an error.
fn code_of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::ParseError
        | Kind::InvalidRequest
        | Kind::MethodNotFound
        | Kind::InvalidParams
        | Kind::NotFound
        | Kind::UnsupportedVersion
        | Kind::InputTooLarge
        | Kind::ContextOverflow
        | Kind::ConfigInvalid => USAGE,
        Kind::AuthRequired => 3,
        Kind::Network => 4,
        Kind::RateLimited | Kind::QuotaExceeded | Kind::Overloaded | Kind::Busy => 5,
        Kind::ContentFiltered => 7,
        Kind::Internal | Kind::Upstream | Kind::ShuttingDown | Kind::Storage | Kind::OutputTooLarge => 1,
    }
}

/// Why an answer that came without an error is not whole. A refusal has words of its own.
pub fn cut(reason: Option<StopReason>) -> Option<&'static str> {
    Some(match reason? {
        StopReason::MaxTokens => "the answer was cut: it has reached its limit of tokens",
        StopReason::ContextFull => "the answer was cut: the model's context is full",
        StopReason::ContentFilter => "the answer was cut by the upstream's content filter",
        StopReason::Expired => "the answer was cut: the upstream gave up waiting",
        StopReason::ToolCalls => {
            "the model wants a tool called, and `assistd ask` calls only those of MCP servers with `always`"
        }
        StopReason::ToolLimit => "the model wants tools called more often than `maxToolRounds` allows",
        _ => return None,
    })
}

/// The exit code of a run that ended without an error.
pub fn code_of_end(status: RunStatus, reason: Option<StopReason>) -> u8 {
    match (status, reason) {
        (_, Some(StopReason::Refusal | StopReason::ContentFilter)) => 7,
        (_, Some(StopReason::ToolCalls)) | (RunStatus::Incomplete, _) => 6,
        (RunStatus::Completed, _) => 0,
        (RunStatus::Cancelled, _) => 130,
        _ => 1,
    }
}
