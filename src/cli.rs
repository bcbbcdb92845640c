//! The command line: one file per subcommand, all of them but the daemon clients of the same `serve`.
//!
//! Only this layer reads the environment, the settings file and the terminal. A daemon starts whatever its settings
//! say; a one-shot command stops with a sentence on stderr and exit code 2.

mod ask;
mod attach;
mod chat;
mod client;
mod consent;
mod completions;
mod doctor;
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
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use settings::SettingsArgs;

use crate::config::Settings;
use crate::provider::local;

/// A streaming AI assistant for any editor, script or program.
///
/// Without a subcommand it is the daemon: JSON-RPC 2.0 on stdin and stdout, one JSON text per line or with
/// Content-Length headers.
#[derive(Debug, Default, Parser)]
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
  assistd chat                                     talk; nothing has to be set up for it
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
    /// List the models there are; fetch or find the weights of the embedded one
    Model(model::ModelArgs),
    /// Find out why it does not answer: settings, database, and the way to the provider
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Print the OpenRPC document of the protocol
    Schema,
}

fn runtime() -> std::io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// The same settings with the server on this machine that the choice waits for, if one answers.
fn settled(mut settings: Settings, assistant: Option<&str>) -> Settings {
    if settings.wants_local(assistant)
        && let Ok(runtime) = runtime()
    {
        settings.local = runtime.block_on(local::find(&settings));
        runtime.shutdown_background();
    }
    settings
}

/// Runs a one-shot command on the runtime that the daemon needs.
fn block_on(command: impl Future<Output = u8>) -> ExitCode {
    match runtime() {
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
    /// What the arguments say. A plain daemon's are read without the parser: an editor starts one for each of its
    /// windows, and only the parser would touch what it takes to print help.
    pub fn read() -> Cli {
        let args: Vec<_> = std::env::args_os().skip(1).collect();
        match args.as_slice() {
            [] => Cli::default(),
            [only] if only == "--stdio" => Cli {
                serve: serve::ServeArgs::stdio(),
                ..Cli::default()
            },
            _ => Cli::parse(),
        }
    }

    /// Does what the arguments say and gives the exit code.
    pub fn run(self) -> ExitCode {
        let mut settings = self.settings.load();
        log::take_panics();
        if let Err(problem) = log::start(&self.log, &mut settings) {
            return failure::usage(&problem);
        }
        if self.serve.is_set() && !matches!(self.command, None | Some(Command::Serve(_))) {
            return failure::usage("`--stdio` and `--framing` are for the daemon, not for this subcommand");
        }
        let named = self.settings.named();
        match self.command {
            None => serve::run(&self.serve, settings),
            Some(Command::Serve(args)) => serve::run(&args.over(&self.serve), settings),
            Some(Command::Chat(args)) => if_right(settings, |settings| chat::run(args, named, settings)),
            Some(Command::Ask(args)) => if_right(settings, |settings| ask::run(args, named, settings)),
            Some(Command::Model(args)) => if_right(settings, |settings| {
                model::run(&args, self.settings.provider(), settings)
            }),
            // Wrong settings are what it is there to tell of.
            Some(Command::Doctor(args)) => doctor::run(&args, self.settings.sources(&settings), settings),
            Some(Command::Completions(args)) => completions::run(&args),
            Some(Command::Schema) => schema::run(),
        }
    }
}

/// Runs a one-shot command, or says what is wrong with the settings.
fn if_right(settings: Settings, command: impl FnOnce(Settings) -> ExitCode) -> ExitCode {
    match settings.problems.first() {
        Some(problem) => failure::usage(problem),
        None => command(settings),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_plain_daemon_is_what_the_parser_makes_of_it() {
        let plain = Cli::default();
        assert_eq!(format!("{plain:?}"), format!("{:?}", Cli::parse_from(["assistd"])));
        let stdio = Cli {
            serve: serve::ServeArgs::stdio(),
            ..Cli::default()
        };
        assert_eq!(
            format!("{stdio:?}"),
            format!("{:?}", Cli::parse_from(["assistd", "--stdio"]))
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
