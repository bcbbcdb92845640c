//! A client of the real daemon, with a deadline on everything it waits for.
//!
//! What holds of every message is checked of each that is heard: its size, its envelope, the order and the numbers of
//! a run's notifications. A test ends with [`Daemon::finish`], which fails if a message was left unread or stderr is
//! not empty; a daemon that is dropped while it runs fails the test, too.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};

use super::ends::{Ends, pipes};
use crate::program::{Home, PATIENCE};

/// The largest line that a client gets which says nothing else, in bytes.
pub const MAX_LINE: usize = 60 * 1024;

/// A running daemon and its client's ends.
pub struct Daemon {
    child: Child,
    pid: Pid,
    ended: mpsc::Receiver<Instant>,
    has_ended: Option<Instant>,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    stderr: File,
    /// What was read and is no whole line yet.
    rest: Vec<u8>,
    bytes: usize,
    /// All messages so far.
    pub heard: Vec<Value>,
    runs: HashMap<String, Order>,
    is_finished: bool,
}

/// How far a run's notifications are.
struct Order {
    seq: u64,
    is_over: bool,
}

/// How a daemon ended.
pub struct Ending {
    /// Its exit code; none if a signal killed it.
    pub code: Option<i32>,
    /// When it was seen to be gone.
    pub at: Instant,
}

impl Daemon {
    /// A daemon in this home, over pipes.
    pub fn start(home: &Home) -> Daemon {
        Daemon::run(home.command(&["--stdio"]), pipes())
    }

    /// This command, over these ends.
    pub fn run(mut command: Command, ends: Ends) -> Daemon {
        let stderr = tempfile::tempfile().unwrap();
        command
            .stdin(ends.stdin)
            .stdout(ends.stdout)
            .stderr(stderr.try_clone().unwrap());
        let child = command.spawn().unwrap();
        // The command holds the daemon's ends, which only the daemon may have.
        drop(command);
        let pid = Pid::from_child(&child);
        Daemon {
            child,
            pid,
            ended: end_of(pid),
            has_ended: None,
            input: Some(ends.input),
            output: Some(ends.output),
            stderr,
            rest: Vec::new(),
            bytes: 0,
            heard: Vec::new(),
            runs: HashMap::new(),
            is_finished: false,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Writes these bytes. Fails if the daemon does not read them.
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_ref().expect("the input is open");
        let deadline = Instant::now() + PATIENCE;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(input, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => assert!(
                    wait_for(input, PollFlags::OUT, deadline),
                    "the daemon does not read its input: {} of {} bytes are left",
                    rest.len(),
                    bytes.len()
                ),
                Err(error) => panic!("the daemon cannot be written to: {error}"),
            }
        }
    }

    /// Writes of these bytes what the daemon takes, until it takes nothing for a while; how many it took.
    pub fn write_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        const A_WHILE: Duration = Duration::from_secs(1);
        let input = self.input.as_ref().expect("the input is open");
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(input, &bytes[written..]) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) if wait_for(input, PollFlags::OUT, Instant::now() + A_WHILE) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("the daemon cannot be written to: {error}"),
            }
        }
        written
    }

    /// Writes a message.
    pub fn say(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// Sends a request.
    pub fn request(&mut self, id: u64, method: &str, params: Value) {
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str) {
        self.say(&json!({ "jsonrpc": "2.0", "method": method }));
    }

    /// Sends `assistant/send`, into a new thread.
    pub fn ask(&mut self, id: u64, content: &str) {
        self.request(id, "assistant/send", json!({ "content": content }));
    }

    /// Sends `assistant/send`, into this thread.
    pub fn ask_in(&mut self, id: u64, thread: &Value, content: &str) {
        self.request(id, "assistant/send", json!({ "threadId": thread, "content": content }));
    }

    /// The end of input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The end of input, of a socket whose other direction may go on.
    pub fn shut_input(&mut self) {
        let input = self.input.as_ref().expect("the input is open");
        rustix::net::shutdown(input, rustix::net::Shutdown::Write).unwrap();
    }

    /// Nobody reads any more.
    pub fn close_output(&mut self) {
        self.output = None;
        self.rest.clear();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// The next message; none at the end of the output.
    pub fn read(&mut self) -> Option<Value> {
        let line = self.read_line()?;
        let message = self.check(&line);
        self.heard.push(message.clone());
        Some(message)
    }

    /// Reads up to the first message like this.
    pub fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.read() {
                Some(message) if is_it(&message) => return message,
                Some(_) => {}
                None => panic!("expected {what}, found the end of the output after {:#?}", self.last()),
            }
        }
    }

    /// The response to this request, read up to it unless it was heard before.
    pub fn response(&mut self, id: u64) -> Value {
        let is_it = |message: &Value| message.get("method").is_none() && message["id"] == id;
        if let Some(heard) = self.heard.iter().find(|message| is_it(message)) {
            return heard.clone();
        }
        self.until(&format!("the response to {id}"), is_it)
    }

    /// The result of this request.
    pub fn result(&mut self, id: u64) -> Value {
        let response = self.response(id);
        assert!(response.get("error").is_none(), "{response}");
        response["result"].clone()
    }

    /// The error of this request.
    pub fn error(&mut self, id: u64) -> Value {
        let response = self.response(id);
        assert!(response.get("result").is_none(), "{response}");
        response["error"].clone()
    }

    /// The first notification of this method with this token, read up to it unless it was heard before.
    pub fn notification(&mut self, method: &str, token: u64) -> Value {
        let is_it = |message: &Value| message["method"] == method && message["params"]["token"] == token;
        if let Some(heard) = self.heard.iter().find(|message| is_it(message)) {
            return heard["params"].clone();
        }
        self.until(&format!("`{method}` of {token}"), is_it)["params"].clone()
    }

    /// Reads to the end of the output.
    pub fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.read()).collect()
    }

    /// The text of the run with this token, as its deltas said it so far.
    pub fn text(&self, token: u64) -> String {
        let deltas = self
            .heard
            .iter()
            .filter(|message| message["method"] == "assistant/delta");
        let own = deltas.filter(|message| message["params"]["token"] == token);
        own.map(|message| message["params"]["text"].as_str().unwrap()).collect()
    }

    /// What was said of the run with this token, method by method.
    pub fn course(&self, token: u64) -> Vec<String> {
        let own = self.heard.iter().filter(|message| {
            message["params"]["token"] == token || (message.get("method").is_none() && message["id"] == token)
        });
        own.map(|message| message["method"].as_str().unwrap_or("response").to_owned())
            .collect()
    }

    /// Reads raw bytes until this many have been read in all, or the output has ended.
    pub fn read_bytes(&mut self, total: usize) {
        while self.bytes < total && self.fill(total - self.bytes) {}
    }

    /// All that was read by [`Daemon::read_bytes`] and is not parsed.
    pub fn unparsed(&self) -> &[u8] {
        &self.rest
    }

    /// Waits until the process is gone. Fails if that takes longer than this.
    pub fn wait(&mut self, limit: Duration) -> Ending {
        let at = match self.has_ended {
            Some(at) => at,
            None => match self.ended.recv_timeout(limit) {
                Ok(at) => at,
                Err(_) => panic!("the daemon is still there after {limit:?}"),
            },
        };
        self.has_ended = Some(at);
        let status: ExitStatus = self.child.wait().unwrap();
        Ending {
            code: status.code(),
            at,
        }
    }

    /// Waits for the end, which has to be clean: nothing unread, nothing on stderr, this exit code.
    pub fn finish(mut self, code: i32) -> Ending {
        if self.output.is_some() {
            let unread = self.rest();
            assert!(unread.is_empty(), "messages were left unread: {unread:#?}");
        }
        let ending = self.wait(PATIENCE);
        assert_eq!(ending.code, Some(code), "the exit code");
        assert_eq!(self.stderr(), "", "stderr");
        self.is_finished = true;
        ending
    }

    /// Ends its input and waits for the end.
    pub fn leave(mut self) {
        self.end_input();
        self.finish(0);
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(PATIENCE);
        assert_eq!(self.stderr(), "", "stderr");
        self.is_finished = true;
    }

    /// What it wrote to stderr.
    pub fn stderr(&mut self) -> String {
        use std::io::{Read, Seek};
        let mut text = String::new();
        self.stderr.rewind().unwrap();
        self.stderr.read_to_string(&mut text).unwrap();
        text
    }

    /// The most memory that it ever had, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    fn last(&self) -> &[Value] {
        &self.heard[self.heard.len().saturating_sub(5)..]
    }

    fn read_line(&mut self) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=searched + end).collect();
                line.pop();
                return Some(line);
            }
            searched = self.rest.len();
            if !self.fill(64 * 1024) {
                let half = String::from_utf8_lossy(&self.rest);
                assert!(self.rest.is_empty(), "the output ends in half a line: {half}");
                return None;
            }
        }
    }

    /// Reads some bytes; false at the end of the output.
    fn fill(&mut self, limit: usize) -> bool {
        let output = self.output.as_ref().expect("the output is open");
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; limit.min(64 * 1024)];
        loop {
            match rustix::io::read(output, &mut buffer) {
                // A terminal's other side ends in this error.
                Ok(0) | Err(Errno::IO) => return false,
                Ok(count) => {
                    self.bytes += count;
                    self.rest.extend_from_slice(&buffer[..count]);
                    return true;
                }
                Err(Errno::AGAIN) => assert!(
                    wait_for(output, PollFlags::IN, deadline),
                    "the daemon says nothing more after {:#?}",
                    self.last()
                ),
                Err(error) => panic!("the output cannot be read: {error}"),
            }
        }
    }

    /// What holds of every message.
    fn check(&mut self, line: &[u8]) -> Value {
        assert!(line.len() <= MAX_LINE, "a line of {} bytes", line.len());
        let message: Value = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("not a JSON text: {error}: {}", String::from_utf8_lossy(line)));
        let single = message
            .as_array()
            .map_or_else(|| vec![&message], |batch| batch.iter().collect());
        for message in single {
            assert_eq!(message["jsonrpc"], "2.0", "{message}");
            assert!(
                message.get("method").is_some() || message.get("id").is_some(),
                "{message}"
            );
        }
        if let (Some(run), Some(seq)) = (message["params"]["runId"].as_str(), message["params"]["seq"].as_u64()) {
            let method = message["method"].as_str().unwrap();
            let is_first = method == "assistant/started";
            assert_eq!(
                is_first,
                !self.runs.contains_key(run),
                "`assistant/started` comes first: {message}"
            );
            let order = self
                .runs
                .entry(run.to_owned())
                .or_insert(Order { seq: 0, is_over: false });
            assert!(!order.is_over, "nothing comes after `assistant/completed`: {message}");
            assert!(seq > order.seq, "`seq` increases from {}: {message}", order.seq);
            order.seq = seq;
            order.is_over = method == "assistant/completed";
        }
        message
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            panic!("the test left its daemon running");
        }
    }
}

/// Tells when the process is gone. It stays a zombie until it is waited for, so that its id is not given to another.
pub fn end_of(pid: Pid) -> mpsc::Receiver<Instant> {
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
        let _ = sender.send(Instant::now());
    });
    ended
}

/// Whether the descriptor becomes ready before the deadline.
pub fn wait_for(fd: &impl AsFd, wanted: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), wanted)], Some(&left)) {
        Ok(count) => count > 0,
        Err(Errno::INTR) => true,
        Err(error) => panic!("the descriptor cannot be waited for: {error}"),
    }
}
