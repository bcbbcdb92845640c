//! `assistd completions`: what a shell needs to complete this command line.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::schema::print;

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assistd completions bash > ~/.local/share/bash-completion/completions/assistd
  assistd completions fish > ~/.config/fish/completions/assistd.fish
  assistd completions zsh > \"${fpath[1]}/_assistd\"")]
pub struct CompletionsArgs {
    shell: Shell,
}

/// Prints the completions.
pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "assistd", &mut script);
    print(&script)
}
