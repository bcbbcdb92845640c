//! Nothing foreign on stdout, nothing at all on stderr; a panic is one run's error.

use serde_json::json;

use super::{Daemon, home, is_well, stored_run};

/// [`Daemon`] checks that each line of stdout is a message and that stderr stays empty, so this only gives it reasons.
#[test]
fn nothing_foreign_is_written_whatever_happens() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.write(b"hello\n{\"jsonrpc\":\n\xff\xfe\n[]\n[1,{}]\n{\"id\":[]}\n\n\r\n");
    daemon.write(b"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"no/such\"}\n");
    daemon.request(2, "thread/read", json!({ "threadId": "none" }));
    daemon.request(3, "assistant/send", json!({ "content": 7 }));
    daemon.request(4, "initialize", json!({ "settings": { "model": {} } }));
    for (id, word) in [(5, "panic"), (6, "fail"), (7, "drop")] {
        daemon.ask(id, word);
        assert!(daemon.error(id)["message"].is_string());
    }
    is_well(&mut daemon, 8);
    daemon.leave();
}

#[test]
fn settings_that_are_wrong_are_told_in_the_protocol_only() {
    let home = home();
    home.write_config("modle = 1\n");
    let mut command = home.command(&["--stdio"]);
    command.env("ASSISTD_TOOL_TIMEOUT", "soon").env("ASSISTD_LOG", "[no");
    let mut daemon = Daemon::run(command, super::ends::pipes());
    daemon.request(1, "initialize", json!({}));
    let warnings = daemon.result(1)["warnings"].to_string();
    for wrong in ["modle", "ASSISTD_TOOL_TIMEOUT", "log filter"] {
        assert!(warnings.contains(wrong), "{warnings}");
    }
    daemon.ask(2, "hello");
    daemon.error(2);
    daemon.leave();
}

#[test]
fn a_data_folder_that_cannot_be_had_is_told_in_the_protocol_only() {
    let home = home();
    let taken = home.write("taken", "a file, not a folder");
    let mut command = home.command(&["--stdio"]);
    command.env("ASSISTD_DATA_DIR", taken);
    let mut daemon = Daemon::run(command, super::ends::pipes());
    daemon.ask(1, "hello");
    let error = daemon.error(1);
    assert_eq!(
        (&error["code"], &error["data"]["kind"]),
        (&json!(-32016), &json!("storage"))
    );
    daemon.leave();
}

#[test]
fn a_panic_in_a_run_is_that_runs_error() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "stall");
    daemon.ask(2, "slowly");
    daemon.notification("assistant/delta", 1);
    daemon.ask(3, "panic");
    let completed = daemon.notification("assistant/completed", 3);
    assert_eq!(
        (&completed["status"], &completed["text"]),
        (&json!("failed"), &json!("So far, so good."))
    );
    let error = daemon.error(3);
    assert_eq!(
        (&error["code"], &error["data"]["kind"]),
        (&json!(-32603), &json!("internal"))
    );
    assert_eq!(error["data"]["runId"], completed["runId"]);
    assert!(
        !error.to_string().contains("as the test asked"),
        "details stay in the log: {error}"
    );

    // The others have not noticed, and the thread goes on, with the text so far in its history.
    assert_eq!(daemon.result(2)["text"], "one two three four five six seven eight");
    daemon.ask_in(4, &completed["threadId"], "history");
    assert_eq!(
        daemon.result(4)["text"],
        "user: panic\nassistant: So far, so good.\nuser: history"
    );
    daemon.request(5, "assistant/cancel", json!({ "token": 1 }));
    assert_eq!(daemon.result(1)["status"], "cancelled");
    daemon.result(5);
    daemon.leave();
    let stored = stored_run(&home, &completed["runId"]);
    assert_eq!(
        (&stored["status"], &stored["text"]),
        (&json!("failed"), &json!("So far, so good."))
    );
}
