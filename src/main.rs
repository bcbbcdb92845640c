//! The program: its arguments, and its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    #[cfg(feature = "embedded")]
    unsafe {
        assistd::provider::embedded::spin_briefly();
    }
    assistd::cli::Cli::read().run()
}
