//! The real program in a home of its own: no setting, variable or thread of whoever runs the tests gets in.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here takes, so that a test that hangs fails instead.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A home folder, removed with everything in it.
pub struct Home(TempDir);

impl Home {
    /// An empty one.
    pub fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    /// One with a script, which [`Home::command`] plays.
    pub fn with_script(script: &str) -> Home {
        let home = Home::new();
        home.write("script.toml", script);
        home
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The settings file.
    pub fn write_config(&self, text: &str) -> PathBuf {
        self.write(".config/assistd/config.toml", text)
    }

    /// The program with these arguments, with pipes at all its ends. Plays `script.toml` if there is one.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assistd"));
        command
            .env_clear()
            .env("HOME", self.0.path())
            // Nor does a server that happens to run on this machine.
            .env("ASSISTD_DISCOVER", "false")
            .current_dir(self.0.path())
            .args(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.0.path().join("script.toml").exists() {
            command.env("ASSISTD_SCRIPT", "script.toml");
        }
        command
    }

    /// Runs the program to its end with this on stdin.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        // A program that does not read its input may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        finish(child)
    }

    /// Starts the program with its stdin left open.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// Asks a daemon in the same home, and gives the result.
    pub fn request(&self, method: &str, params: Value) -> Value {
        let response = self.respond(|_| {}, method, params);
        assert!(response.get("error").is_none(), "{response}");
        response["result"].clone()
    }

    /// Asks a daemon in the same home, with more set, and gives the response.
    pub fn respond(&self, set: impl FnOnce(&mut Command), method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut command = self.command(&[]);
        set(&mut command);
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        let output = finish(child);
        let text = stdout(&output);
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let response = lines.rev().find(|message| message["id"] == 1);
        response.unwrap_or_else(|| panic!("expected a response, found {text}"))
    }

    /// The messages of the thread that was written to last, oldest first, as `(role, status, text)`.
    pub fn last_thread(&self) -> Vec<(String, String, String)> {
        let threads = self.request("thread/list", json!({}));
        let read = self.request("thread/read", json!({ "threadId": threads["threads"][0]["threadId"] }));
        let messages = read["messages"].as_array().unwrap().iter().rev();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        messages
            .map(|message| {
                (
                    text(&message["role"]),
                    text(&message["status"]),
                    text(&message["content"][0]["text"]),
                )
            })
            .collect()
    }
}

/// A program that is under way. Killed when it is dropped.
pub struct Running {
    child: Child,
    input: Option<std::process::ChildStdin>,
    output: Option<BufReader<std::process::ChildStdout>>,
}

impl Running {
    /// Starts this, with its stdin left open.
    pub fn of(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        Running {
            input: child.stdin.take(),
            output: child.stdout.take().map(BufReader::new),
            child,
        }
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input
            .write_all(line.as_bytes())
            .and_then(|()| input.write_all(b"\n"))
            .unwrap();
    }

    /// Reads until what has come ends so.
    pub fn read_until(&mut self, end: &str) -> String {
        let output = self.output.as_mut().unwrap();
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let available = output.fill_buf().unwrap();
            let Some(byte) = available.first().copied() else {
                panic!(
                    "expected {end:?}, found the end behind {:?}",
                    String::from_utf8_lossy(&text)
                );
            };
            text.push(byte);
            output.consume(1);
        }
        String::from_utf8(text).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Closes its output unread.
    pub fn close_output(&mut self) {
        self.output = None;
    }

    /// Waits for its end and gives what was not read.
    pub fn finish(&mut self) -> Output {
        let mut rest = Vec::new();
        let watch = Watch::over(&self.child);
        if let Some(output) = &mut self.output {
            output.read_to_end(&mut rest).unwrap();
        }
        let mut complaints = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut complaints).unwrap();
        let status = self.child.wait().unwrap();
        watch.end();
        Output {
            status,
            stdout: rest,
            stderr: complaints,
        }
    }

    /// Whether it ends within this time.
    pub fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
            let _ = rustix::process::waitid(rustix::process::WaitId::Pid(pid), options);
            let _ = ended.send(());
        });
        end.recv_timeout(limit).ok()?;
        Some(self.child.wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a program that outlives everybody's patience, so that reading its output ends.
struct Watch(mpsc::Sender<()>);

impl Watch {
    fn over(child: &Child) -> Watch {
        let pid = Pid::from_child(child);
        let (sender, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Watch(sender)
    }

    fn end(self) {
        let _ = self.0.send(());
    }
}

fn finish(child: Child) -> Output {
    let watch = Watch::over(&child);
    let output = child.wait_with_output().unwrap();
    watch.end();
    output
}

/// What was printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What was complained of.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
