//! The rules that a process keeps, each against the real binary on real descriptors: what it writes where, how it ends,
//! whom it holds up, and what survives it.

/// End of input, `shutdown`, `exit`, and the exit codes.
mod ending;
/// A client that is gone, by its stdout or by its process.
mod gone;
/// What survives kill -9.
mod killed;
/// Keys are nowhere.
mod keys;
/// Sizes: of lines, of input, of answers.
mod large;
/// A client that reads slowly, or not at all.
mod reader;
/// Another implementation of JSON-RPC as the client.
mod rpc_client;
/// Several daemons, one database.
mod shared;
/// Many threads over one connection.
mod side_by_side;
/// SIGTERM, SIGINT, SIGHUP.
mod signals;
/// Nothing foreign on stdout, nothing at all on stderr; a panic is one run's error.
mod silence;
/// What stdin and stdout may be, and how they are left.
mod stdio;
/// Upstreams that do not answer.
mod upstreams;

mod daemon;
mod ends;

use serde_json::{Value, json};

use crate::program::Home;
use daemon::Daemon;

/// Answers for most of these tests.
const SCRIPT: &str = r#"
answers = [
    { match = "stall", steps = [{ text = "Wait for it", split = "words" }, { stall = true }] },
    { match = "panic", steps = [{ text = "So far, so good." }, { delay_ms = 1 }, { panic = "as the test asked" }] },
    { match = "fail", steps = [{ text = "Half" }, { error = { kind = "overloaded", message = "no capacity" } }] },
    { match = "drop", steps = [{ text = "Half" }, { drop = true }] },
    { match = "tool", steps = [{ text = "Look: " }, { tool_call = { name = "look" } }, { text = "{output}" }] },
    { match = "huge", steps = [{ huge = { bytes = 33554432, pattern = "0123456789abcde\n" } }] },
    { match = "endless", steps = [{ huge = { bytes = 1000000000, pattern = "x", piece = 16 }, delay_ms = 1 }] },
    { match = "history", steps = [{ text = "{history}" }] },
    { match = "slowly", steps = [{ text = "one two three four five six seven eight", split = "words", delay_ms = 10 }] },
    { steps = [{ text = "You said: {text}", split = "words" }] },
]
"#;

/// A home with [`SCRIPT`].
fn home() -> Home {
    Home::with_script(SCRIPT)
}

/// Says something harmless and hears the answer.
fn is_well(daemon: &mut Daemon, id: u64) {
    daemon.ask(id, "well?");
    assert_eq!(daemon.result(id)["text"], "You said: well?");
}

/// A run as a new daemon in this home finds it.
fn stored_run(home: &Home, run: &Value) -> Value {
    home.request("run/get", json!({ "runId": run }))
}
