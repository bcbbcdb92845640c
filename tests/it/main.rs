//! The tests of the whole, in one program. Each module says what it is about in its first line.

mod ask;
mod console;
mod program;
