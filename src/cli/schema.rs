//! `assistd schema`: the OpenRPC document, as `rpc.discover` gives it.

use std::io::Write;
use std::process::ExitCode;

use super::failure;
use crate::protocol;

/// Prints the document.
pub fn run() -> ExitCode {
    let mut text = format!("{:#}", protocol::openrpc());
    text.push('\n');
    print(text.as_bytes())
}

/// Prints a whole text. A reader that has seen enough is no failure.
pub fn print(text: &[u8]) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            failure::complain(&format!("failed to write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
