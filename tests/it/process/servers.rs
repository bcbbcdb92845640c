//! MCP servers beside the real program: what their calls give, what goes wrong with them, and that none stays behind.

mod calls;
mod chat;
mod endings;
mod faults;
mod judge;

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::daemon::{Daemon, wait_for};
use super::ends::pipes;
use crate::program::{Home, PATIENCE};

/// The server that the tests have, `tests/it/mcp/server.py`.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/server.py");

/// A home with the server `demo` in its settings, and what that server notes.
struct Stage {
    home: Home,
    notes: File,
    rest: Vec<u8>,
}

impl Stage {
    /// The server is started with these options and has these settings besides. For each round of each answer the
    /// script calls these tools, `name` or `name = arguments`; each answer is known by its first word.
    fn new(options: &str, settings: &str, answers: &[(&str, &[&str])]) -> Stage {
        let command: Vec<&str> = ["python3", SERVER]
            .into_iter()
            .chain(options.split_whitespace())
            .collect();
        Stage::of(&command, settings, answers)
    }

    /// The same with another server.
    fn of(command: &[&str], settings: &str, answers: &[(&str, &[&str])]) -> Stage {
        let home = Home::with_script(&script(answers));
        let fifo = home.path().join("notes");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // Open both ways, so that neither side waits for the other to open it.
        let notes = File::options().read(true).write(true).open(&fifo).unwrap();
        home.write_config(&format!(
            "[mcp.demo]\ncommand = {command:?}\napprove = \"always\"\nenv.NOTES = {:?}\n{settings}\n",
            fifo.display().to_string()
        ));
        Stage {
            home,
            notes,
            rest: Vec::new(),
        }
    }

    /// The program, with a path to find others on.
    fn command(&self) -> Command {
        let mut command = self.home.command(&["--stdio"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    fn start(&self) -> Daemon {
        Daemon::run(self.command(), pipes())
    }

    /// The next line that the server noted.
    fn note(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim().to_owned();
            }
            assert!(
                wait_for(&self.notes, PollFlags::IN, deadline),
                "the server noted nothing more"
            );
            let mut buffer = [0; 1024];
            let count = self.notes.read(&mut buffer).unwrap();
            self.rest.extend_from_slice(&buffer[..count]);
        }
    }

    /// Whether the server has noted something that was not read.
    fn has_note(&self) -> bool {
        !self.rest.is_empty() || wait_for(&self.notes, PollFlags::IN, Instant::now())
    }

    /// A process that the server noted.
    fn process(&mut self) -> Process {
        Process::open(self.note().parse().unwrap())
    }
}

/// A process, known by a descriptor: its number may be another's by the time that it is looked at.
struct Process(std::os::fd::OwnedFd);

impl Process {
    fn open(pid: i32) -> Process {
        let pid = Pid::from_raw(pid).unwrap();
        Process(pidfd_open(pid, PidfdFlags::empty()).expect("the process is there"))
    }

    fn is_gone(&self) -> bool {
        wait_for(&self.0, PollFlags::IN, Instant::now())
    }

    /// Waits until it is gone.
    fn expect_gone(&self) {
        assert!(
            wait_for(&self.0, PollFlags::IN, Instant::now() + PATIENCE),
            "a process stays behind"
        );
    }
}

fn script(answers: &[(&str, &[&str])]) -> String {
    let call = |call: &&str| {
        let (name, arguments) = call.split_once(" = ").unwrap_or((call, "{}"));
        format!("{{ name = \"demo_{name}\", arguments = {arguments} }}")
    };
    let round = |round: &&str| {
        let calls: Vec<String> = round.split(" & ").map(|text| call(&text)).collect();
        format!(
            "{{ tool_calls = [{}] }}, {{ text = \"{{output}}|\" }}",
            calls.join(", ")
        )
    };
    let answers = answers.iter().map(|(word, rounds)| {
        let rounds: Vec<String> = rounds.iter().map(round).collect();
        format!("[[answers]]\nmatch = \"{word}\"\nsteps = [{}]\n", rounds.join(", "))
    });
    let tools = "[[answers]]\nmatch = \"tools\"\nsteps = [{ text = \"{tools}\" }]\n".to_owned();
    answers.chain([tools]).collect()
}

/// The outputs of a run's calls, in the order of its rounds: the last of each round.
fn outputs(answer: &Value) -> Vec<String> {
    let text = answer["text"].as_str().unwrap();
    text.split_terminator('|').map(str::to_owned).collect()
}

/// Asks, and gives the outputs.
fn ask(daemon: &mut Daemon, id: u64, content: &str) -> Vec<String> {
    daemon.ask(id, content);
    let answer = daemon.result(id);
    assert_eq!(answer["status"], json!("completed"), "{answer}");
    outputs(&answer)
}

/// What was said of servers in the run with this token: `(status, message)`.
fn said_of_servers(daemon: &Daemon, token: u64) -> Vec<(String, String)> {
    let own = daemon.heard.iter().map(|message| &message["params"]);
    let own = own.filter(|params| params["token"] == token && params["type"] == "mcp");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    own.map(|params| (word(&params["status"]), word(&params["message"])))
        .collect()
}
