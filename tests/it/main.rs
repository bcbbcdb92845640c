//! The tests of the whole, in one program. Each module says what it is about in its first line.

mod store;
/// What a client says and hears, played in both framings.
mod transcript;
/// The `assistants` dialect over a real socket: recorded streams cut everywhere, ends, tool rounds, locks and cancels.
mod assistants;
/// What the `assistants` dialect sends, judged by the API's own description.
mod assistants_judge;
/// An upstream for the tests of all HTTP dialects.
mod upstream;
