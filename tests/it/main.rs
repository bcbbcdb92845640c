//! The tests of the whole, in one program. Each module says what it is about in its first line.

/// The real model inside the process: answers, conversations, cancelling, limits, memory.
#[cfg(feature = "embedded")]
mod embedded;
