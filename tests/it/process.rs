//! The rules that a process keeps, each against the real binary on real descriptors: what it writes where, how it ends,
//! whom it holds up, and what survives it.

mod background;
mod calls;
mod chat;
mod content;
mod daemon;
mod discovered;
mod ending;
mod ends;
mod failures;
mod full_disk;
mod gone;
mod killed;
mod keys;
mod large;
mod proxied;
mod reader;
mod rpc_client;
mod servers;
mod shared;
mod side_by_side;
mod signals;
mod silence;
mod stdio;
mod taken_up;
mod tool_outputs;
mod tokens;
mod upstreams;
mod warming;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::event::PollFlags;
use serde_json::{Value, json};

use crate::program::{Home, PATIENCE};
pub use daemon::{Daemon, end_of, wait_for};
pub use ends::pipes;
#[cfg(target_os = "linux")]
pub use ends::terminal;

/// Answers for most of these tests.
const SCRIPT: &str = r#"
answers = [
    { match = "stall", steps = [{ text = "Wait for it", split = "words" }, { stall = true }] },
    { match = "panic", steps = [{ text = "So far, so good." }, { delay_ms = 1 }, { panic = "as the test asked" }] },
    { match = "fail", steps = [{ text = "Half" }, { error = { kind = "overloaded", message = "no capacity" } }] },
    { match = "drop", steps = [{ text = "Half" }, { drop = true }] },
    { match = "tool", steps = [{ text = "Look: " }, { tool_call = { name = "look" } }, { text = "{output}" }] },
    { match = "huge", steps = [{ huge = { bytes = 33554432, pattern = "0123456789abcde\n" } }] },
    { match = "large", steps = [{ huge = { bytes = 400000, pattern = "0123456789abcde\n" } }] },
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

/// The reading end of a named pipe, and the first thing that a child says into it.
fn listen(fifo: &Path) -> (File, String) {
    let mut reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(fifo)
        .unwrap();
    let is_heard = wait_for(&reader, PollFlags::IN, Instant::now() + PATIENCE);
    assert!(is_heard, "the child was not started");
    let mut said = [0; 64];
    let count = reader.read(&mut said).unwrap();
    (reader, String::from_utf8_lossy(&said[..count]).trim().to_owned())
}
