//! assistd: a streaming AI assistant for any editor, script or program, over JSON-RPC 2.0 on stdin and stdout.
//!
//! ```text
//! stdin -> frame -> rpc -> server --starts--> run --polls--> provider -> sse
//!                            ^                 |  events, in order
//!                            |  its end        +--> store (journal, then)
//!                            +---------------- run       outbox -> frame -> stdout
//!                            |  the response                ^
//!                            +------------------------------+
//! ```
//!
//! Data runs one way, with one return edge: a finished run gives its end to the server. The modules below stand in
//! this order, and each uses only those after it.
//!
//! What holds throughout:
//! - The server is the only owner of live state. A run is one task; it gets a snapshot, its lane of the outbox, the
//!   journal and a way to stop it.
//! - What the client is shown was journaled first, and is journaled once.
//! - Only the outbox writes to the client, and everything that queues is bounded.
//! - Every request gets exactly one response, and every run exactly one end, also after a panic.
//! - Only the store knows SQL; only a provider's dialect knows its upstream; none of them knows JSON-RPC.
//! - The environment, the files of settings and the descriptors are read by the command line and handed in.

pub mod cli;
mod server;
mod wire_log;
pub mod stdio;
mod run;
pub mod store;
pub mod provider;
mod outbox;
mod watch;
mod descriptor;
pub mod transcript;
pub mod thread;
mod ids;
pub mod rpc;
pub mod frame;
pub mod protocol;
pub mod config;
pub mod error;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use config::Settings;

/// What reaches the daemon beside its input.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Fires when nobody reads the output any more.
    pub client_gone: CancellationToken,
    /// Fires when the process is told to leave.
    pub terminate: CancellationToken,
}

/// Serves one client over these two ends of a connection, until it leaves. This is the whole daemon; the console and
/// the tests call it over an in-memory pipe.
///
/// Has to be called on a [`tokio::runtime::LocalRuntime`]. The result is the exit code: 0 after end of input, a client
/// that is gone, a signal, or `exit` after `shutdown`; 1 after `exit` without it.
pub async fn serve<I, O>(input: I, output: O, settings: Settings, signals: Signals) -> u8
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin + 'static,
{
    server::serve(input, output, settings, signals).await
}
