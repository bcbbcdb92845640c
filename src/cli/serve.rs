//! `assistd serve`: the daemon on stdin and stdout, which is also what assistd does without a subcommand.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::failure;
use super::interrupt::Interrupt;
use crate::Signals;
use crate::config::{self, Settings};
use crate::stdio::{Stdin, Stdout};

/// How the daemon talks.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Daemon")]
pub struct ServeArgs {
    /// Be the daemon without a hint, even on a terminal (what editors pass)
    #[arg(long)]
    stdio: bool,
    /// How messages are told apart; guessed from the first byte where absent
    #[arg(long, value_name = "FRAMING")]
    framing: Option<FramingArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum FramingArg {
    /// One JSON text per line
    Lines,
    /// Content-Length headers, as language servers have them
    Headers,
}

impl ServeArgs {
    /// `--stdio` alone.
    pub fn stdio() -> ServeArgs {
        ServeArgs {
            stdio: true,
            framing: None,
        }
    }

    /// Whether any of it was given.
    pub fn is_set(&self) -> bool {
        *self != ServeArgs::default()
    }

    /// These, put over those that stood before the subcommand.
    pub fn over(&self, before: &ServeArgs) -> ServeArgs {
        ServeArgs {
            stdio: self.stdio || before.stdio,
            framing: self.framing.or(before.framing),
        }
    }
}

/// Serves until the client leaves.
pub fn run(args: &ServeArgs, mut settings: Settings) -> ExitCode {
    settings.framing = args.framing.map(|framing| match framing {
        FramingArg::Lines => config::Framing::Lines,
        FramingArg::Headers => config::Framing::Headers,
    });
    if !args.stdio && std::io::stdin().is_terminal() {
        failure::complain("speaking JSON-RPC on stdin and stdout; for a conversation type `assistd chat`");
    }
    super::block_on(async {
        match serve(settings).await {
            Ok(code) => code,
            Err(error) => {
                failure::complain(&format!("failed to use stdin and stdout: {error}"));
                1
            }
        }
    })
}

async fn serve(settings: Settings) -> io::Result<u8> {
    let input = Stdin::open()?;
    let output = Stdout::open()?;
    let signals = Signals::default();
    let closed = output.closed()?;
    let mut interrupt = Interrupt::listen()?;
    // Both tasks end with the runtime: they only wait.
    let client_gone = signals.client_gone.clone();
    tokio::task::spawn_local(async move {
        closed.await;
        client_gone.cancel();
    });
    let terminate = signals.terminate.clone();
    tokio::task::spawn_local(async move {
        interrupt.next().await;
        terminate.cancel();
    });
    Ok(crate::serve(input, output, settings, signals).await)
}
