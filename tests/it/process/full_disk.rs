//! A disk that takes no more: the journal cannot be written, and the answer still comes.
//!
//! A full disk is made of a limit on the size of files, which any user may set for a process of their own.

use std::process::Command;

use super::daemon::Daemon;
use super::{ends, home};

/// The largest file that the daemon may write, in blocks of 512 bytes: room for a new database, and for some of an
/// answer of 400,000 bytes.
const LIMIT: &str = "600";

#[test]
fn the_client_is_told_first_and_hears_the_whole_answer() {
    let home = home();
    let plain = home.command(&[]);
    let mut command = Command::new("sh");
    // A process that does not ignore the signal would be ended by it; what is ignored stays so in the next program.
    let limited = format!(r#"trap "" XFSZ; ulimit -f {LIMIT}; exec "$0" "$@""#);
    command
        .args(["-c", &limited])
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env_clear().current_dir(home.path());
    for (name, value) in plain.get_envs() {
        command.env(name, value.expect("the home sets variables and removes none by name"));
    }
    let mut daemon = Daemon::run(command, ends::pipes());
    daemon.ask(1, "large");
    let told = daemon.until("the event `storage`", |message| message["params"]["type"] == "storage");
    assert_eq!(told["params"]["kept"], false);
    let reason = told["params"]["message"].as_str().unwrap_or_default();
    assert!(reason.starts_with("the journal cannot be written: "), "{reason}");
    let before = daemon.text(1).len();
    assert_eq!(daemon.result(1)["status"], "completed");
    let heard = daemon.text(1);
    assert_eq!(heard.len(), 400_000);
    assert!(before < heard.len(), "it is told before the text that is not kept");
    // The connection is as good as before.
    daemon.request(2, "server/status", serde_json::json!({}));
    daemon.result(2);
    daemon.leave();
}
