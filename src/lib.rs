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
//! Data runs one way, with one return edge: a finished run gives its end to the server. A run has two more to ask: the
//! tools of its MCP servers, and the client itself, whose questions and answers go over the desk and by the server.
//!
//! # Layers
//!
//! From the top to the roots, in the order of the `mod` lines below; a module uses only those after it.
//!
//! - [`cli`]: arguments, settings, the console. The daemon's subcommand hands its ends to [`serve`]; every other one is
//!   a client of the same `serve` over an in-memory pipe.
//! - `server`: the loop and the dispatch table. It starts runs, hears their ends and sends every response.
//! - `wire_log`, [`stdio`]: what went over the wire, written down for who looks for a fault; standard input and output.
//! - `run`: one answer. A provider's events become journal entries, deltas and notifications, and one end.
//! - [`store`]: threads, messages and runs in SQLite, and the journal beside it.
//! - `mcp`: the tools of MCP servers, which are programs that run beside this one.
//! - [`provider`]: the narrow waist. A request for an answer goes in, a stream of events in our own words comes out; one
//!   module for each dialect.
//! - [`desk`]: what the client is asked, and its answers.
//! - `content`: what the user says, made ready: paths are read, and every part is checked.
//! - `outbox`: the sending end, and the only task that writes to the client.
//! - `watch`, `family`, `descriptor`: the system's processes and descriptors, as far as anybody here minds them.
//! - [`transcript`], [`thread`]: what a run has said so far, and what it was asked in, as plain data.
//! - `ids`, [`rpc`], [`frame`]: our names for things; JSON text to messages and back; bytes to JSON texts and back.
//! - [`config`], [`protocol`], [`error`]: settings, the shapes of the wire, and every failure that a user can see.
//!
//! # What holds throughout
//!
//! - The server is the only owner of live state. A run is one task; it gets a snapshot, its lane of the outbox, the
//!   journal and a way to stop it.
//! - What the client is shown was journaled first, and is journaled once.
//! - A run's messages are queued before its end, so nothing of a run comes after its `assistant/completed`, and that comes
//!   before the response.
//! - Every request gets exactly one response, and every run exactly one end, also after a panic.
//! - What goes on upstream outlives its process: the journal keeps the run, and the next daemon takes it up.
//! - Everything that queues is bounded: a client that does not read stops its upstreams, then its own requests, and
//!   nobody else.
//! - Only the store knows SQL; only a provider's dialect knows its upstream; none of them knows JSON-RPC.
//! - One thread runs the loop, the runs and the writer; the store has a thread of its own, and so has a model.
//! - The environment, the files of settings and the descriptors are read by the command line and handed in.
//!
//! `protocol.md` is what this says to others; `tests/it/tidy.rs` holds it to some of the above.

pub mod cli;
mod server;
mod wire_log;
pub mod stdio;
mod run;
pub mod store;
mod mcp;
pub mod provider;
pub mod desk;
mod content;
mod outbox;
mod watch;
mod family;
mod descriptor;
pub mod transcript;
pub mod thread;
mod ids;
pub mod rpc;
pub mod frame;
pub mod config;
pub mod protocol;
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
