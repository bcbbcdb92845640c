//! The program: its arguments, and its exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    assistd::cli::Cli::parse().run()
}
