//! The tests of the whole, in one program. Each module says what it is about in its first line.

/// An upstream for the tests of all HTTP dialects.
mod upstream;
/// What drives the tests of all HTTP dialects.
mod dialect;
/// A judge of the requests of all HTTP dialects.
mod judge;
/// The binary with its own folders, for the tests of the command line.
mod program;
/// What a client says and hears, played in both framings.
mod transcript;
/// Threads, messages, runs and the journal on a real disk.
mod store;
/// The `assistants` dialect over a real socket: recorded streams cut everywhere, ends, tool rounds, locks and cancels.
mod assistants;
/// Upstreams that break anywhere, behind the real daemon.
mod chaos;
/// What the `assistants` dialect sends, judged by the API's own description.
mod assistants_judge;
/// Certificates, proxies, HTTP/2, redirects, limits and the services that give tokens, over real sockets.
mod networks;
/// The `responses` dialect over a real socket: recorded streams cut everywhere, every event, history, background.
mod responses;
/// What the `responses` dialect sends, judged by the API's own description.
mod responses_judge;
/// The `chat` dialect over a real socket: recorded streams cut everywhere, the quirks of servers, requests, failures.
mod chat;
/// What the `chat` dialect sends, judged by the API's own description.
mod chat_judge;
/// A real server: llama.cpp's, with a small model.
mod llama;
/// `assistd ask`, for pipes.
mod ask;
/// `provider/check` and `model/list`, against servers, proxies and certificates that are wrong in every way.
mod checks;
/// Servers on this machine that are found where nothing is set.
mod discovery;
/// `assistd doctor`.
mod doctor;
/// `assistd chat`, the console.
mod console;
/// The rules that a process keeps, against the real program on real descriptors.
mod process;
/// What holds for every file: first lines, layers, derives, lengths, nothing undone.
mod tidy;
/// The table of methods against the daemon.
mod methods;
/// protocol.md against the types of the wire.
mod protocol_md;
/// The examples of the documents, run as printed.
mod documents;
/// The real model inside the process: answers, conversations, cancelling, limits, memory.
#[cfg(feature = "embedded")]
mod embedded;
/// A conversation with the real model, through the real binary.
#[cfg(feature = "embedded")]
mod conversation;
