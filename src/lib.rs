//! assistd: a streaming AI assistant for any editor, script or program, over JSON-RPC on stdin and stdout.

pub mod config;
pub mod error;
pub mod protocol;
pub mod provider;
pub mod store;
pub mod thread;
pub mod transcript;
