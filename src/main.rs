//! The program: its arguments, and its exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    #[cfg(feature = "embedded")]
    unsafe {
        assistd::provider::embedded::spin_briefly();
    }
    assistd::cli::Cli::parse().run()
}
