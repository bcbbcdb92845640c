//! The tests of the whole, in one program. Each module says what it is about in its first line.

/// An upstream for the tests of all HTTP dialects.
mod upstream;
/// The binary with its own folders, for the tests of the command line.
mod program;
/// What a client says and hears, played in both framings.
mod transcript;
/// Threads, messages, runs and the journal on a real disk.
mod store;
/// The `assistants` dialect over a real socket: recorded streams cut everywhere, ends, tool rounds, locks and cancels.
mod assistants;
/// What the `assistants` dialect sends, judged by the API's own description.
mod assistants_judge;
/// `assistd ask`, for pipes.
mod ask;
/// `assistd chat`, the console.
mod console;
