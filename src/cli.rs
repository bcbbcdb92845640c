//! The command line: one file per subcommand, all of them but the daemon clients of the same `serve`.
//!
//! Only this layer reads the environment, the settings file and the terminal. A daemon starts whatever its settings
//! say; a one-shot command stops with a sentence on stderr and exit code 2.

mod ask;
mod chat;
mod client;
mod completions;
mod exchange;
mod failure;
mod interrupt;
mod log;
mod model;
mod printer;
mod schema;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

pub use settings::SettingsArgs;

use crate::config::Settings;

/// A streaming AI assistant for any editor, script or program.
///
/// Without a subcommand it is the daemon: JSON-RPC 2.0 on stdin and stdout, one JSON text per line or with
/// Content-Length headers.
#[derive(Debug, Parser)]
#[command(name = "assistd", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    log: log::LogArgs,
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  assistd chat                                     talk, with the embedded model if nothing else is set
  git diff | assistd ask \"Write a commit message\"  add standard input to a question
  assistd --stdio                                  what an editor starts
  echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"assistant/send\",\"params\":{\"content\":\"Hi\"}}' | assistd
  assistd --script answers.toml                    the daemon with answers of your own, for testing a plugin";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon on stdin and stdout (what assistd does without a subcommand)
    Serve(serve::ServeArgs),
    /// Talk to the assistant in this terminal
    Chat(chat::ChatArgs),
    /// Ask one question; only the answer goes to stdout
    Ask(ask::AskArgs),
    /// Fetch or find the weights of the embedded model
    Model(model::ModelArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Print the OpenRPC document of the protocol
    Schema,
}

/// Runs a one-shot command on the runtime that the daemon needs.
fn block_on(command: impl Future<Output = u8>) -> ExitCode {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A thread that waits for standard input or for a slow reader must not keep the process.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            failure::complain(&format!("failed to start: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    /// Does what the arguments say and gives the exit code.
    pub fn run(self) -> ExitCode {
        let mut settings = self.settings.load();
        if let Err(problem) = log::start(&self.log, &mut settings) {
            return failure::usage(&problem);
        }
        if self.serve.is_set() && !matches!(self.command, None | Some(Command::Serve(_))) {
            return failure::usage("`--stdio` and `--framing` are for the daemon, not for this subcommand");
        }
        match self.command {
            None => serve::run(&self.serve, settings),
            Some(Command::Serve(args)) => serve::run(&args.over(&self.serve), settings),
            Some(Command::Completions(args)) => completions::run(&args),
            Some(Command::Schema) => schema::run(),
            Some(one_shot) => match settings.problems.first() {
                Some(problem) => failure::usage(problem),
                None => one_shot.run(&self.settings, settings),
            },
        }
    }
}

impl Command {
    fn run(self, args: &SettingsArgs, settings: Settings) -> ExitCode {
        let named = args.named();
        match self {
            Command::Chat(chat) => chat::run(chat, named, settings),
            Command::Ask(ask) => ask::run(ask, named, settings),
            Command::Model(model) => model::run(&model, &settings),
            Command::Serve(_) | Command::Completions(_) | Command::Schema => unreachable!("run before settings matter"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
