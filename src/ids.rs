//! Ids that sort by the time at which they were made.

use uuid::Uuid;

/// A new thread's id.
pub fn thread() -> String {
    format!("thread_{}", Uuid::now_v7().simple())
}

/// A new run's id.
pub fn run() -> String {
    format!("run_{}", Uuid::now_v7().simple())
}

/// A new message's id.
pub fn message() -> String {
    format!("msg_{}", Uuid::now_v7().simple())
}

/// The id of a tool call whose upstream gave none.
pub fn call() -> String {
    format!("call_{}", Uuid::now_v7().simple())
}

/// The id of a run step whose upstream gave none.
pub fn step() -> String {
    format!("step_{}", Uuid::now_v7().simple())
}
