//! assistd: a streaming AI assistant for any editor, script or program, over JSON-RPC on stdin and stdout.

pub mod cli;
pub mod config;
pub mod error;
pub mod protocol;
pub mod provider;
pub mod thread;
pub mod transcript;
