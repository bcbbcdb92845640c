//! The tests of the whole, in one program. Each module says what it is about in its first line.

mod store;
/// What a client says and hears, played in both framings.
mod transcript;
