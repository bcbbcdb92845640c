//! The examples of README.md, protocol.md and docs/script.md, run as they are printed, against the real program.
//!
//! `<!-- runs: sh -->` before a fence runs it, and a `text` fence behind it is what it prints. `, needs: jq` names a
//! program that it takes. `<!-- exchange -->` before a `text` fence plays its `-->` lines to a daemon and compares its
//! `<--` lines, of which `{…}` stands for an object that was shown before. `<!-- settings -->` before a fence reads it as a config.toml. The examples of one document share a
//! folder. `UPDATE=1` writes down what was heard.

mod names;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::Duration;

use assistd::config::{Layer, parse_toml};
use tempfile::TempDir;

use names::Names;

/// Longer than any example takes, so that one that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(30);

/// The script that answers, also where an example names it.
const SCRIPT: &str = "tests/it/scripts/hello.toml";

/// What is done in Vim once an example was read: its command is used, and the buffer printed when the answer is there.
const IN_VIM: [&str; 4] = [
    "Ask hello",
    "while getline('$') !~# '\\.$' | sleep 20m | endwhile",
    "%print",
    "qa!",
];

/// How long the daemon is quiet when it has said all, where nobody knows yet what it should say.
const QUIET: Duration = Duration::from_millis(700);

#[test]
fn protocol_md_runs_as_printed() {
    check("protocol.md");
}

#[test]
fn readme_runs_as_printed() {
    check("README.md");
}

#[test]
fn script_md_runs_as_printed() {
    check("docs/script.md");
}

/// Only one test at a time reads and rewrites documents.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// Plays every example of a document.
fn check(name: &str) {
    let _turn = turn();
    let path = root().join(name);
    let old = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let is_update = std::env::var_os("UPDATE").is_some_and(|update| !update.is_empty());
    let place = Place::new();
    let mut new = String::with_capacity(old.len());
    let mut lines = old.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let _ = writeln!(new, "{line}");
        let Some(mark) = Mark::read(line) else {
            continue;
        };
        let example = fence(&mut lines, &format!("{name}:{}", index + 1));
        let at = format!("{name}:{}", index + 2);
        let heard = match &mark {
            Mark::Exchange => {
                let heard = place.exchange(&example.body, is_update, &at);
                write_fence(&mut new, &example, &heard);
                assert!(
                    is_update || by_run(&heard) == by_run(&example.body),
                    "{}",
                    difference(&at, &example.body, &heard)
                );
                continue;
            }
            Mark::Settings => {
                write_fence(&mut new, &example, &example.body);
                if let Err(problem) = parse_toml::<Layer>(Path::new("config.toml"), &example.body) {
                    panic!("{at}: these settings are wrong: {problem}");
                }
                continue;
            }
            Mark::Runs { language, needs } => {
                write_fence(&mut new, &example, &example.body);
                if let Some(missing) = needs.iter().find(|program| !is_installed(program)) {
                    let hint = "`make test` installs it where there is apt";
                    assert!(
                        std::env::var_os("CI").is_none(),
                        "{at}: `{missing}` is not installed; {hint}"
                    );
                    eprintln!("{at}: SKIPPED, since `{missing}` is not installed; {hint}");
                    continue;
                }
                place.run(language, &example.body, &at)
            }
        };
        if let Some(expected) = output_fence(&mut lines, &mut new) {
            write_fence(&mut new, &expected, &heard);
            assert!(
                is_update || heard == expected.body,
                "{}",
                difference(&at, &expected.body, &heard)
            );
        } else {
            assert!(
                !heard.trim().is_empty(),
                "{at}: expected the example to print something"
            );
        }
    }
    if is_update {
        std::fs::write(&path, new).unwrap();
    }
}

/// What a comment says of the fence behind it.
enum Mark {
    Runs { language: String, needs: Option<String> },
    Exchange,
    Settings,
}

impl Mark {
    fn read(line: &str) -> Option<Mark> {
        let comment = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        match comment {
            "exchange" => return Some(Mark::Exchange),
            "settings" => return Some(Mark::Settings),
            _ => {}
        }
        let runs = comment.strip_prefix("runs: ")?;
        let (language, needs) = match runs.split_once(", needs: ") {
            Some((language, program)) => (language, Some(program)),
            None => (runs, None),
        };
        Some(Mark::Runs {
            language: language.to_owned(),
            needs: needs.map(str::to_owned),
        })
    }
}

/// A fenced block: its first line, and what is in it, each line with its end.
struct Fence {
    head: String,
    body: String,
}

type Lines<'a> = std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'a>>>;

fn fence(lines: &mut Lines, at: &str) -> Fence {
    let (_, head) = lines
        .next()
        .unwrap_or_else(|| panic!("{at}: expected a fence behind the comment"));
    assert!(
        head.starts_with("```"),
        "{at}: expected a fence behind the comment, found `{head}`"
    );
    let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
    Fence {
        head: head.to_owned(),
        body: body.fold(String::new(), |body, line| body + line + "\n"),
    }
}

/// The `text` fence that follows with at most three lines of prose between, if one does.
fn output_fence(lines: &mut Lines, new: &mut String) -> Option<Fence> {
    let ahead: Vec<&str> = lines.clone().take(4).map(|(_, line)| line).collect();
    let place = ahead.iter().position(|line| *line == "```text")?;
    let is_prose = |line: &&str| !line.starts_with("```") && !line.starts_with("<!--") && !line.starts_with('#');
    if !ahead[..place].iter().all(is_prose) {
        return None;
    }
    for (_, line) in lines.by_ref().take(place) {
        let _ = writeln!(new, "{line}");
    }
    Some(fence(lines, "the output"))
}

/// The lines of an exchange, what follows one `-->` line sorted by run: the order within a run is promised, and the
/// messages of two runs mix as they come.
fn by_run(exchange: &str) -> Vec<Vec<&str>> {
    let mut turns: Vec<Vec<&str>> = Vec::new();
    for line in exchange.lines() {
        match turns.last_mut() {
            Some(turn) if !line.starts_with("--> ") => turn.push(line),
            _ => turns.push(vec![line]),
        }
    }
    let run = |line: &str| {
        line.split("\"runId\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next().map(str::to_owned))
    };
    turns
        .iter_mut()
        .for_each(|turn| turn[1..].sort_by_key(|line| run(line)));
    turns
}

/// Whether a document shows this line with `{…}` in place of one of its objects.
fn is_shortened(shown: &str, line: &str) -> bool {
    let ends = shown.split_once("{…}");
    ends.is_some_and(|(head, tail)| {
        line.strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(tail))
            .is_some_and(|object| object.starts_with('{') && object.ends_with('}'))
    })
}

fn write_fence(to: &mut String, fence: &Fence, body: &str) {
    let _ = write!(to, "{}\n{body}```\n", fence.head);
}

fn difference(at: &str, expected: &str, heard: &str) -> String {
    format!(
        "{at}: the example gives something else.\n--- printed in the document\n{expected}--- heard\n{heard}---\n\
         mend it, or run `UPDATE=1 cargo test --test it documents::` and read what it changed"
    )
}

/// A folder with nothing of whoever runs the tests in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tests/it/scripts")).unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        std::fs::copy(root().join(SCRIPT), folder.path().join(SCRIPT)).unwrap();
        Place { folder }
    }

    /// A program in this folder that finds the built assistd first, and no model but the script.
    fn command(&self, program: &str) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_assistd")).parent().unwrap().to_owned();
        let found = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(built).chain(std::env::split_paths(&found))).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path().join("home"))
            .env("ASSISTD_SCRIPT", self.folder.path().join(SCRIPT))
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb")
            .current_dir(self.folder.path());
        command
    }

    /// Runs an example and gives what it prints, with its ids named.
    fn run(&self, language: &str, code: &str, at: &str) -> String {
        let file = self.folder.path().join(format!("example.{language}"));
        std::fs::write(&file, code).unwrap();
        let mut command = match language {
            "sh" => self.command("sh"),
            "python" => self.command("python3"),
            "vim" => {
                let mut vim = self.command("vim");
                vim.args(["-N", "-u", "NONE", "-i", "NONE", "-n", "-es", "-S"]);
                vim
            }
            "elisp" => {
                let mut emacs = self.command("emacs");
                emacs.args(["-Q", "--batch", "-l"]);
                emacs
            }
            other => panic!("{at}: nothing here runs `{other}`"),
        };
        let child = command
            .arg(&file)
            .args(
                IN_VIM
                    .iter()
                    .filter(|_| language == "vim")
                    .flat_map(|command| ["-c", *command]),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{at}: `{language}` cannot be run: {error}"));
        let process = child.id();
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || done.send(child.wait_with_output()));
        let output = ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let pid = rustix::process::Pid::from_raw(process as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("{at}: the example has not ended within {} s", PATIENCE.as_secs())
        });
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{at}: the example ended with {}: {errors}",
            output.status
        );
        assert!(errors.is_empty(), "{at}: the example says on stderr: {errors}");
        let text = String::from_utf8(output.stdout).unwrap().replace('\r', "");
        let text = Names::default().named(&text);
        if text.is_empty() || text.ends_with('\n') {
            text
        } else {
            text + "\n"
        }
    }

    /// Plays the `-->` lines of an exchange, and gives them with the `<--` lines that were heard.
    fn exchange(&self, script: &str, is_update: bool, at: &str) -> String {
        let mut daemon = self
            .command("assistd")
            .args(["--ephemeral", "--script", "hello.toml"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = daemon.stdin.take().unwrap();
        let output = BufReader::new(daemon.stdout.take().unwrap());
        let (said, heard) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| said.send(line))
        });
        let mut names = Names::default();
        let mut played = String::new();
        let mut lines = script.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(sent) = line.strip_prefix("--> ") else {
                assert!(
                    line.starts_with("<-- "),
                    "{at}: expected `--> ` or `<-- `, found `{line}`"
                );
                continue;
            };
            writeln!(input, "{}", names.filled(sent)).unwrap();
            let _ = writeln!(played, "{line}");
            let expected: Vec<&str> = lines.clone().map_while(|line| line.strip_prefix("<-- ")).collect();
            let mut hear = |patience| {
                let named = names.named(&heard.recv_timeout(patience).ok()?);
                let shortened = expected.iter().find(|line| is_shortened(line, &named));
                let _ = writeln!(played, "<-- {}", shortened.copied().unwrap_or(&named));
                Some(())
            };
            if is_update {
                while hear(QUIET).is_some() {}
            } else {
                let is_whole = expected.iter().all(|_| hear(PATIENCE).is_some());
                assert!(is_whole, "{at}: expected another message behind\n{played}");
            }
        }
        // What is under way is finished or, where the script stalls, ended; nothing more is said of it here.
        let exit = "{\"jsonrpc\":\"2.0\",\"id\":\"last\",\"method\":\"shutdown\"}\n{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}\n";
        input.write_all(exit.as_bytes()).unwrap();
        assert!(
            daemon.wait().unwrap().success(),
            "{at}: the daemon did not leave as it should"
        );
        drop(heard);
        let _ = reader.join();
        played
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
